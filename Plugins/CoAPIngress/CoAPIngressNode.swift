import IngressKit
import Logging
import NIOCore
import NIOPosix
public import NodeKit
import OTA

/// Serves devices over CoAP: telemetry, attributes, calls and packages.
///
/// It speaks ThingsBoard's device API over UDP: RFC 7252 with block-wise transfer (RFC 7959), observation (RFC 7641),
/// long tokens (RFC 8974), and protection against forged addresses (RFC 9175).
///
/// | Request | Message |
/// |---|---|
/// | POST `/api/v1/{token}/telemetry` | `POST_TELEMETRY_REQUEST` |
/// | POST `/api/v1/{token}/attributes` | `POST_ATTRIBUTES_REQUEST` |
/// | GET `/api/v1/{token}/attributes?clientKeys=a,b&sharedKeys=c` | `GET_ATTRIBUTES_REQUEST` |
/// | GET with Observe `/api/v1/{token}/attributes` | `GET_ATTRIBUTES_REQUEST`, then pushes of shared attributes |
/// | POST `/api/v1/{token}/rpc` | `TO_SERVER_RPC_REQUEST` |
/// | POST `/api/v1/{token}/rpc/{id}` | `TO_SERVER_RPC_RESPONSE` |
/// | GET with Observe `/api/v1/{token}/rpc` | none; calls of the device follow |
/// | POST `/api/v1/{token}/claim` | `CLAIM_REQUEST` |
/// | POST `/api/v1/provision` | `PROVISION_REQUEST` |
/// | GET `/api/v1/{token}/firmware`, `…/software` | `PACKAGE_INFO_REQUEST` |
/// | GET `/fw/{token}`, `/sw/{token}`, `/api/v1/{token}/firmware/chunk`, `…/software/chunk`, each with `title`, `version`, `size`, `chunk` | `PACKAGE_CHUNK_REQUEST` for each block |
public struct CoAPIngressNode: IngressNode {
    /// Everything the host, the chain checker, `windlass nodes` and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "ingress",
        summary: "Serves devices over CoAP: telemetry, attributes, calls and packages.",
        relations: [RelationDescriptor(.success, "A device asks or reports something.")],
        attributes: [
            .integer("port", default: 5683, in: 0...65535, summary: "UDP port; 0 takes any that is free."),
            .string("host", default: "0.0.0.0", summary: "Address to listen on, IPv4 or IPv6."),
        ] + CoAPSettings.attributes,
        variables: MessageKey.variables
    )

    /// Datagrams that one system call may read; for what is left, the socket is there again at once.
    ///
    /// Reading stops after one call: a second one would mostly find nothing, and costs as much as to receive a datagram.
    static let datagramsPerRead = 64
    /// Size of the socket's receive buffer that we ask for, in bytes; the system may allow less.
    static let receiveBufferBytes: ChannelOptions.Types.SocketOption.Value = 4 << 20
    /// Bytes that may wait to be sent; beyond them datagrams are dropped.
    static let sendQueueBytesMax = 4 << 20

    private let host: String
    private let port: Int
    private let settings: CoAPSettings
    private let authenticator: any DeviceAuthenticator
    private let sessions: DeviceSessions
    private let services: NodeServices

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.host = configuration.string("host")
        self.port = Int(configuration.integer("port"))
        self.settings = try CoAPSettings(configuration)
        self.authenticator = try services.require((any DeviceAuthenticator).self)
        self.sessions = try services.require(DeviceSessions.self)
        self.services = services
    }

    /// Serves until the task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        let eventLoop = self.services.eventLoopGroup.next()
        try await self.serve(outlet, by: try await self.makeHandler(outlet, on: eventLoop), on: eventLoop)
    }

    /// Serves, and lets go of everything at the end, also after an error.
    func serve(_ outlet: any Outlet, by handler: NIOLoopBound<CoAPHandler>, on eventLoop: any EventLoop) async throws {
        do {
            try await self.keepOpen(outlet, by: handler, on: eventLoop)
        } catch {
            try await eventLoop.submit { handler.value.stop() }.get()
            throw error
        }
        try await eventLoop.submit { handler.value.stop() }.get()
    }

    /// Opens the socket, and opens it again on the same port whenever it is closed although we did not ask for that.
    ///
    /// A datagram that cannot be sent, as to an address without a route, makes swift-nio close the socket. Observers and
    /// kept answers stay.
    private func keepOpen(
        _ outlet: any Outlet,
        by handler: NIOLoopBound<CoAPHandler>,
        on eventLoop: any EventLoop
    ) async throws {
        var port = self.port
        var isReady = false
        while !Task.isCancelled {
            let channel = try await self.bind(port, handler, on: eventLoop)
            port = channel.localAddress?.port ?? port
            if !isReady {
                isReady = true
                outlet.ready([Listener(scheme: "coap", host: channel.localAddress?.ipAddress ?? self.host, port: port)])
            }
            try await withTaskCancellationHandler {
                try await channel.closeFuture.get()
            } onCancel: {
                eventLoop.execute { handler.value.drain() }
            }
            guard !Task.isCancelled else { return }
            self.services.logger.warning("socket closed; opening it again", metadata: ["coap.port": "\(port)"])
        }
    }

    /// Makes what serves; `random` gives numbers from 0 up to 1.
    func makeHandler(
        _ outlet: any Outlet,
        on eventLoop: any EventLoop,
        random: @escaping @Sendable () -> Double = { .random(in: 0..<1) }
    ) async throws -> NIOLoopBound<CoAPHandler> {
        let responder = CoAPResponder(
            authenticator: self.authenticator,
            outlet: outlet,
            now: self.services.now,
            blockExponent: self.settings.blockExponent,
            bodyBytesMax: self.settings.assemblies.bodyBytesMax,
            observeMaxAge: self.settings.observers.maxAge
        )
        let metrics = TransportMetrics("coap", services: self.services)
        return try await eventLoop.submit { [settings, sessions, logger = self.services.logger] in
            let handler = CoAPHandler(
                settings: settings,
                eventLoop: eventLoop,
                responder: responder,
                sessions: sessions,
                metrics: metrics,
                logger: logger,
                random: random
            )
            return NIOLoopBound(handler, eventLoop: eventLoop)
        }.get()
    }

    private func bind(
        _ port: Int,
        _ handler: NIOLoopBound<CoAPHandler>,
        on eventLoop: any EventLoop
    ) async throws -> any Channel {
        // One byte more than allowed, to tell a datagram that is too long from one that just fits.
        let datagramBytes = self.settings.datagramBytesMax + 1
        let bootstrap = DatagramBootstrap(group: eventLoop)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.datagramVectorReadMessageCount, value: Self.datagramsPerRead)
            .channelOption(
                .recvAllocator,
                value: FixedSizeRecvByteBufferAllocator(capacity: Self.datagramsPerRead * datagramBytes)
            )
            .channelOption(.socketOption(.so_rcvbuf), value: Self.receiveBufferBytes)
            .channelOption(
                .writeBufferWaterMark,
                value: .init(low: Self.sendQueueBytesMax / 2, high: Self.sendQueueBytesMax)
            )
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(handler.value)
                }
            }
        let channel: any Channel
        do {
            channel = try await bootstrap.bind(host: self.host, port: port).get()
        } catch {
            throw NodeError(
                .unavailable,
                "cannot listen for CoAP on '\(self.host)' port \(port): \(error); is another program using it?",
                cause: error
            )
        }
        try await Self.ignoreGroups(channel)
        return channel
    }

    /// Has the system keep back what is sent to groups that some other program on this machine has joined.
    ///
    /// We are in none, but Linux gives it to any socket on the port unless told otherwise (man 7 ip, `IP_MULTICAST_ALL`).
    /// A device's resources are nobody else's business, so no request to a group is for us (RFC 7252 §8.1), and to answer
    /// one would be somebody's amplifier (§11.3).
    static func ignoreGroups(_ channel: any Channel) async throws {
        // A socket for both kinds has both options.
        try await channel.setOption(Self.ipv4Groups, value: 0).get()
        if channel.localAddress?.protocol == .inet6 { try await channel.setOption(Self.ipv6Groups, value: 0).get() }
    }

    /// `IP_MULTICAST_ALL` of Linux, which is not among what Swift sees of its headers.
    static let ipv4Groups = ChannelOptions.Types.SocketOption(level: .ip, name: .init(rawValue: 49))
    /// `IPV6_MULTICAST_ALL` of Linux.
    static let ipv6Groups = ChannelOptions.Types.SocketOption(level: .ipv6, name: .init(rawValue: 29))
}
