import Synchronization

/// Lets one task at a time do something that takes several `await`s; the others wait in order.
public final class AsyncLock: Sendable {
    private struct State {
        var isTaken = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    /// Makes one that is free.
    public init() {}

    /// Runs the body when its turn has come.
    ///
    /// Not reentrant.
    public func withLock<Value, Failure: Error>(
        _ body: () async throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        await self.take()
        defer { self.release() }
        return try await body()
    }

    private func take() async {
        await withCheckedContinuation { continuation in
            let isMine = self.state.withLock { state in
                if state.isTaken {
                    state.waiters.append(continuation)
                    return false
                }
                state.isTaken = true
                return true
            }
            if isMine { continuation.resume() }
        }
    }

    private func release() {
        // The lock passes on without being free between, so that nobody overtakes.
        let next = self.state.withLock { state in
            guard !state.waiters.isEmpty else {
                state.isTaken = false
                return nil as CheckedContinuation<Void, Never>?
            }
            return state.waiters.removeFirst()
        }
        next?.resume()
    }
}
