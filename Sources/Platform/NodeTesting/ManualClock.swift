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

        /// Adds a sleeper, unless the time has come or its task is cancelled already.
        ///
        /// - Returns: How the sleep ends, if it does so at once, and who waited for somebody to sleep so long.
        mutating func begin(
            _ id: Int,
            until deadline: Instant,
            _ continuation: CheckedContinuation<Void, any Error>
        ) -> (Result<Void, any Error>?, [CheckedContinuation<Void, Never>]) {
            if self.cancelled.remove(id) != nil { return (.failure(CancellationError()), []) }
            guard deadline > self.now else { return (.success(()), []) }
            self.sleepers.append(Sleeper(id: id, start: self.now, deadline: deadline, continuation: continuation))
            let duration = self.now.duration(to: deadline)
            let due = self.waiters.filter { $0.duration == duration }.map(\.continuation)
            self.waiters.removeAll { $0.duration == duration }
            return (nil, due)
        }
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
                let (result, waiters) = self.state.withLock { state in
                    state.begin(id, until: deadline, continuation)
                }
                if let result { continuation.resume(with: result) }
                for waiter in waiters { waiter.resume() }
            }
        } onCancel: {
            let sleeper = self.state.withLock { state -> Sleeper? in
                guard let index = state.sleepers.firstIndex(where: { $0.id == id }) else {
                    state.cancelled.insert(id)
                    return nil
                }
                return state.sleepers.remove(at: index)
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    /// Lets time pass and wakes all whose time has come, in the order of their deadlines.
    public func advance(by duration: Duration) { self.advance(to: self.now.advanced(by: duration)) }

    /// Moves to a time that is not before the present one, as ``advance(by:)`` does.
    public func advance(to time: Instant) {
        let due = self.state.withLock { state in
            state.now = max(state.now, time)
            let due = state.sleepers.filter { $0.deadline <= state.now }
            state.sleepers.removeAll { $0.deadline <= state.now }
            return due.sorted { ($0.deadline, $0.id) < ($1.deadline, $1.id) }
        }
        for sleeper in due { sleeper.continuation.resume() }
    }

    /// The first time that a task waits for; `nil` if none does.
    public var nextDeadline: Instant? { self.state.withLock { $0.sleepers.map(\.deadline).min() } }

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
