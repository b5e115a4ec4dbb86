import FuzzSupport
import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting

@testable import HTTPIngress

/// What became of the bytes of one connection: what was answered, and what the chain was sent.
private struct Outcome: Equatable {
    var answers = ByteBuffer()
    var messages: [String] = []

    init(_ pieces: [ByteBuffer]) throws {
        let bench = Bench()
        let node = try HTTPIngress.make(
            ["header-bytes-max": "1024", "header-fields-max": "8"],
            services: bench.services
        )
        let connections = node.connections()
        let channel = EmbeddedChannel(loop: bench.eventLoop)
        try HTTPIngress.initialize(channel, node.shared(bench.outlet, connections))
        channel.connect(to: try SocketAddress(unixDomainSocketPath: "/client"), promise: nil)
        for piece in pieces {
            _ = try? channel.writeInbound(piece)
            bench.eventLoop.run()
        }
        if channel.isActive { channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
        bench.eventLoop.run()
        _ = try? channel.finish(acceptAlreadyClosed: true)
        bench.eventLoop.run()
        while let bytes = try channel.readOutbound(as: ByteBuffer.self) { self.answers.writeImmutableBuffer(bytes) }
        self.messages = bench.outlet.sent.map { message, _ in
            "\(message.type) from \(message.originator.name): \(message.metadata) \(message.data)"
        }
        precondition(connections.count == 0, "the connection is still counted")
        precondition(connections.bufferedBytes == 0, "\(connections.bufferedBytes) bytes are still counted")
        precondition(bench.listenersCount == 0, "someone still listens")
    }

    /// The answers, with one word in place of a last one that refuses what is no request.
    ///
    /// Which of its faults is found first depends on how the bytes come: whether it is malformed or too large.
    var answersBeforeRefusal: String {
        let text = String(buffer: self.answers)
        for status in ["400 Bad Request", "431 Request Header Fields Too Large"] {
            let parts = text.split(separator: "HTTP/1.1 \(status)\r\n", omittingEmptySubsequences: false)
            guard parts.count > 1, let last = parts.last, !last.contains("HTTP/1.1 "),
                last.contains("Connection: close\r\n")
            else { continue }
            return text.dropLast(last.count + "HTTP/1.1 \(status)\r\n".count) + "refused"
        }
        return text
    }
}

/// Sends the bytes to a connection at once and in pieces: what is answered does not depend on how they come, and nothing
/// of the connection is left behind.
@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    var input = FuzzInput(start, count)
    let size = 1 + Int(input.byte() % 32)
    do {
        let whole = try Outcome([input.bytes])
        let cut = try Outcome(input.bytes.pieces(of: size))
        precondition(
            whole.messages == cut.messages,
            "in pieces of \(size): \(cut.messages) in place of \(whole.messages)"
        )
        precondition(
            whole.answersBeforeRefusal == cut.answersBeforeRefusal,
            "in pieces of \(size): \(String(buffer: cut.answers)) in place of \(String(buffer: whole.answers))"
        )
    } catch {
        fatalError("\(error)")
    }
    return 0
}
