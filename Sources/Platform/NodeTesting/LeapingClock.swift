import Synchronization

/// A clock that stands still until a task sleeps, and then is at once where the sleeper wants it.
///
/// For tests of one task that waits; several are each at a time of their own. See ``ManualClock`` for those.
public final class LeapingClock: Clock {
    /// A time of the clock.
    public typealias Instant = ContinuousClock.Instant

    private struct State {
        var passed = Duration.zero
        var sleeps: [Duration] = []
    }

    private let start = ContinuousClock.now
    private let state = Mutex(State())

    /// Makes a clock.
    public init() {}

    /// How far it went since it was made.
    public var elapsed: Duration { self.state.withLock(\.passed) }
    /// How long each sleep was.
    public var sleeps: [Duration] { self.state.withLock(\.sleeps) }
    /// The time that it leapt to.
    public var now: Instant { self.start.advanced(by: self.elapsed) }
    /// No sleep is shorter.
    public var minimumResolution: Duration { .nanoseconds(1) }

    /// Lets time pass.
    public func advance(by duration: Duration) { self.state.withLock { $0.passed += duration } }

    /// Leaps to a time.
    public func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        try Task.checkCancellation()
        self.state.withLock { state in
            let target = self.start.duration(to: deadline)
            state.sleeps.append(target - state.passed)
            state.passed = max(state.passed, target)
        }
        await Task.yield()
    }
}
