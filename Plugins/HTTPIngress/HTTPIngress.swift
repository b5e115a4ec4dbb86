import IngressKit
import Logging
import NIOCore
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
            .integer(
                "tls-port",
                in: 0...65_535,
                optional: true,
                summary: "The TCP port to listen on for HTTP over TLS, with the tls- files; 0 takes any that is free."
            ),
            .string("host", default: "0.0.0.0", summary: "The address to listen on, IPv4 or IPv6; '::' for both."),
        ] + TLSSettings.attributes + HTTPLimits.attributes + RateLimits.attributes,
        variables: MessageKey.variables
    )

    /// How long requests under way may take when the node stops.
    var stopping = HTTPLimits.stopping
    /// How many bytes are read from a connection at once.
    var receiving: any RecvByteBufferAllocator = AdaptiveRecvByteBufferAllocator(
        minimum: 512,
        initial: 2048,
        maximum: HTTPLimits.readBytes
    )
    /// Whether a device still exists whose credentials no longer count.
    var exists: @Sendable (DeviceId) async throws -> Bool = { _ in true }
    /// The requests that wait for news.
    let quota: LongPollQuota
    private let host: String
    private let port: Int
    private let tls: (port: Int, settings: TLSSettings)?
    private let limits: HTTPLimits
    private let rates: RateLimits
    private let services: NodeServices
    private let authenticator: any DeviceAuthenticator
    private let sessions: DeviceSessions

    init(configuration: Configuration, services: NodeServices) throws {
        self.host = configuration.string("host")
        self.port = Int(configuration.integer("port"))
        let settings = try TLSSettings(configuration)
        self.tls = try configuration.integerIfPresent("tls-port").map { port in
            guard let settings else {
                throw NodeError("tls-settings", "tls-port needs tls-certificate-file and tls-private-key-file")
            }
            return (Int(port), settings)
        }
        self.limits = HTTPLimits(configuration)
        self.quota = LongPollQuota(total: self.limits.longPolls, perDevice: self.limits.longPollsPerDevice)
        self.rates = RateLimits(configuration)
        self.services = services
        self.authenticator = try services.require((any DeviceAuthenticator).self)
        self.sessions = try services.require(DeviceSessions.self)
        if let devices = try? services.require((any DeviceService).self) {
            self.exists = { try await devices.findDeviceById($0) != nil }
        }
    }

    func run(_ outlet: any Outlet) async throws {
        let tls = try self.tls.map { tls in
            let logger = self.services.logger
            return (tls.port, try TLSContext(tls.settings, applicationProtocols: ["http/1.1"], logger: logger))
        }
        let connections = self.connections()
        let listeners = try await self.listen(tls, self.shared(outlet, connections))
        outlet.ready(listeners.compactMap(\.address))
        await withTaskCancellationHandler {
            await withTaskGroup { group in
                if let (_, context) = tls { group.addTask { await context.watch(clock: self.services.clock) } }
                // Ends when the task is cancelled or a listener fails; either way the channels are closed.
                for listener in listeners { try? await listener.channel.closeFuture.get() }
                group.cancelAll()
            }
        } onCancel: {
            listeners.first?.channel.close(promise: nil)
        }
        await connections.stop(within: self.stopping, on: self.services.eventLoopGroup.next())
        guard Task.isCancelled else {
            throw NodeError("listener-closed", "a listener on '\(self.host)' was closed by the system")
        }
    }

    /// The list of connections, empty.
    func connections() -> Connections {
        Connections(limits: self.limits, rates: self.rates, logger: self.services.logger)
    }

    /// What all connections share.
    func shared(_ outlet: any Outlet, _ connections: Connections) -> HTTPShared {
        HTTPShared(
            limits: self.limits,
            api: DeviceAPI(
                authenticator: self.authenticator,
                exists: self.exists,
                links: try? self.services.require(DownloadLinks.self),
                requests: RateLimiter(perSecond: self.rates.deviceRequestsPerSecondMax),
                outlet: outlet,
                now: self.services.now
            ),
            connections: connections,
            quota: self.quota,
            sessions: self.sessions,
            metrics: TransportMetrics("http", services: self.services),
            now: self.services.now
        )
    }

    /// An open listener, and where it is.
    private struct Open {
        var channel: any Channel
        var address: Listener?
    }

    /// Opens all listeners or none; when one closes, so do the others.
    private func listen(_ tls: (Int, TLSContext)?, _ shared: HTTPShared) async throws -> [Open] {
        let plain = try await self.listen("http", self.port, nil, shared)
        guard let (port, context) = tls else { return [plain] }
        let secure: Open
        do {
            secure = try await self.listen("https", port, context, shared)
        } catch {
            try? await plain.channel.close()
            throw error
        }
        for (one, other) in [(plain, secure), (secure, plain)] {
            let channel = other.channel
            one.channel.closeFuture.whenComplete { _ in channel.close(promise: nil) }
        }
        return [plain, secure]
    }

    private func listen(_ scheme: String, _ port: Int, _ tls: TLSContext?, _ shared: HTTPShared) async throws -> Open {
        let bootstrap = ServerBootstrap(group: self.services.eventLoopGroup)
            .serverChannelOption(.backlog, value: HTTPLimits.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.autoRead, value: false)
            // One read for each turn of the loop, so that a connection that sends a lot waits for the others.
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.recvAllocator, value: self.receiving)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try Self.initialize(channel, shared, tls: tls) }
            }
        do {
            let channel = try await bootstrap.bind(host: self.host, port: port).get()
            let address = channel.localAddress
            return Open(
                channel: channel,
                address: address?.port.map { Listener(scheme: scheme, host: address?.ipAddress ?? self.host, port: $0) }
            )
        } catch {
            throw NodeError(
                "cannot-listen",
                "could not listen on '\(self.host):\(port)', \(error); choose another host or port",
                cause: error
            )
        }
    }

    /// Makes a new connection one of the node's, over TLS if there is something to shake hands with.
    static func initialize(_ channel: any Channel, _ shared: HTTPShared, tls: TLSContext? = nil) throws {
        let connection = HTTPConnection(shared: shared, eventLoop: channel.eventLoop, isSecure: tls != nil)
        let bound = NIOLoopBound(connection, eventLoop: channel.eventLoop)
        let pipeline = channel.pipeline.syncOperations
        let admission = shared.connections.admit(channel) {
            channel.eventLoop.execute { bound.value.stop() }
        }
        guard admission == .admitted else {
            shared.metrics.refusedConnections.add()
            // Over TLS an answer would cost a handshake, of which there may be too many already.
            let answer = admission == .tooFrequent ? ResponseEncoder.tooFrequent : ResponseEncoder.busy
            return try pipeline.addHandler(RefusingHandler(answer: tls == nil ? answer : nil))
        }
        shared.metrics.opened()
        channel.closeFuture.whenComplete { _ in shared.metrics.closed() }
        if let tls { try pipeline.addHandler(tls.handler()) }
        try pipeline.addHandler(connection)
    }
}

/// Tells a connection that is one too many so, and closes it.
private final class RefusingHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let answer: StaticString?

    /// Sends an answer first, if there is one.
    init(answer: StaticString?) { self.answer = answer }

    func channelActive(context: ChannelHandlerContext) {
        guard let answer else { return context.close(promise: nil) }
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(staticString: answer)), promise: written)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
