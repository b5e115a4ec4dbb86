import IngressKit
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import NodeKit
import Synchronization
import Waiting

/// The ports that one or several nodes listen on together, and what all connections there share.
final class SharedListener: Sendable {
    private struct State {
        var mounts: [Mount] = []
        var open: [Open] = []
        /// Set with the last mount gone, or a port closed by the system: nothing is mounted any more.
        var isClosing = false
        var loops: [ObjectIdentifier: NIOLoopBound<LoopShare>] = [:]
    }

    /// An open port, and where it is.
    struct Open {
        var channel: any Channel
        var address: Listener?
    }

    let settings: HTTPServer.Settings
    let connections: Connections
    /// The site that it was opened for: counts what belongs to no site, such as connections and requests that cannot be read.
    let first: Mount
    let now: @Sendable () -> Timestamp
    /// The server's side of TLS; `nil` if all is plain.
    let tls: TLSContext?
    private let state = Mutex(State())

    /// Prepares; opens nothing.
    ///
    /// - Parameters:
    ///   - settings: What the operator says.
    ///   - first: The site that it is opened for.
    ///   - services: Those of the site's node.
    /// - Throws: ``NodeError`` with code `tls-files` if the files of TLS cannot be used.
    init(_ settings: HTTPServer.Settings, for first: Mount, services: NodeServices) throws {
        self.settings = settings
        self.tls = try settings.tls.map {
            try TLSContext($0.settings, applicationProtocols: ["http/1.1"], logger: services.logger)
        }
        self.connections = Connections(
            limits: settings.limits,
            connectionsPerSecondMax: settings.connectionsPerSecondMax,
            logger: services.logger
        )
        self.first = first
        self.now = services.now
    }

    /// The address, with the port that is really listened on.
    var place: String {
        let port = self.addresses.first?.port ?? self.settings.port
        return "\(self.settings.host):\(port)"
    }

    // MARK: Sites

    /// Where it listens.
    var addresses: [Listener] { self.state.withLock { $0.open.compactMap(\.address) } }

    /// Adds a site; its paths are served when this returns.
    ///
    /// - Returns: `false` if the listener is closing.
    /// - Throws: ``NodeError`` with code `listener-settings` if the site wants another listener than this at the same
    ///   address, and `route-conflict` if another has one of its paths.
    func mount(_ mount: Mount, _ settings: HTTPServer.Settings) async throws -> Bool {
        guard !self.state.withLock(\.isClosing) else { return false }
        if let (name, mine, theirs) = settings.difference(from: self.settings) {
            throw NodeError(
                "listener-settings",
                "'\(name)' is \(mine), but \(theirs) for \(self.first.owner), which listens on '\(self.place)' too; nodes that share a listener must have the same settings"
            )
        }
        guard let loops = try self.add(mount) else { return false }
        await self.publish(to: loops)
        return true
    }

    /// Adds a site for connections to come.
    ///
    /// - Returns: The event loops with connections that must learn of it; `nil` if the listener is closing.
    /// - Throws: ``NodeError`` with code `route-conflict`.
    @discardableResult
    func add(_ mount: Mount) throws(NodeError) -> [NIOLoopBound<LoopShare>]? {
        let place = self.place
        return try self.state.withLock { state throws(NodeError) in
            guard !state.isClosing else { return nil }
            for other in state.mounts {
                guard let (path, taken) = mount.conflict(with: other) else { continue }
                throw NodeError(
                    "route-conflict",
                    "'\(path)' on '\(place)' is taken: \(other.owner) serves '\(taken)'; choose another path or port"
                )
            }
            state.mounts.append(mount)
            return Array(state.loops.values)
        }
    }

    /// Takes a site away, with the last one also the listener, and waits until its requests are answered.
    ///
    /// - Parameters:
    ///   - mount: The site.
    ///   - limit: How long requests under way may take.
    func unmount(_ mount: Mount, within limit: TimeAmount) async {
        let (isLast, loops, open) = self.state.withLock { state in
            state.mounts.removeAll { $0 === mount }
            if state.mounts.isEmpty { state.isClosing = true }
            return (state.mounts.isEmpty, Array(state.loops.values), state.open)
        }
        if isLast {
            for port in open { try? await port.channel.close() }
        } else {
            await self.publish(to: loops)
        }
        await self.connections.stop(isLast ? nil : mount, within: limit)
    }

    /// Shows event loops the mounts as they are.
    private func publish(to loops: [NIOLoopBound<LoopShare>]) async {
        for loop in loops {
            // Fails only if the loop has ended, and with it all of its connections.
            try? await loop.eventLoop.submit {
                loop.value.routes.mounts = self.state.withLock { $0.mounts }
            }.get()
        }
    }

    /// What the connections of an event loop share; call it there.
    func share(of eventLoop: any EventLoop) -> LoopShare {
        self.state.withLock { state in
            let id = ObjectIdentifier(eventLoop)
            if let known = state.loops[id] { return known }
            let share = NIOLoopBound(LoopShare(state.mounts), eventLoop: eventLoop)
            state.loops[id] = share
            return share
        }.value
    }

    // MARK: Ports

    /// Waits until a port is closed, which closes the others, or the task is cancelled.
    func untilClosed() async {
        let ended = OneShot<Void>()
        self.whenClosed { ended.finish(()) }
        await ended.value(cancelled: ())
    }

    /// Calls something for each port that closes, in the order in which it was asked for.
    func whenClosed(_ body: @escaping @Sendable () -> Void) {
        for port in self.state.withLock({ $0.open }) { port.channel.closeFuture.whenComplete { _ in body() } }
    }

    /// Opens all ports or none; when one closes, so do the others.
    func open(on group: any EventLoopGroup, receiving: any RecvByteBufferAllocator) async throws {
        var open = [try await self.open("http", self.settings.port, nil, group, receiving)]
        if let port = self.settings.tls?.port {
            do {
                open.append(try await self.open("https", port, self.tls, group, receiving))
            } catch {
                try? await open[0].channel.close()
                throw error
            }
        }
        self.state.withLock { $0.open = open }
        let channels = open.map(\.channel)
        for channel in channels {
            channel.closeFuture.whenComplete { _ in
                self.state.withLock { $0.isClosing = true }
                for other in channels { other.close(promise: nil) }
            }
        }
    }

    private func open(
        _ scheme: String,
        _ port: Int,
        _ tls: TLSContext?,
        _ group: any EventLoopGroup,
        _ receiving: any RecvByteBufferAllocator
    ) async throws -> Open {
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: HTTPLimits.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.autoRead, value: false)
            // One read for each turn of the loop, so that a connection that sends a lot waits for the others.
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.recvAllocator, value: receiving)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try self.initialize(channel, tls: tls) }
            }
        let host = self.settings.host
        do {
            let channel = try await bootstrap.bind(host: host, port: port).get()
            let address = channel.localAddress
            return Open(
                channel: channel,
                address: address?.port.map { Listener(scheme: scheme, host: address?.ipAddress ?? host, port: $0) }
            )
        } catch {
            throw NodeError(
                "cannot-listen",
                "could not listen on '\(host):\(port)', \(error); choose another host or port",
                cause: error
            )
        }
    }

    /// Takes a new connection in, over TLS if there is something to shake hands with.
    func initialize(_ channel: any Channel, tls: TLSContext? = nil) throws {
        let connection = HTTPConnection(self, eventLoop: channel.eventLoop, isSecure: tls != nil)
        let bound = NIOLoopBound(connection, eventLoop: channel.eventLoop)
        let pipeline = channel.pipeline.syncOperations
        if let reason = self.connections.admit(channel, stop: { bound.value.stop($0) }) {
            self.first.metrics.refusedConnections.add()
            // Over TLS an answer would cost a handshake, of which there may be too many already.
            return try pipeline.addHandler(RefusingHandler(tls == nil ? reason : nil))
        }
        self.first.metrics.opened()
        channel.closeFuture.whenComplete { _ in self.first.metrics.closed() }
        if let tls { try pipeline.addHandler(tls.handler()) }
        try pipeline.addHandler(connection)
    }
}

/// The listeners of the process, by their addresses.
final class SharedListeners: Sendable {
    /// Those that nodes use.
    ///
    /// One list for the process, as its ports are.
    static let all = SharedListeners()

    private typealias Opening = OneShot<Result<SharedListener, any Error>>

    /// Also those that are about to be open.
    private let listeners = Mutex<[String: Opening]>([:])

    /// Puts a site on the listener at an address, which is opened for the first one.
    ///
    /// - Parameters:
    ///   - mount: The site.
    ///   - settings: What the operator says.
    ///   - receiving: How many bytes are read from a connection at once.
    ///   - services: Those of the site's node.
    /// - Returns: The listener, which serves the site.
    /// - Throws: ``NodeError`` if the address cannot be listened on, or the listener cannot be shared.
    func join(
        _ mount: Mount,
        _ settings: HTTPServer.Settings,
        receiving: any RecvByteBufferAllocator,
        services: NodeServices
    ) async throws -> SharedListener {
        while true {
            let listener = try await self.listener(for: mount, settings, receiving: receiving, services: services)
            if try await listener.mount(mount, settings) { return listener }
            await listener.untilClosed()
            try Task.checkCancellation()
        }
    }

    /// The listener at an address, which may be about to close; opened if there is none.
    private func listener(
        for mount: Mount,
        _ settings: HTTPServer.Settings,
        receiving: any RecvByteBufferAllocator,
        services: NodeServices
    ) async throws -> SharedListener {
        let opening = Opening()
        // Any port that is free is nobody's yet.
        let known = self.listeners.withLock { listeners -> Opening? in
            guard settings.port != 0 else { return nil }
            if let known = listeners[settings.place] { return known }
            listeners[settings.place] = opening
            return nil
        }
        if let known { return try await known.value().get() }
        do {
            let listener = try SharedListener(settings, for: mount, services: services)
            try await listener.open(on: services.eventLoopGroup, receiving: receiving)
            let place = listener.place
            self.listeners.withLock { $0[place] = opening }
            listener.whenClosed { self.listeners.withLock { if $0[place] === opening { $0[place] = nil } } }
            opening.finish(.success(listener))
            return listener
        } catch {
            self.listeners.withLock { if $0[settings.place] === opening { $0[settings.place] = nil } }
            opening.finish(.failure(error))
            throw error
        }
    }
}
