import NIOCore
import NIOEmbedded
import NIOPosix
import Synchronization
import Testing

@testable import windlass

@Suite("The CoAP client of the demo's device", .timeLimit(.minutes(5)))
struct CoAPClientTests {
    /// A client on a channel whose time is the test's, and what its one request gets.
    private static func asking(
        _ acknowledgementWait: TimeAmount
    ) async throws -> (NIOAsyncTestingChannel, EventLoopFuture<CoAPMessage>) {
        let channel = try await NIOAsyncTestingChannel { channel in
            try channel.pipeline.syncOperations.addHandler(CoAPClientHandler(acknowledgementWait: acknowledgementWait))
        }
        let answer = channel.eventLoop.makePromise(of: CoAPMessage.self)
        try await channel.writeAndFlush(CoAPClientHandler.Command.ask(.request(.get, path: ["a"]), answer))
        return (channel, answer.futureResult)
    }

    /// The messages that were sent since the last look.
    private static func sent(_ channel: NIOAsyncTestingChannel) async throws -> [CoAPMessage] {
        var messages: [CoAPMessage] = []
        while let bytes = try await channel.readOutbound(as: ByteBuffer.self) {
            messages.append(try #require(CoAPMessage(bytes)))
        }
        return messages
    }

    @Test("A request that is lost is sent again, as the same message", arguments: [0, 1, 4])
    func repeats(lostCount: Int) async throws {
        let (channel, answer) = try await Self.asking(.seconds(2))
        for repetition in 0..<lostCount {
            // Twice as long before each next time (RFC 7252 §4.2).
            await channel.testingEventLoop.advanceTime(by: .seconds(2 << Int64(repetition)))
        }
        let requests = try await Self.sent(channel)
        #expect(requests.count == lostCount + 1 && Set(requests.map(\.bytes)).count == 1)
        let request = try #require(requests.last)
        let content = CoAPMessage(kind: .acknowledgement, code: .content, id: request.id, token: request.token)
        let server = try SocketAddress(ipAddress: "127.0.0.1", port: 5683)
        try await channel.writeInbound(AddressedEnvelope(remoteAddress: server, data: content.bytes))
        #expect(try await answer.get().code == .content)
        // An answered request is not sent again.
        await channel.testingEventLoop.advanceTime(by: .seconds(100))
        #expect(try await Self.sent(channel).isEmpty)
        _ = try await channel.finish()
    }

    @Test("A server that never answers is given up after five requests")
    func givesUp() async throws {
        let (channel, answer) = try await Self.asking(.seconds(2))
        let isOver = Mutex(false)
        answer.whenComplete { _ in isOver.withLock { $0 = true } }
        await channel.testingEventLoop.advanceTime(by: .milliseconds(61_999))
        #expect(try await Self.sent(channel).count == 5)
        #expect(!isOver.withLock { $0 })
        await channel.testingEventLoop.advanceTime(by: .milliseconds(1))
        await #expect(throws: DemoError.self) { try await answer.get() }
        #expect(try await Self.sent(channel).isEmpty)
        _ = try await channel.finish()
    }

    @Test("A separate answer is taken after an empty acknowledgement, and acknowledged")
    func separate() async throws {
        let acknowledged = Mutex<[UInt16]>([])
        let server = try await FakeCoAPServer { message in
            if message.kind == .acknowledgement {
                acknowledged.withLock { $0.append(message.id) }
                return []
            }
            guard message.kind == .confirmable else { return [] }
            return [
                CoAPMessage(kind: .acknowledgement, code: .empty, id: message.id),
                CoAPMessage(kind: .confirmable, code: .content, id: 77, token: message.token),
            ]
        }
        let client = try await CoAPClient(server.endpoint, acknowledgementWait: .seconds(60))
        #expect(try await client.ask(.request(.get, path: ["a"])).id == 77)
        // The next exchange is answered after the acknowledgement of this one has come.
        _ = try await client.ask(.request(.get, path: ["b"]))
        #expect(acknowledged.withLock { $0.first } == 77)
        await client.close()
        await server.close()
    }

    @Test("An observed resource tells its states in order; none is lost between two looks")
    func observes() async throws {
        let server = try await FakeCoAPServer { message in
            guard message.kind == .confirmable else { return [] }
            return (0..<3).map { number in
                var state = CoAPMessage(
                    kind: number == 0 ? .acknowledgement : .nonConfirmable,
                    code: .content,
                    id: number == 0 ? message.id : 100 + UInt16(number),
                    token: message.token
                )
                state.options = [(CoAPMessage.Option.observe, [UInt8(number)])]
                return state
            }
        }
        let client = try await CoAPClient(server.endpoint, acknowledgementWait: .seconds(60))
        var states = [try await client.observe(.request(.get, path: ["a"]))]
        for _ in 0..<2 { states.append(try await client.receive(within: .seconds(60))) }
        #expect(states.map { $0.option(CoAPMessage.Option.observe) } == [[0], [1], [2]])
        await client.close()
        await server.close()
    }
}

/// A CoAP server that answers each datagram with what a closure makes of it.
private struct FakeCoAPServer {
    private let channel: any Channel

    init(_ answer: @escaping @Sendable (CoAPMessage) -> [CoAPMessage]) async throws {
        self.channel = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0)
            .get()
    }

    var endpoint: DemoEndpoint { DemoEndpoint(host: "127.0.0.1", port: self.channel.localAddress?.port ?? 0) }

    func close() async { try? await self.channel.close() }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        typealias OutboundOut = AddressedEnvelope<ByteBuffer>

        private let answer: @Sendable (CoAPMessage) -> [CoAPMessage]

        init(_ answer: @escaping @Sendable (CoAPMessage) -> [CoAPMessage]) { self.answer = answer }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let envelope = self.unwrapInboundIn(data)
            guard let message = CoAPMessage(envelope.data) else { return }
            for reply in self.answer(message) {
                let out = AddressedEnvelope(remoteAddress: envelope.remoteAddress, data: reply.bytes)
                context.writeAndFlush(self.wrapOutboundOut(out), promise: nil)
            }
        }
    }
}
