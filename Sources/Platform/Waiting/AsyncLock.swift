import Synchronization

/// Lets one task at a time do something that takes several `await`s.
///
/// The others wait in order, and nobody overtakes. Cancellation does not end a wait: a task that is cancelled gets its turn, and
/// what it does then decides whether that matters.
public final class AsyncLock: Sendable {
    private struct State {
        var isTaken = false
        var waiting: [Latch] = []
    }

    private let state = Mutex(State())

    /// Makes one that is free.
    public init() {}

    /// How many tasks wait.
    var waitingCount: Int { self.state.withLock { $0.waiting.count } }

    /// Runs the body when its turn has come.
    ///
    /// Not reentrant: a body that waits for its own lock waits forever.
    public func withLock<Value, Failure: Error>(
        _ body: () async throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        await self.take()
        defer { self.release() }
        return try await body()
    }

    private func take() async {
        let turn = self.state.withLock { state -> Latch? in
            guard state.isTaken else {
                state.isTaken = true
                return nil
            }
            let turn = Latch()
            state.waiting.append(turn)
            return turn
        }
        await turn?.opened()
    }

    private func release() {
        // The lock passes on without being free between, so that nobody overtakes.
        let next = self.state.withLock { state -> Latch? in
            guard !state.waiting.isEmpty else {
                state.isTaken = false
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.open()
    }
}
