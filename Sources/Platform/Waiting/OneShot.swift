import Synchronization

/// A value that comes once, from any thread, and that any number of tasks wait for.
///
/// Tasks go on in the order in which they began to wait. Cancellation does not end a wait, so a task that waits in order to
/// stop something waits until it has stopped; whoever makes one sees to it that a value comes, or waits with ``value(cancelled:)`` or
/// ``value(within:on:late:cancelled:)``.
public final class OneShot<Value: Sendable>: Sendable {
    private enum State {
        case pending([CheckedContinuation<Value, Never>])
        case finished(Value)
    }

    private let state = Mutex(State.pending([]))

    /// Makes one without a value.
    public init() {}

    /// The value, if it has come.
    public var current: Value? {
        self.state.withLock { state in
            guard case .finished(let value) = state else { return nil }
            return value
        }
    }

    /// How many tasks wait.
    var waitingCount: Int {
        self.state.withLock { state in
            guard case .pending(let waiters) = state else { return 0 }
            return waiters.count
        }
    }

    /// Sets the value; only the first call counts.
    ///
    /// - Returns: Whether this was the first call.
    @discardableResult
    public func finish(_ value: Value) -> Bool {
        let waiters = self.state.withLock { state -> [CheckedContinuation<Value, Never>]? in
            guard case .pending(let waiters) = state else { return nil }
            state = .finished(value)
            return waiters
        }
        guard let waiters else { return false }
        for waiter in waiters { waiter.resume(returning: value) }
        return true
    }

    /// Waits for the value.
    public func value() async -> Value {
        if let value = self.current { return value }
        return await withCheckedContinuation { continuation in
            let value = self.state.withLock { state -> Value? in
                switch state {
                case .finished(let value): return value
                case .pending(let waiters):
                    state = .pending(waiters + [continuation])
                    return nil
                }
            }
            if let value { continuation.resume(returning: value) }
        }
    }

    /// Waits for the value, but not when the task is cancelled: that sets the value, for all who wait.
    ///
    /// - Parameter cancelled: The value if the task is cancelled.
    /// - Returns: The first value that came.
    public func value(cancelled: Value) async -> Value {
        await withTaskCancellationHandler {
            await self.value()
        } onCancel: {
            self.finish(cancelled)
        }
    }

    /// Waits for the value, but neither forever nor when the task is cancelled: the end of the wait then sets the value, for
    /// all who wait.
    ///
    /// - Parameters:
    ///   - duration: How long; then the value is `late`.
    ///   - clock: What measures it.
    ///   - late: The value if none comes in time.
    ///   - cancelled: The value if the task is cancelled.
    /// - Returns: The first value that came.
    public func value(
        within duration: Duration,
        on clock: any Clock<Duration>,
        late: Value,
        cancelled: Value
    ) async -> Value {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                // A sleep that was cut off has not run out.
                if (try? await clock.sleep(for: duration)) != nil { self.finish(late) }
            }
            let value = await self.value(cancelled: cancelled)
            group.cancelAll()
            return value
        }
    }
}
