import NodeKit

/// Slows down whoever tries passwords, without letting a stranger lock somebody out for good.
///
/// Failures count for each name together with the address they come from. After some that are free, every further one
/// doubles the wait before the next is looked at.
struct LoginLimiter: Sendable {
    /// Named limits of logins.
    struct Limits: Sendable {
        /// Failures in a row before waiting begins.
        var failuresFree = 5
        /// The first wait, in milliseconds.
        var delayFirst: Int64 = 1000
        /// The longest wait, in milliseconds.
        var delayMax: Int64 = 60_000
        /// After this time without a failure, in milliseconds, all is forgotten.
        var memory: Int64 = 900_000
        /// The most names and addresses that are remembered.
        var entriesMax = 1024
        /// The most logins that wait for their password to be hashed.
        var pendingMax = 32
    }

    enum Decision: Equatable {
        /// Look at the password, then call `end`.
        case go
        /// Refuse; the next try is looked at after this many milliseconds.
        case wait(milliseconds: Int64)
        /// Refuse; too many logins are being looked at.
        case busy
    }

    private struct Entry {
        var failures: Int
        var last: Timestamp
        var blockedUntil: Timestamp

        /// The entry after the clock was set back: a user does not wait until the clock is where it was.
        func believed(at now: Timestamp) -> Entry {
            var entry = self
            entry.last = self.last.believed(at: now)
            entry.blockedUntil = self.blockedUntil.believed(at: now)
            return entry
        }
    }

    private let limits: Limits
    private var entries: [ExactText: Entry] = [:]
    private var pending = 0

    init(_ limits: Limits = Limits()) { self.limits = limits }

    mutating func begin(_ key: String, at now: Timestamp) -> Decision {
        if let entry = self.entries[key.exact]?.believed(at: now), entry.blockedUntil > now {
            return .wait(milliseconds: entry.blockedUntil.rawValue - now.rawValue)
        }
        guard self.pending < self.limits.pendingMax else { return .busy }
        self.pending += 1
        return .go
    }

    /// Takes in how it went.
    ///
    /// - Returns: Whether from now on there is waiting where there was none before.
    @discardableResult
    mutating func end(_ key: String, succeeded: Bool, at now: Timestamp) -> Bool {
        self.pending -= 1
        if succeeded {
            self.entries[key.exact] = nil
            return false
        }
        var entry = self.entries[key.exact]?.believed(at: now) ?? Entry(failures: 0, last: now, blockedUntil: now)
        if now.rawValue - entry.last.rawValue > self.limits.memory { entry.failures = 0 }
        entry.failures += 1
        entry.last = now
        if entry.failures >= self.limits.failuresFree {
            let doublings = min(entry.failures - self.limits.failuresFree, 30)
            let delay = min(self.limits.delayFirst << Int64(doublings), self.limits.delayMax)
            entry.blockedUntil = Timestamp(milliseconds: now.rawValue + delay)
        }
        if self.entries[key.exact] == nil, self.entries.count >= self.limits.entriesMax,
            let oldest = self.entries.min(by: { $0.value.believed(at: now).last < $1.value.believed(at: now).last })
        {
            self.entries[oldest.key] = nil
        }
        self.entries[key.exact] = entry
        return entry.failures == self.limits.failuresFree
    }

    /// How many names and addresses are remembered.
    var count: Int { self.entries.count }
}
