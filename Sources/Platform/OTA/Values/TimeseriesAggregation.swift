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

/// What a store works out of the entries of a time series within an interval.
public struct IntervalSummary: Sendable, Hashable {
    /// How many entries there are, of whatever type.
    public var entries: Int64
    /// How many are integers.
    public var integers: Int64
    /// How many are decimals.
    public var decimals: Int64
    /// The sum of all numbers.
    public var total: Double
    /// The least number; `nil` if there is none.
    public var least: JSON?
    /// The greatest number; `nil` if there is none.
    public var greatest: JSON?
    /// The first text in the order of its characters; `nil` if there is none.
    public var firstText: String?
    /// The last text.
    public var lastText: String?

    /// Joins what was worked out.
    public init(
        entries: Int64,
        integers: Int64,
        decimals: Int64,
        total: Double,
        least: JSON?,
        greatest: JSON?,
        firstText: String?,
        lastText: String?
    ) {
        self.entries = entries
        self.integers = integers
        self.decimals = decimals
        self.total = total
        self.least = least
        self.greatest = greatest
        self.firstText = firstText
        self.lastText = lastText
    }
}

extension TimeseriesAggregation {
    /// The magnitude below which every integer has a decimal of its own.
    private static let exactMax = 9_007_199_254_740_992.0

    /// The value of an interval; `nil` if it has nothing of the kind that is aggregated.
    public func value(of interval: IntervalSummary) -> JSON? {
        let numbers = interval.decimals + interval.integers
        switch self {
        case .count: return .integer(interval.entries)
        case .minimum: return Self.extreme(interval.least, interval.firstText, isDecimal: interval.decimals > 0)
        case .maximum: return Self.extreme(interval.greatest, interval.lastText, isDecimal: interval.decimals > 0)
        case .average: return numbers > 0 ? Self.decimal(interval.total / Double(numbers)) : nil
        case .sum:
            guard numbers > 0 else { return nil }
            let isExact = interval.decimals == 0 && interval.total.magnitude < Self.exactMax
            return isExact ? .integer(Int64(interval.total)) : Self.decimal(interval.total)
        }
    }

    /// A number of the type that holds all numbers of the interval, or a text if there are none.
    private static func extreme(_ number: JSON?, _ text: String?, isDecimal: Bool) -> JSON? {
        guard let number else { return text.map(JSON.string) }
        return isDecimal ? number.double.map(JSON.double) : number
    }

    /// The number, which JSON has only if it is finite.
    private static func decimal(_ value: Double) -> JSON? { value.isFinite ? .double(value) : nil }
}
