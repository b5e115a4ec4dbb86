import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NodeKit
import OTA

/// Devices over HTTP/1.1, with the device API of ThingsBoard and the headers of the requirement.
struct HTTPIngress: IngressNode {
    static let descriptor = NodeDescriptor(
        type: "ingress",
        summary: "Takes in requests of devices over HTTP and answers them with what the chain says.",
        relations: [RelationDescriptor(.success, "Every request of a device that proved who it is.")],
        attributes: [
            .integer(
                "port",
                default: 8080,
                in: 0...65_535,
                summary: "The TCP port to listen on; 0 takes any that is free."
            ),
            .string("host", default: "0.0.0.0", summary: "The address to listen on."),
        ] + HTTPLimits.attributes,
        variables: MessageKey.variables
    )

    /// How long requests under way may take when the node stops.
    var stopping = HTTPLimits.stopping
    private let host: String
    private let port: Int
    private let limits: HTTPLimits
    private let services: NodeServices
    private let authenticator: any DeviceAuthenticator
    private let sessions: DeviceSessions

    init(configuration: Configuration, services: NodeServices) throws {
        self.host = configuration.string("host")
        self.port = Int(configuration.integer("port"))
        self.limits = HTTPLimits(configuration)
        self.services = services
        self.authenticator = try services.require((any DeviceAuthenticator).self)
        self.sessions = try services.require(DeviceSessions.self)
    }

    func run(_ outlet: any Outlet) async throws {
        let connections = self.connections()
        let shared = self.shared(outlet, connections)
        let listener = try await self.listen(shared)
        if let address = listener.localAddress, let port = address.port {
            outlet.ready([Listener(scheme: "http", host: address.ipAddress ?? self.host, port: port)])
        }
        await withTaskCancellationHandler {
            // Ends when the task is cancelled or the listener fails; either way the channel is closed.
            try? await listener.closeFuture.get()
        } onCancel: {
            listener.close(promise: nil)
        }
        await connections.stop(within: self.stopping, on: listener.eventLoop)
        guard Task.isCancelled else {
            throw NodeError("listener-closed", "the listener on '\(self.host):\(self.port)' was closed by the system")
        }
    }

    /// The list of connections, empty.
    func connections() -> Connections { Connections(limits: self.limits, logger: self.services.logger) }

    /// What all connections share.
    func shared(_ outlet: any Outlet, _ connections: Connections) -> HTTPShared {
        HTTPShared(
            limits: self.limits,
            api: DeviceAPI(authenticator: self.authenticator, outlet: outlet, now: self.services.now),
            connections: connections,
            quota: LongPollQuota(total: self.limits.longPolls, perDevice: self.limits.longPollsPerDevice),
            sessions: self.sessions,
            now: self.services.now
        )
    }

    private func listen(_ shared: HTTPShared) async throws -> any Channel {
        let bootstrap = ServerBootstrap(group: self.services.eventLoopGroup)
            .serverChannelOption(.backlog, value: HTTPLimits.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.autoRead, value: false)
            // One read for each turn of the loop, so that a connection that sends a lot waits for the others.
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 512, initial: 2048, maximum: HTTPLimits.readBytes)
            )
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try Self.initialize(channel, shared) }
            }
        do {
            return try await bootstrap.bind(host: self.host, port: self.port).get()
        } catch {
            throw NodeError(
                "cannot-listen",
                "could not listen on '\(self.host):\(self.port)', \(error); choose another host or port",
                cause: error
            )
        }
    }

    /// Makes a new connection one of the listener's.
    static func initialize(_ channel: any Channel, _ shared: HTTPShared) throws {
        let connection = HTTPConnection(shared: shared, eventLoop: channel.eventLoop)
        let bound = NIOLoopBound(connection, eventLoop: channel.eventLoop)
        let isAdmitted = shared.connections.admit(channel) {
            channel.eventLoop.execute { bound.value.stop() }
        }
        guard isAdmitted else {
            try channel.pipeline.syncOperations.addHandler(BusyHandler())
            return
        }
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = shared.limits.headerBytes
        limits.maxHeaderListSize = shared.limits.headerBytes
        limits.maxHeaderFieldCount = shared.limits.headerFields
        let decoder = ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: limits))
        try channel.pipeline.syncOperations.addHandlers([decoder, connection])
    }
}

/// Tells a connection that is one too many so, and closes it.
private final class BusyHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    func channelActive(context: ChannelHandlerContext) {
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(staticString: ResponseEncoder.busy)), promise: written)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
