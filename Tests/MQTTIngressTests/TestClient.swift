import NIOCore
import NIOPosix
import NIOSSL
import NodeKit

@testable import MQTTIngress

/// A client that sends what it is told and hands over what it gets.
final class TestClient {
    let channel: any Channel
    let version: ProtocolVersion
    private var packets: AsyncStream<Packet>.AsyncIterator
    private var lastPacketId: UInt16 = 0

    /// - Parameters:
    ///   - port: The server's, on this machine.
    ///   - host: The server's address.
    ///   - version: How packets are read and written.
    ///   - reads: Whether bytes are taken from the socket before ``startReading()``.
    ///   - tls: How TLS is spoken, if it is.
    /// - Throws: What NIO throws if nobody listens.
    init(
        port: Int,
        host: String = "127.0.0.1",
        version: ProtocolVersion,
        reads: Bool = true,
        tls: NIOSSLContext? = nil
    ) async throws {
        let (stream, continuation) = AsyncStream<Packet>.makeStream()
        self.version = version
        self.packets = stream.makeAsyncIterator()
        self.channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.autoRead, value: reads)
            .channelOption(.socketOption(.so_rcvbuf), value: reads ? 1 << 20 : 1 << 14)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        let handler = try NIOSSLClientHandler(context: tls, serverHostname: "localhost")
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    let decoder = ByteToMessageHandler(PacketDecoder(packetBytesMax: .max, version: version))
                    try channel.pipeline.syncOperations.addHandlers(decoder, Collector(continuation))
                }
            }
            .connect(host: host, port: port)
            .get()
    }

    deinit { self.channel.close(promise: nil) }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = Packet
        let continuation: AsyncStream<Packet>.Continuation
        init(_ continuation: AsyncStream<Packet>.Continuation) { self.continuation = continuation }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            self.continuation.yield(Self.unwrapInboundIn(data))
        }
        func channelInactive(context: ChannelHandlerContext) { self.continuation.finish() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    func startReading() async throws { try await self.channel.setOption(.autoRead, value: true).get() }

    func send(_ packets: Packet...) { self.send(packets) }

    func send(_ packets: [Packet]) {
        var bytes = ByteBuffer()
        for packet in packets { packet.write(into: &bytes, version: self.version) }
        self.channel.writeAndFlush(bytes, promise: nil)
    }

    func send(bytes: [UInt8]) { self.channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }

    /// The next packet; an error if the server closed the connection.
    func next() async throws -> Packet {
        guard let packet = await self.packets.next(isolation: #isolation) else {
            throw NodeError(.unavailable, "the server closed the connection")
        }
        return packet
    }

    /// The next packet, which must acknowledge: its identifier and its reason.
    func acknowledgement() async throws -> (packetId: UInt16, reason: UInt8) {
        switch try await self.next() {
        case .puback(let packet), .pubrec(let packet): (packet.packetId, packet.reason.rawValue)
        case let packet: throw NodeError(.internalError, "\(packet) came in place of an acknowledgement")
        }
    }

    /// The packets until the server closes the connection.
    func rest() async -> [Packet] {
        var rest: [Packet] = []
        while let packet = await self.packets.next(isolation: #isolation) { rest.append(packet) }
        return rest
    }

    /// Publishes, and returns the packet identifier.
    @discardableResult
    func publish(_ topic: String, _ payload: String = "", qos: QoS = .atLeastOnce) -> UInt16 {
        self.lastPacketId += 1
        self.send(
            .publish(
                PublishPacket(
                    qos: qos,
                    topic: topic,
                    packetId: qos == .atMostOnce ? nil : self.lastPacketId,
                    payload: ByteBuffer(string: payload)
                )
            )
        )
        return self.lastPacketId
    }

    func subscribe(_ filter: String, _ qos: QoS = .atLeastOnce) async throws {
        self.send(.subscribe(SubscribePacket(packetId: 1000, subscriptions: [.init(filter: filter, qos: qos)])))
        _ = try await self.next()
    }

    /// The next packet, which must be PUBLISH; it is acknowledged if it wants to be.
    func message() async throws -> (topic: String, payload: ByteBuffer) {
        guard case .publish(let packet) = try await self.next() else {
            throw NodeError(.internalError, "another packet came than PUBLISH")
        }
        if let packetId = packet.packetId { self.send(.puback(AcknowledgementPacket(packetId: packetId))) }
        return (packet.topic, packet.payload)
    }

    /// The next packet, which must be PUBLISH, with its payload as text.
    func text() async throws -> String {
        let message = try await self.message()
        return "\(message.topic) \(String(buffer: message.payload))"
    }
}
