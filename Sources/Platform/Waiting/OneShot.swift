import Synchronization

/// A value that comes once, from any thread; whoever waits for it gets the first one.
public final class OneShot<Value: Sendable>: Sendable {
    private enum State {
        case pending
        case awaited(CheckedContinuation<Value, Never>)
        case finished(Value)
    }

    private let state = Mutex(State.pending)

    /// Makes one without a value.
    public init() {}

    /// Sets the value; only the first call counts.
    ///
    /// - Returns: Whether this was the first call.
    @discardableResult
    public func finish(_ value: Value) -> Bool {
        let (isFirst, waiter) = self.state.withLock { state -> (Bool, CheckedContinuation<Value, Never>?) in
            switch state {
            case .pending:
                state = .finished(value)
                return (true, nil)
            case .awaited(let continuation):
                state = .finished(value)
                return (true, continuation)
            case .finished:
                return (false, nil)
            }
        }
        waiter?.resume(returning: value)
        return isFirst
    }

    /// Waits for the value; call it once.
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
        await withTaskCancellationHandler {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    // A sleep that is cut off is no time that ran out.
                    if (try? await clock.sleep(for: duration)) != nil { self.finish(late) }
                }
                let value = await self.value()
                group.cancelAll()
                return value
            }
        } onCancel: {
            self.finish(cancelled)
        }
    }

    /// Waits for the value; call it once.
    public func value() async -> Value {
        await withCheckedContinuation { continuation in
            let value = self.state.withLock { state -> Value? in
                if case .finished(let value) = state { return value }
                state = .awaited(continuation)
                return nil
            }
            if let value { continuation.resume(returning: value) }
        }
    }
}
