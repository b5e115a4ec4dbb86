import Synchronization

/// Wakes those who wait for something to have happened.
public final class Signal: Sendable {
    private struct State {
        var count: UInt64 = 0
        var nextID: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
    }

    private let state = Mutex(State())

    /// Makes one that was not raised yet.
    public init() {}

    /// How often it was raised; for ``wait(since:)``.
    public var count: UInt64 { self.state.withLock { $0.count } }

    /// It has happened again.
    public func raise() {
        let waiters = self.state.withLock { state in
            state.count += 1
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume() }
    }

    /// Returns when it was raised after `count` was read, or when the task is cancelled.
    public func wait(since count: UInt64) async {
        let id = self.state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Cancellation may have come before the continuation was stored; then nobody would resume it later.
                let goesOn = self.state.withLock { state in
                    guard state.count == count, !Task.isCancelled else { return true }
                    state.waiters[id] = continuation
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            self.state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
        }
    }
}
