import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import CoAPIngress

@Suite("Messages over a real socket", .timeLimit(.minutes(5)))
struct ExchangeNodeTests {
    @Test("a ping is answered with a reset, so is a response that nobody asked for; in kind NON they are ignored")
    func pings() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            let reset = try await peer.ask(CoAPMessage(.confirmable, .empty, messageID: 9))
            #expect(reset == CoAPMessage(.reset, .empty, messageID: 9))
            let response = try await peer.ask(CoAPMessage(.confirmable, .content, messageID: 10))
            #expect(response == CoAPMessage(.reset, .empty, messageID: 10))
            try await peer.send(CoAPMessage(.nonConfirmable, .empty, messageID: 11))
            try await peer.send(CoAPMessage(.nonConfirmable, .content, messageID: 12))
            try await peer.send(CoAPMessage(.acknowledgement, .content, messageID: 13))
            try await peer.send(CoAPMessage(.reset, .empty, messageID: 14))
            #expect(try await peer.hasNothing())
        }
    }

    @Test("malformed messages are reset if confirmable and ignored if not; other versions are ignored")
    func malformed() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            for vector in try CodecTests.Vector.load("bad.json") {
                try await peer.send(vector.bytes)
                if vector.json["error"]?.text == "malformed", vector.json["kind"] == nil {
                    #expect(await peer.receive() == CoAPMessage(.reset, .empty, messageID: 1))
                }
            }
            #expect(try await peer.hasNothing())
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test("a repeated request gets the same answer and reaches the chain once")
    func repeated() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            let request = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: 5)
            let answers = [try await peer.ask(request), try await peer.ask(request), try await peer.ask(request)]
            #expect(Set(answers).count == 1 && answers[0].code == .created)
            #expect(node.outlet.sent.count == 1)
            // The same message ID of another peer is another message.
            let other = try await node.peer()
            #expect(try await other.ask(request).code == .created)
            #expect(node.outlet.sent.count == 2)
        }
    }

    @Test("a non-confirmable request gets a non-confirmable answer; repetitions are ignored")
    func nonConfirmable() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            let request = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", kind: .nonConfirmable, messageID: 5)
            let first = try await peer.ask(request)
            #expect(first.kind == .nonConfirmable && first.code == .created && first.token == request.token)
            try await peer.send(request)
            #expect(try await peer.hasNothing())
            let second = try await peer.ask(.post, "/api/v1/T1/telemetry", "{}", .nonConfirmable)
            #expect(second.messageID == first.messageID &+ 1)
            #expect(node.outlet.sent.count == 2)
        }
    }

    @Test("an answer that takes long comes in a message of its own, again and again until it is acknowledged")
    func separate() async throws {
        let gate = Gate()
        let attributes = ["piggyback-milliseconds": "20", "ack-timeout-milliseconds": "30"]
        let slow: @Sendable (Message) async -> Outcome = { _ in
            await gate.pass()
            return .completed(nil)
        }
        try await TestNode.run(attributes, answer: slow) { node in
            let peer = try await node.peer()
            let request = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: 5)
            #expect(try await peer.ask(request) == CoAPMessage(.acknowledgement, .empty, messageID: 5))
            // A repetition meanwhile is acknowledged again.
            #expect(try await peer.ask(request) == CoAPMessage(.acknowledgement, .empty, messageID: 5))
            gate.open()
            let answer = await peer.receive()
            #expect(answer.kind == .confirmable && answer.code == .created && answer.token == request.token)
            #expect(await peer.receive() == answer)
            #expect(await peer.receive() == answer)
            try await peer.acknowledge(answer)
            // More copies may have been sent before the acknowledgement was there, but none after it.
            #expect(try await peer.hasNothing(but: answer))
            #expect(try await peer.ask(request) == CoAPMessage(.acknowledgement, .empty, messageID: 5))
            #expect(node.outlet.sent.count == 1)
        }
    }

    @Test("requests beyond the limit are 5.03 with a time to wait; afterwards there is room again")
    func busy() async throws {
        let gate = Gate()
        let slow: @Sendable (Message) async -> Outcome = { _ in
            await gate.pass()
            return .completed(nil)
        }
        try await TestNode.run(["exchanges-max": "2"], answer: slow) { node in
            let peer = try await node.peer()
            for messageID in 1...2 as ClosedRange<UInt16> {
                try await peer.send(CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: messageID))
            }
            await gate.arrived(2)
            let third = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: 3)
            let refused = try await peer.ask(third)
            #expect(refused.code == .serviceUnavailable && refused.kind == .acknowledgement)
            #expect(refused.option(.maxAge)?.uint == 5)
            gate.open()
            #expect(await peer.receive().code == .created)
            #expect(await peer.receive().code == .created)
            #expect(try await peer.ask(third).code == .created)
        }
    }

    @Test("many requests at once are all answered, each with its own message ID and token")
    func many() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            let requests = (1...100 as ClosedRange<UInt16>).map {
                CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: $0, token: UInt64($0))
            }
            for request in requests { try await peer.send(request) }
            var answers: Set<CoAPMessage> = []
            for _ in requests { answers.insert(await peer.receive()) }
            #expect(
                answers
                    == Set(
                        requests.map {
                            CoAPMessage(.acknowledgement, .created, messageID: $0.messageID, token: $0.token)
                        }
                    )
            )
        }
    }

    @Test("a body in blocks reaches the chain as one", arguments: [0, 2, 6] as [UInt8])
    func block1(exponent: UInt8) async throws {
        let values = (0..<200).map { JSON.integer($0) }
        let body = (["values": .array(values)] as JSON).bytes
        try await TestNode.run { node in
            let peer = try await node.peer()
            let size = 16 << Int(exponent)
            var number: UInt32 = 0
            var rest = body
            while let part = rest.readSlice(length: min(size, rest.readableBytes)) {
                let block = Block(number: number, more: rest.readableBytes > 0, exponent: exponent)
                let answer = try await peer.ask(
                    .post,
                    "/api/v1/T1/telemetry",
                    part.text,
                    options: [block.option(.block1)]
                )
                #expect(answer.code == (block.more ? .continue : .created))
                #expect(answer.block1 == block)
                number += 1
                if !block.more { break }
            }
            #expect(node.outlet.sent.count == 1)
            #expect(node.outlet.sent.first?.message.data == .json(["values": .array(values)]))
        }
    }

    @Test("a gap in the blocks is 4.08, a body beyond the limit 4.13 with the limit, a wrong length 4.00")
    func block1Faults() async throws {
        try await TestNode.run(["body-bytes-max": "1024"]) { node in
            let peer = try await node.peer()
            func post(_ number: UInt32, more: Bool, _ count: Int, size1: UInt32? = nil) async throws -> CoAPMessage {
                var options = [Block(number: number, more: more, exponent: 5).option(.block1)]
                if let size1 { options.append(CoAPOption(.size1, uint: size1)) }
                let body = String(repeating: " ", count: count)
                return try await peer.ask(.post, "/api/v1/T1/telemetry", body, options: options)
            }
            #expect(try await post(1, more: true, 512).code == .requestEntityIncomplete)
            #expect(try await post(0, more: true, 100).code == .badRequest)
            #expect(try await post(0, more: true, 512, size1: 1024).code == .continue)
            let tooLarge = try await post(0, more: true, 512, size1: 1025)
            #expect(tooLarge.code == .requestEntityTooLarge && tooLarge.option(.size1)?.uint == 1024)
            #expect(try await post(0, more: true, 512).code == .continue)
            #expect(try await post(1, more: true, 512).code == .continue)
            #expect(try await post(2, more: false, 1).code == .requestEntityTooLarge)
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test("a body in one datagram may be as large as the limit and not one byte more")
    func bodyLimit() async throws {
        try await TestNode.run(["body-bytes-max": "1024"]) { node in
            let peer = try await node.peer()
            for (count, code) in [(1024, CoAPCode.created), (1025, .requestEntityTooLarge)] {
                let body = "{" + String(repeating: " ", count: count - 2) + "}"
                #expect(try await peer.ask(.post, "/api/v1/T1/telemetry", body).code == code)
            }
        }
    }

    @Test("blocks of an unknown device are not kept")
    func block1Unauthorized() async throws {
        try await TestNode.run { node in
            let options = [Block(number: 0, more: true, exponent: 0).option(.block1)]
            let body = String(repeating: " ", count: 16)
            let peer = try await node.peer()
            #expect(
                try await peer.ask(.post, "/api/v1/bad/telemetry", body, options: options).code == .unauthorized
            )
        }
    }
}
