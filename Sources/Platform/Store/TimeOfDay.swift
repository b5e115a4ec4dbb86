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

/// The latest time of day that the store read from its clock.
final class LatestSeen: Sendable {
    private let time = Atomic<Int64>(.min)

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
        return now.duration(to: latest)
    }
}
