public import NodeKit

/// How far a device's clock is off, as far as its own reports show.
///
/// A report cannot arrive before it is made, so the smallest difference between arrival and `ts` among reports is how late the
/// clock is, or how far ahead if it is negative. Reports that a device kept and sends later have larger differences.
public struct DeviceClock: Sendable, Hashable {
    /// A `ts` before this is that of a clock that was never set: 2020-01-01 UTC.
    public static let earliest = Timestamp(milliseconds: 1_577_836_800_000)
    /// A `ts` further ahead than this, in milliseconds, is that of a clock that shows nothing: a day.
    public static let aheadMax: Int64 = 86_400_000

    /// The smallest difference between arrival and `ts` so far, in milliseconds; `nil` before the first report with a `ts`.
    public private(set) var errorMilliseconds: Int64?

    /// A clock before the first report.
    public init() {}

    /// When the reports of one message were made, by the host's clock.
    ///
    /// What a report's own `ts` shows about the clock does not count for itself, else none could be late.
    ///
    /// - Parameters:
    ///   - stamps: The `ts` of each report; `nil` where the device sent none.
    ///   - arrival: When the message came in.
    /// - Returns: For each report its time, or `nil` if it has none that makes sense and counts as made on arrival.
    public mutating func times(of stamps: [Timestamp?], arrival: Timestamp) -> [Timestamp?] {
        let delays = stamps.map { stamp -> Int64? in
            guard let stamp, stamp >= Self.earliest else { return nil }
            let (delay, isBeyond) = arrival.rawValue.subtractingReportingOverflow(stamp.rawValue)
            return isBeyond || delay < -Self.aheadMax ? nil : delay
        }
        // The two smallest are enough to know the smallest of the others for each.
        let smallest = delays.indices.filter { delays[$0] != nil }.min { (delays[$0] ?? 0) < (delays[$1] ?? 0) }
        let second = delays.indices.filter { $0 != smallest }.compactMap { delays[$0] }.min()
        let times = delays.indices.map { index -> Timestamp? in
            guard let delay = delays[index] else { return nil }
            let others = index == smallest ? second : smallest.flatMap { delays[$0] }
            let error = [others, self.errorMilliseconds].compactMap(\.self).min() ?? 0
            return Timestamp(milliseconds: arrival.rawValue - delay + error)
        }
        self.errorMilliseconds = [smallest.flatMap { delays[$0] }, self.errorMilliseconds].compactMap(\.self).min()
        return times
    }
}
