import FuzzSupport
import IngressKit
import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting

@testable import HTTPIngress
@testable import HTTPKit

/// What became of the bytes of one connection: what was answered, and what the chain was sent.
private struct Outcome: CustomStringConvertible {
    var answers = ByteBuffer()
    var messages: [String] = []

    init(_ pieces: [ByteBuffer]) throws {
        let bench = Bench()
        let node = try HTTPIngress.make(
            ["header-bytes-max": "1024", "header-fields-max": "8"],
            services: bench.services
        )
        let mount = Mount(node.site(bench.outlet), at: DeviceSite.paths, owner: "the node", metrics: TransportMetrics())
        let listener = try SharedListener(node.server.settings, for: mount, services: bench.services)
        try listener.add(mount)
        let connections = listener.connections
        let channel = EmbeddedChannel(loop: bench.eventLoop)
        try listener.initialize(channel)
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

    var description: String { "\(self.messages) and \(String(buffer: self.answers))" }

    /// The answers one by one, with one word in place of a last one that refuses what is no request.
    ///
    /// Which of its faults is found first depends on how the bytes come: whether it is malformed or too large. Boundaries
    /// between ranges are random.
    private var responses: [String] {
        let start = "HTTP/1.1 "
        let answers = String(buffer: self.answers).replacing(/windlass-[0-9a-z]{13}/, with: "windlass-")
        var responses = answers.split(separator: start, omittingEmptySubsequences: true).map { $0 }
        if let last = responses.last, Self.isLast(last),
            ["400 Bad Request\r\n", "431 Request Header Fields Too Large\r\n"].contains(where: last.hasPrefix)
        {
            responses[responses.count - 1] = Substring(Self.refused)
        }
        return responses.map(String.init)
    }

    private static let refused = "refused"
    private static let close = "Connection: close\r\n"

    /// Whether an answer says that none follows it.
    ///
    /// By `contains`, this would be that of Foundation, which is not linked here.
    private static func isLast(_ answer: some StringProtocol) -> Bool { answer.firstRange(of: Self.close) != nil }

    /// Whether this is what comes of bytes that come in pieces, if `whole` is what comes of them at once.
    ///
    /// A request that is refused for its head is refused before its body is there, if that comes later; then nothing else is
    /// answered, and what is wrong with the body is not found.
    func isLike(_ whole: Outcome) -> Bool {
        let (responses, expected) = (self.responses, whole.responses)
        if self.messages == whole.messages, responses == expected { return true }
        guard let last = responses.last, Self.isLast(last), responses.count <= expected.count else {
            return false
        }
        let alike = [last.replacing(Self.close, with: "", maxReplacements: 1), Self.refused]
        return whole.messages.starts(with: self.messages)
            && expected.starts(with: responses.dropLast())
            && alike.contains(expected[responses.count - 1])
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
        precondition(cut.isLike(whole), "in pieces of \(size): \(cut) in place of \(whole)")
    } catch {
        fatalError("\(error)")
    }
    return 0
}
