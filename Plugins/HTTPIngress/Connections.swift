import Logging
import NIOCore
import Synchronization

/// The open connections of a listener: how many there may be, and how to end them.
final class Connections: Sendable {
    /// Tells one connection, on whatever thread, that the node stops.
    typealias Stop = @Sendable () -> Void

    private struct State {
        var nextID: UInt64 = 0
        var channels: [UInt64: (channel: any Channel, stop: Stop)] = [:]
        var isStopping = false
        var saidFull = false
        var emptied: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())
    private let buffered = Atomic<Int>(0)
    private let limits: HTTPLimits
    private let logger: Logger

    init(limits: HTTPLimits, logger: Logger) {
        self.limits = limits
        self.logger = logger
    }

    /// How many are open.
    var count: Int { self.state.withLock { $0.channels.count } }

    /// How many bytes of bodies are held.
    var bufferedBytes: Int { self.buffered.load(ordering: .relaxed) }

    /// Takes a connection in, until its channel closes; `false` if it is one too many or the node stops.
    func admit(_ channel: any Channel, stop: @escaping Stop) -> Bool {
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
            return false
        }
        channel.closeFuture.whenComplete { _ in self.remove(id) }
        return true
    }

    /// Counts bytes of a body that are held from now on; `false` if they are too many.
    func reserve(_ bytes: Int) -> Bool {
        let total = self.buffered.wrappingAdd(bytes, ordering: .relaxed).newValue
        if total <= self.limits.bufferedBytes { return true }
        self.release(bytes)
        return false
    }

    /// Counts bytes out that were counted in.
    func release(_ bytes: Int) {
        if bytes > 0 { self.buffered.wrappingSubtract(bytes, ordering: .relaxed) }
    }

    /// Lets every connection finish what runs, for at most the given time, then closes the rest.
    func stop(within limit: TimeAmount, on eventLoop: any EventLoop) async {
        let open = self.state.withLock { state in
            state.isStopping = true
            return Array(state.channels.values)
        }
        for connection in open { connection.stop() }
        let timer = eventLoop.scheduleTask(in: limit) {
            for connection in self.state.withLock({ Array($0.channels.values) }) {
                connection.channel.close(promise: nil)
            }
        }
        await withCheckedContinuation { continuation in
            let isEmpty = self.state.withLock { state in
                if !state.channels.isEmpty { state.emptied = continuation }
                return state.channels.isEmpty
            }
            if isEmpty { continuation.resume() }
        }
        timer.cancel()
    }

    private func remove(_ id: UInt64) {
        let waiter = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
            state.channels[id] = nil
            // Said again only after there was room to speak of, so that a full host does not fill the log.
            if state.channels.count <= self.limits.connections * 9 / 10 { state.saidFull = false }
            guard state.channels.isEmpty else { return nil }
            defer { state.emptied = nil }
            return state.emptied
        }
        waiter?.resume()
    }
}
