import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// How long the store waits while another program has its database locked, such as one that makes a copy or looks into it.
///
/// What waits meanwhile is delayed and not refused.
final class LockWait: Sendable {
    /// How long at most: one second more than the 5 s that another program may take, since a lock is looked at now and then.
    static let timeMax = Duration.seconds(6)
    /// How long until a lock is looked at again.
    static let interval = Duration.milliseconds(5)

    private let triesMax: Int
    private let pause: @Sendable () -> Void
    private let isOver = Atomic(false)

    /// - Parameters:
    ///   - timeMax: How long at most.
    ///   - pause: Lets ``interval`` pass.
    init(
        _ timeMax: Duration = LockWait.timeMax,
        pause: @escaping @Sendable () -> Void = { usleep(useconds_t(LockWait.interval / .microseconds(1))) }
    ) {
        self.triesMax = Int(timeMax / Self.interval)
        self.pause = pause
    }

    /// Waits a little.
    ///
    /// Called by SQLite (sqlite.org/c3ref/busy_handler.html).
    ///
    /// - Parameter tries: How often it has waited for the same lock.
    /// - Returns: `false` if that has been long enough.
    func wait(tries: Int) -> Bool {
        guard tries < self.triesMax, !self.isOver.load(ordering: .relaxed) else { return false }
        self.pause()
        return true
    }

    /// From now on nothing waits: the store closes, and what is not stored is not acknowledged.
    func end() { self.isOver.store(true, ordering: .relaxed) }
}
