import Synchronization

/// Wakes tasks when there may be something to do, and loses no wake-up: read ``count``, look, and if there is nothing to do
/// wait for what came since.
///
/// ```swift
/// while !Task.isCancelled {
///     let seen = signal.count
///     if try await work() { continue }
///     await signal.wait(since: seen)
/// }
/// ```
///
/// A cancelled task does not wait, so the loop must look for cancellation.
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

    /// How many tasks wait.
    var waitingCount: Int { self.state.withLock { $0.waiters.count } }

    /// Wakes all who wait, in no particular order, and those who come with an older count.
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
                // Looked at under the lock: a cancellation is either seen here or finds the continuation below.
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
