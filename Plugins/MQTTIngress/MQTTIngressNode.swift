import IngressKit
import NIOCore
import NIOPosix
public import NodeKit
import OTA

/// Takes in what devices send by MQTT 3.1, 3.1.1 and 5, and answers them.
///
/// Speaks ThingsBoard's device protocol: telemetry, attributes, remote calls, and the chunks of packages. A device names
/// itself by its access token as user name, by MQTT name and password, or by a certificate. See ``DeviceTopic`` for the topics.
///
/// | Relation  | When                                        |
/// |-----------|---------------------------------------------|
/// | `Success` | A device sent a message that makes sense.   |
public struct MQTTIngressNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "ingress",
        summary: "Takes in what devices send by MQTT 3.1.1 and 5, and answers them.",
        relations: [RelationDescriptor(.success, "A device sent a message that makes sense.")],
        attributes: [
            .integer(
                "port",
                default: 1883,
                in: 0...65_535,
                summary: "The TCP port to listen on; 0 takes any that is free."
            ),
            .string("host", default: "0.0.0.0", summary: "The address to listen on."),
            .integer("tls-port", in: 0...65_535, optional: true, summary: "The port to listen on for MQTT over TLS."),
            .integer(
                "websocket-port",
                in: 0...65_535,
                optional: true,
                summary: "The port to listen on for MQTT over WebSocket."
            ),
            .integer(
                "websocket-tls-port",
                in: 0...65_535,
                optional: true,
                summary: "The port to listen on for MQTT over WebSocket over TLS."
            ),
            .string("websocket-path", default: "/mqtt", summary: "The path of the WebSocket."),
        ] + TLSSettings.attributes + Limits.attributes + RateLimits.attributes,
        variables: MessageKey.variables
    )

    /// How long requests under way may take when the node stops.
    var shutdownGrace = Limits.shutdownGrace
    private let host: String
    private let endpoints: [Endpoint]
    private let tls: TLSSettings?
    private let limits: Limits
    private let rateLimits: RateLimits
    private let services: NodeServices
    private let authenticator: any DeviceAuthenticator
    private let packages: any OtaPackageService
    private let deviceSessions: DeviceSessions

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.host = configuration.string("host")
        self.endpoints = Endpoint.all(configuration)
        self.tls = try TLSSettings(configuration)
        if self.tls == nil, self.endpoints.contains(where: \.isTLS) {
            throw NodeError(
                "tls-settings",
                "tls-port and websocket-tls-port need tls-certificate-file and tls-private-key-file"
            )
        }
        self.limits = Limits(configuration)
        self.rateLimits = RateLimits(configuration)
        self.services = services
        self.authenticator = try services.require((any DeviceAuthenticator).self)
        self.packages = try services.require((any OtaPackageService).self)
        self.deviceSessions = try services.require(DeviceSessions.self)
    }

    /// Listens until cancelled; then requests under way get ``Limits/shutdownGrace`` to finish.
    public func run(_ outlet: any Outlet) async throws {
        let tls = try self.tls.map { try TLSContext($0, logger: self.services.logger) }
        let services = self.connectionServices(outlet)
        let servers = try await self.listen(services, tls)
        outlet.ready(servers.map(\.listener))
        let elapsing = self.watchKeptSessions(services)
        await withTaskCancellationHandler {
            await withTaskGroup(of: Void.self) { group in
                if let tls { group.addTask { await tls.watch(clock: self.services.clock) } }
                // Ends when a listener is closed: by cancellation, or by a failure of its socket, which ends all.
                group.addTask { for server in servers { try? await server.channel.closeFuture.get() } }
                await group.next()
                group.cancelAll()
            }
        } onCancel: {
            servers.first?.channel.close(promise: nil)
        }
        elapsing.cancel()
        services.connections.close { $0.shutDown() }
        let deadline = self.services.eventLoopGroup.next().scheduleTask(in: self.shutdownGrace) {
            services.connections.close { $0.abort() }
        }
        await services.connections.empty()
        deadline.cancel()
        services.kept.removeAll()
        if !Task.isCancelled { throw NodeError(.internalError, "a listener on '\(self.host)' was closed") }
    }

    func connectionServices(_ outlet: any Outlet) -> ConnectionServices {
        ConnectionServices(
            limits: self.limits,
            rateLimits: self.rateLimits,
            outlet: outlet,
            authenticator: self.authenticator,
            packages: self.packages,
            deviceSessions: self.deviceSessions,
            connections: Connections(countMax: self.limits.connectionsMax),
            metrics: TransportMetrics("mqtt", services: self.services),
            now: self.services.now,
            tasks: self.services.tasks,
            logger: self.services.logger
        )
    }

    /// Looks once a second which kept sessions have ended and which wills are due.
    private func watchKeptSessions(_ services: ConnectionServices) -> RepeatedTask {
        let eventLoop = self.services.eventLoopGroup.next()
        return eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in
            services.publishWills(of: services.kept.elapsed(now: eventLoop.now), on: eventLoop)
        }
    }

    // MARK: Listening

    private struct Server: Sendable {
        var channel: any Channel
        var listener: Listener
    }

    /// Opens all ports, or none.
    private func listen(_ services: ConnectionServices, _ tls: TLSContext?) async throws -> [Server] {
        var servers: [Server] = []
        do {
            for endpoint in self.endpoints { servers.append(try await self.listen(endpoint, services, tls)) }
        } catch {
            for server in servers { try? await server.channel.close().get() }
            throw error
        }
        let channels = servers.map(\.channel)
        for channel in channels {
            channel.closeFuture.whenComplete { _ in for other in channels { other.close(promise: nil) } }
        }
        return servers
    }

    private func listen(
        _ endpoint: Endpoint,
        _ services: ConnectionServices,
        _ tls: TLSContext?
    ) async throws -> Server {
        let bootstrap = ServerBootstrap(group: self.services.eventLoopGroup)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    // Out of file descriptors, accepting pauses instead of spinning.
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoffHandler())
                }
            }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            // Finds peers that are gone without a word where the keep alive is off.
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            // Most packets are small and most connections idle, and each keeps the buffer of its last read.
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 64, initial: 512, maximum: 65_536)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try endpoint.configure(channel, services: services, tls: tls)
                }
            }
        do {
            let channel = try await bootstrap.bind(host: self.host, port: endpoint.port).get()
            let address = channel.localAddress
            let listener = Listener(
                scheme: endpoint.scheme,
                host: address?.ipAddress ?? self.host,
                port: address?.port ?? endpoint.port
            )
            return Server(channel: channel, listener: listener)
        } catch {
            throw NodeError(
                .unavailable,
                "cannot listen on '\(self.host):\(endpoint.port)': \(error); choose another port or stop what uses it",
                cause: error
            )
        }
    }
}
