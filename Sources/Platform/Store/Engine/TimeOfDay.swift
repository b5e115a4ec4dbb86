import NodeKit
import Synchronization

/// What the store takes for the time of day where it removes something for good: a clock that is far ahead for an hour must not cost
/// what was to be kept for another year.
struct TimeOfDay: Sendable {
    /// How far the clock may leap ahead at once, in milliseconds.
    ///
    /// A longer leap is believed when it has lasted as long while the host ran.
    static let leapMax: Int64 = 86_400_000

    /// The time of day as far as it is believed.
    private(set) var believed: Timestamp
    /// For how many milliseconds a leap has lasted.
    private(set) var doubted: Int64
    private var uptime: Duration

    /// Goes on from the last look before the host started, if there was one.
    ///
    /// - Parameters:
    ///   - now: The time of day by the clock.
    ///   - uptime: The time by a clock that only goes forward.
    ///   - believed: What was believed at the last look; `nil` to believe the clock.
    ///   - doubted: For how many milliseconds a leap had lasted.
    init(_ now: Timestamp, uptime: Duration, believed: Timestamp? = nil, doubted: Int64 = 0) {
        self.believed = believed ?? now
        self.doubted = doubted
        self.uptime = uptime
    }

    /// Looks at the clock.
    ///
    /// - Returns: By how much the clock leapt ahead, the first time that it is not believed.
    mutating func look(_ now: Timestamp, uptime: Duration) -> Duration? {
        let elapsed = max(0, (uptime - self.uptime).milliseconds)
        let expected = self.believed.rawValue + elapsed
        self.uptime = uptime
        let leap = now.rawValue - expected
        guard leap <= Self.leapMax else {
            let isNew = self.doubted == 0
            // At least one, so that the leap is not new the next time.
            self.doubted += max(1, elapsed)
            self.believed = Timestamp(milliseconds: expected)
            guard self.doubted > Self.leapMax else { return isNew ? .milliseconds(leap) : nil }
            self.believed = now
            self.doubted = 0
            return nil
        }
        self.believed = now
        self.doubted = 0
        return nil
    }
}

/// The last leap of the clock ahead since the host started, by which ages are told apart from it.
///
/// What happened before the leap is as old as the host ran since, and not as the clock says; so nothing times out because of it.
struct ClockLeap: Sendable {
    /// When a clock that goes ahead more than the host ran has leapt, in milliseconds.
    static let leapMin = Timestamp.aheadMax.milliseconds

    private var last: Timestamp
    private var uptime: Duration
    /// To which time it leapt, and by how many milliseconds.
    private var leap: (to: Timestamp, by: Int64)?

    init(_ now: Timestamp, uptime: Duration) {
        self.last = now
        self.uptime = uptime
    }

    /// Looks at the clock.
    mutating func look(_ now: Timestamp, uptime: Duration) {
        let elapsed = uptime - self.uptime
        let by = (self.last.adding(elapsed).duration(to: now)).milliseconds
        (self.last, self.uptime) = (now, uptime)
        // It was set back: nothing is after the leap any more.
        if let leap = self.leap, now < leap.to { self.leap = nil }
        // What happened since the last look may be after the leap.
        if by > Self.leapMin { self.leap = (to: now.adding(.zero - elapsed), by: by) }
    }

    /// That a time in a column is not after `time`, with what was before the leap taken for as old as it is.
    ///
    /// - Returns: A condition in SQL; for its arguments, see ``arguments(_:)``.
    static func isDue(_ column: String) -> String { "\(column) <= ? AND (\(column) <= ? OR \(column) >= ?)" }

    /// The arguments of ``isDue(_:)``.
    func arguments(_ time: Timestamp) -> [Int64] {
        [time.rawValue, time.rawValue - (self.leap?.by ?? 0), self.leap?.to.rawValue ?? .min]
    }
}

/// The latest time of day that the store read from its clock.
final class LatestSeen: Sendable {
    private let time = Atomic<Int64>(.min)
    /// How often the clock was set back, and how many of these times what is stored was brought back.
    private let steps = Mutex((seen: 0, followed: 0))

    /// Notes a time that was read.
    func note(_ now: Timestamp) -> Timestamp {
        if now.rawValue > self.time.load(ordering: .relaxed) { self.time.max(now.rawValue, ordering: .relaxed) }
        return now
    }

    /// By how much the clock was set back, if that is further than a correction goes; it begins anew then.
    func step(backTo now: Timestamp) -> Duration? {
        let latest = Timestamp(milliseconds: self.time.load(ordering: .relaxed))
        guard latest.believed(at: now) != latest else { return nil }
        self.time.store(now.rawValue, ordering: .relaxed)
        self.steps.withLock { $0.seen += 1 }
        return now.duration(to: latest)
    }

    /// The last time that the clock was set back, if what is stored was not brought back since.
    var lastStep: Int? { self.steps.withLock { $0.seen > $0.followed ? $0.seen : nil } }

    /// What is stored was brought back, and that is committed.
    func followed(_ step: Int) { self.steps.withLock { $0.followed = max($0.followed, step) } }
}
