import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import windlass

@Suite("The CoAP client of the demo's device", .timeLimit(.minutes(1)))
struct CoAPClientTests {
    @Test("A request that is lost is sent again, as the same message", arguments: [0, 1, 4])
    func repeats(lostCount: Int) async throws {
        let seen = Mutex<[UInt16]>([])
        let server = try await FakeCoAPServer { request in
            let count = seen.withLock { seen in
                seen.append(request.id)
                return seen.count
            }
            guard count > lostCount else { return [] }
            return [CoAPMessage(kind: .acknowledgement, code: .content, id: request.id, token: request.token)]
        }
        let client = try await CoAPClient(server.endpoint, acknowledgementWait: .milliseconds(5))
        #expect(try await client.ask(.request(.get, path: ["a"])).code == .content)
        let ids = seen.withLock { $0 }
        #expect(ids.count == lostCount + 1 && Set(ids).count == 1)
        await client.close()
        await server.close()
    }

    @Test("A server that never answers is given up after five requests")
    func givesUp() async throws {
        let count = Mutex(0)
        let server = try await FakeCoAPServer { _ in
            count.withLock { $0 += 1 }
            return []
        }
        let client = try await CoAPClient(server.endpoint, acknowledgementWait: .milliseconds(2))
        await #expect(throws: DemoError.self) { try await client.ask(.request(.get, path: ["a"])) }
        #expect(count.withLock { $0 } == 5)
        await client.close()
        await server.close()
    }

    @Test("A separate answer is taken after an empty acknowledgement, and acknowledged")
    func separate() async throws {
        let acknowledged = Mutex<[UInt16]>([])
        let server = try await FakeCoAPServer { message in
            if message.kind == .acknowledgement {
                acknowledged.withLock { $0.append(message.id) }
                return []
            }
            return [
                CoAPMessage(kind: .acknowledgement, code: .empty, id: message.id),
                CoAPMessage(kind: .confirmable, code: .content, id: 77, token: message.token),
            ]
        }
        let client = try await CoAPClient(server.endpoint, acknowledgementWait: .milliseconds(50))
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
        let client = try await CoAPClient(server.endpoint)
        var states = [try await client.observe(.request(.get, path: ["a"]))]
        for _ in 0..<2 { states.append(try await client.receive(within: .seconds(20))) }
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
