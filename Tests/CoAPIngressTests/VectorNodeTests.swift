import NIOCore
import NodeKit
import Testing

@testable import CoAPIngress

@Suite("Requests byte for byte", .timeLimit(.minutes(5)))
struct VectorNodeTests {
    private static let kinds = ["ACK": CoAPMessage.Kind.acknowledgement, "NON": .nonConfirmable, "RST": .reset]

    @Test(
        "every message type and option, good and bad, is answered as its RFC says",
        arguments: try CodecTests.Vector.load("requests.json")
    )
    func answers(vector: CodecTests.Vector) async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            try await peer.send(vector.bytes)
            guard let kind = vector.json["answer"]?.text else {
                #expect(try await peer.hasNothing())
                return
            }
            let answer = await peer.receive()
            #expect(answer.kind == Self.kinds[kind])
            #expect(answer.code.description == vector.json["code"]?.text)
            if answer.kind != .nonConfirmable { #expect(answer.messageID == 0x1234) }
            if answer.code != .empty {
                let request = try CoAPMessage(reading: vector.bytes)
                #expect(answer.token == request.token)
            } else {
                #expect(answer.token == .empty && answer.options.isEmpty && answer.payload.readableBytes == 0)
            }
            #expect(Int64(answer.sequence) == vector.json["observe"]?.integer)
            for (name, number) in [
                ("block1", CoAPOption.Number.block1), ("block2", .block2), ("size1", .size1), ("size2", .size2),
            ] {
                guard let expected = vector.json[name]?.integer else { continue }
                #expect(answer.option(number)?.uint == UInt32(expected))
            }
            #expect(try await peer.hasNothing())
        }
    }
}

extension Int64 {
    fileprivate init?(_ number: UInt32?) {
        guard let number else { return nil }
        self.init(number)
    }
}
