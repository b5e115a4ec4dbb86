import Synchronization

/// A clock that stands still until a test moves it.
public final class ManualClock: Clock {
    /// A time since the clock was made.
    public struct Instant: InstantProtocol {
        var offset: Duration
        /// The time so much later.
        public func advanced(by duration: Duration) -> Instant { Instant(offset: self.offset + duration) }
        /// How long it is from this time to another.
        public func duration(to other: Instant) -> Duration { other.offset - self.offset }
        /// The earlier time is less.
        public static func < (a: Instant, b: Instant) -> Bool { a.offset < b.offset }
    }

    private struct Sleeper {
        var id: Int
        var start: Instant
        var deadline: Instant
        var continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var now = Instant(offset: .zero)
        var nextID = 0
        var sleepers: [Sleeper] = []
        var cancelled: Set<Int> = []
        var waiters: [(duration: Duration, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    /// Makes a clock at the start of its time.
    public init() {}

    /// The time to which it was moved.
    public var now: Instant { self.state.withLock { $0.now } }
    /// No sleep is shorter.
    public var minimumResolution: Duration { .nanoseconds(1) }

    /// Waits until the clock is moved to a time.
    public func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        let id = self.state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let (isCancelled, waiters) = self.state.withLock { state in
                    if state.cancelled.contains(id) { return (true, [] as [CheckedContinuation<Void, Never>]) }
                    let sleeper = Sleeper(id: id, start: state.now, deadline: deadline, continuation: continuation)
                    state.sleepers.append(sleeper)
                    let duration = state.now.duration(to: deadline)
                    let waiters = state.waiters.filter { $0.duration == duration }.map(\.continuation)
                    state.waiters.removeAll { $0.duration == duration }
                    return (false, waiters)
                }
                if isCancelled { continuation.resume(throwing: CancellationError()) }
                for waiter in waiters { waiter.resume() }
            }
        } onCancel: {
            let sleeper = self.state.withLock { state -> Sleeper? in
                state.cancelled.insert(id)
                guard let index = state.sleepers.firstIndex(where: { $0.id == id }) else { return nil }
                return state.sleepers.remove(at: index)
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    /// Wakes all whose time has come.
    public func advance(by duration: Duration) {
        let due = self.state.withLock { state in
            state.now = state.now.advanced(by: duration)
            let due = state.sleepers.filter { $0.deadline <= state.now }
            state.sleepers.removeAll { $0.deadline <= state.now }
            return due
        }
        for sleeper in due { sleeper.continuation.resume() }
    }

    /// Waits until someone who sleeps for this long has begun to.
    public func sleeper(for duration: Duration) async {
        await withCheckedContinuation { continuation in
            let isThere = self.state.withLock { state in
                if state.sleepers.contains(where: {
                    $0.start.duration(to: $0.deadline) == duration && $0.start == state.now
                }) {
                    return true
                }
                state.waiters.append((duration, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }
}
