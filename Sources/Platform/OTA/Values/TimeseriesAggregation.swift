public import NodeKit

/// How the entries of a time series within an interval become one, named as in ThingsBoard.
public enum TimeseriesAggregation: String, Sendable, Hashable, CaseIterable {
    /// The least number, or the first text in the order of its characters if there are no numbers.
    case minimum = "MIN"
    /// The greatest number, or the last text if there are no numbers.
    case maximum = "MAX"
    /// The mean of the numbers, always a decimal.
    case average = "AVG"
    /// The sum of the numbers, an integer if all are and their sum is below 2⁵³.
    case sum = "SUM"
    /// How many entries there are, of whatever type.
    case count = "COUNT"
}

/// Time cut into intervals of the same length, but for the last one, which ends with the time.
public struct TimeIntervals: Sendable, Hashable {
    /// The most intervals of a query, as in ThingsBoard unless it is told otherwise.
    public static let countMax: Int64 = 700
    /// The length that shorter intervals count as when they are counted, in milliseconds: ThingsBoard takes any number of short ones.
    public static let countedLengthMin: Int64 = 1000
    /// The most intervals however short they are.
    public static let shortCountMax: Int64 = 50_000

    /// When the first begins.
    public let start: Timestamp
    /// When the last ends; not within it.
    public let end: Timestamp
    /// How long one is, in milliseconds; at least 1.
    public let length: Int64

    /// Cuts time into intervals.
    ///
    /// A span of time that is empty or ends before it begins counts as one millisecond, as in ThingsBoard.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` and ThingsBoard's sentence if they are too many, or too short.
    public init(from start: Timestamp, to end: Timestamp, length: Int64) throws(NodeError) {
        guard length > 0 else {
            throw NodeError(
                .badRequest,
                "Invalid TsKvQuery: 'interval' must be greater than 0, but got \(length). Please check your query parameters and "
                    + "ensure 'endTs' is greater than 'startTs' or increase 'interval'."
            )
        }
        let (span, overflow) = end.rawValue.subtractingReportingOverflow(start.rawValue)
        let counted = overflow ? .max : span / max(length, Self.countedLengthMin)
        let short = overflow ? .max : span / length
        let isCountedWell = (0...Self.countMax).contains(counted)
        guard isCountedWell, short <= Self.shortCountMax else {
            throw NodeError(
                .badRequest,
                "Incorrect TsKvQuery. Number of intervals is to high - \(isCountedWell ? short : counted). "
                    + "Please increase 'interval' parameter for your query or reduce the time range of the query."
            )
        }
        self.start = start
        self.end = span > 0 || start.rawValue == .max ? end : Timestamp(milliseconds: start.rawValue + 1)
        self.length = length
    }

    /// The middle of an interval, which is the time of what was aggregated in it.
    ///
    /// - Parameter index: The zero-based number of the interval.
    /// - Returns: The time, in whole milliseconds.
    public func middle(of index: Int64) -> Timestamp {
        let start = self.start.rawValue + index * self.length
        let rest = self.end.rawValue - start
        return Timestamp(milliseconds: start + min(self.length, rest) / 2)
    }
}
