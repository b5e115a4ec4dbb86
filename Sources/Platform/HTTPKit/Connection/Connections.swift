import IngressKit
import Logging
import NIOCore
import NIOSSL
import Synchronization

/// The open connections of a listener: how many there may be, and how to end them.
final class Connections: Sendable {
    /// Tells one connection, on its event loop, that the server no longer serves a site; `nil` stands for all sites.
    ///
    /// The connection closes when it has answered the request to that site that is under way. Returns whether it closes.
    typealias Stop = @Sendable (Mount?) -> Bool

    private struct State {
        var nextID: UInt64 = 0
        var channels: [UInt64: (channel: any Channel, stop: Stop)] = [:]
        var isStopping = false
        var saidFull = false
    }

    private let state = Mutex(State())
    private let buffered = Atomic<Int>(0)
    private let beginnings: RateLimiter<PeerNetwork>
    private let limits: HTTPLimits
    private let logger: Logger

    init(limits: HTTPLimits, connectionsPerSecondMax: Int, logger: Logger) {
        self.beginnings = RateLimiter(perSecond: connectionsPerSecondMax)
        self.limits = limits
        self.logger = logger
    }

    /// How many are open.
    var count: Int { self.state.withLock { $0.channels.count } }

    /// How many bytes of bodies are held.
    var bufferedBytes: Int { self.buffered.load(ordering: .relaxed) }

    /// Takes a connection in, until its channel closes.
    ///
    /// - Returns: Why it is not taken in; `nil` if it is.
    func admit(_ channel: any Channel, stop: @escaping Stop) -> RefusingHandler.Reason? {
        if let peer = PeerNetwork(channel.remoteAddress), !self.beginnings.admit(peer, at: .now()) {
            return .tooFrequent
        }
        let (id, isFirstRefused) = self.state.withLock { state -> (UInt64?, Bool) in
            guard !state.isStopping else { return (nil, false) }
            guard state.channels.count < self.limits.connections else {
                defer { state.saidFull = true }
                return (nil, !state.saidFull)
            }
            state.nextID += 1
            state.channels[state.nextID] = (channel, stop)
            return (state.nextID, false)
        }
        guard let id else {
            if isFirstRefused {
                self.logger.warning(
                    "too many connections; more are refused",
                    metadata: ["http.connections-max": "\(self.limits.connections)"]
                )
            }
            return .tooMany
        }
        channel.closeFuture.whenComplete { _ in self.remove(id) }
        return nil
    }

    /// Counts bytes of a body that are held from now on; `false` if they are too many.
    ///
    /// Those whom nobody knows get half of the room, so that they cannot take all of it.
    func reserve(_ bytes: Int, isKnown: Bool) -> Bool {
        let total = self.buffered.wrappingAdd(bytes, ordering: .relaxed).newValue
        if total <= (isKnown ? self.limits.bufferedBytes : self.limits.bufferedBytes / 2) { return true }
        self.release(bytes)
        return false
    }

    /// Counts bytes out that were counted in.
    func release(_ bytes: Int) {
        if bytes > 0 { self.buffered.wrappingSubtract(bytes, ordering: .relaxed) }
    }

    /// Lets connections finish what runs, for at most the given time, then closes the rest.
    ///
    /// - Parameters:
    ///   - mount: Whose requests those are that serve one now; `nil` for all connections, and that no more are taken in.
    ///   - limit: How long they may take.
    func stop(_ mount: Mount?, within limit: TimeAmount) async {
        let open = self.state.withLock { state in
            if mount == nil { state.isStopping = true }
            return Array(state.channels.values)
        }
        // All are told before the first is waited for.
        let told = open.map { connection in connection.channel.eventLoop.submit { connection.stop(mount) } }
        var ending: [any Channel] = []
        for (connection, isEnding) in zip(open, told) where (try? await isEnding.get()) == true {
            ending.append(connection.channel)
        }
        guard let eventLoop = ending.first?.eventLoop else { return }
        let timer = eventLoop.scheduleTask(in: limit) { [ending] in
            for channel in ending { Self.end(channel) }
        }
        for channel in ending { try? await channel.closeFuture.get() }
        timer.cancel()
    }

    /// Closes a channel at once: TLS would first wait for the other side's farewell.
    private static func end(_ channel: any Channel) {
        channel.eventLoop.execute {
            if let context = try? channel.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self) {
                context.close(promise: nil)
            } else {
                channel.close(promise: nil)
            }
        }
    }

    private func remove(_ id: UInt64) {
        self.state.withLock { state in
            state.channels[id] = nil
            // Said again only after there was room to speak of, so that a full host does not fill the log.
            if state.channels.count <= self.limits.connections * 9 / 10 { state.saidFull = false }
        }
    }
}
