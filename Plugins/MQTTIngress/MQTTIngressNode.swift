import NIOCore
import NIOPosix
public import NodeKit
import OTA

/// Takes in what devices send by MQTT 3.1, 3.1.1 and 5, and answers them.
///
/// Speaks ThingsBoard's device protocol: telemetry, attributes, remote calls, and the chunks of packages. A device names
/// itself by its access token as user name. See ``DeviceTopic`` for the topics.
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
        ] + Limits.attributes,
        variables: MessageKey.variables
    )

    /// How long requests under way may take when the node stops.
    var shutdownGrace = Limits.shutdownGrace
    private let port: Int
    private let host: String
    private let limits: Limits
    private let services: NodeServices
    private let authenticator: any DeviceAuthenticator
    private let packages: any OtaPackageService
    private let deviceSessions: DeviceSessions

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.port = Int(configuration.integer("port"))
        self.host = configuration.string("host")
        self.limits = Limits(configuration)
        self.services = services
        self.authenticator = try services.require((any DeviceAuthenticator).self)
        self.packages = try services.require((any OtaPackageService).self)
        self.deviceSessions = try services.require(DeviceSessions.self)
    }

    /// Listens until cancelled; then requests under way get ``Limits/shutdownGrace`` to finish.
    public func run(_ outlet: any Outlet) async throws {
        let connections = Connections(countMax: self.limits.connectionsMax)
        let server = try await self.listen(self.connectionServices(outlet, connections))
        if let address = server.localAddress, let port = address.port {
            outlet.ready([Listener(scheme: "mqtt", host: address.ipAddress ?? self.host, port: port)])
        }
        await withTaskCancellationHandler {
            // Ends when the listener is closed: by cancellation, or by a failure of the socket.
            try? await server.closeFuture.get()
        } onCancel: {
            server.close(promise: nil)
        }
        connections.close { $0.shutDown() }
        let deadline = self.services.eventLoopGroup.next().scheduleTask(in: self.shutdownGrace) {
            connections.close { $0.abort() }
        }
        await connections.empty()
        deadline.cancel()
        if !Task.isCancelled { throw NodeError(.internalError, "the listener on port \(self.port) was closed") }
    }

    func connectionServices(_ outlet: any Outlet, _ connections: Connections) -> ConnectionServices {
        var executors: [ObjectIdentifier: EventLoopTaskExecutor] = [:]
        for eventLoop in self.services.eventLoopGroup.makeIterator() {
            executors[ObjectIdentifier(eventLoop)] = EventLoopTaskExecutor(eventLoop)
        }
        return ConnectionServices(
            limits: self.limits,
            outlet: outlet,
            authenticator: self.authenticator,
            packages: self.packages,
            deviceSessions: self.deviceSessions,
            connections: connections,
            now: self.services.now,
            logger: self.services.logger,
            executors: executors
        )
    }

    private func listen(_ services: ConnectionServices) async throws -> any Channel {
        let limits = self.limits
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
            // Most packets are small, and most connections idle.
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 512, initial: 1024, maximum: 65_536)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try Self.configure(channel, services: services, limits: limits)
                }
            }
        do {
            return try await bootstrap.bind(host: self.host, port: self.port).get()
        } catch {
            throw NodeError(
                .unavailable,
                "cannot listen on '\(self.host):\(self.port)': \(error); choose another port or stop what uses it",
                cause: error
            )
        }
    }

    static func configure(_ channel: any Channel, services: ConnectionServices, limits: Limits) throws {
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(ByteToMessageHandler(PacketDecoder(packetBytesMax: limits.packetBytesMax)))
        try pipeline.addHandler(ConnectionHandler(services: services))
    }
}
