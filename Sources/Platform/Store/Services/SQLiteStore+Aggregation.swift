import GRDB
import NodeKit
public import OTA

extension SQLiteStore {
    /// One entry for each interval in which the series has entries to aggregate.
    public func timeseries(
        of device: DeviceId,
        key: String,
        in intervals: TimeIntervals,
        aggregation: TimeseriesAggregation,
        ascending: Bool
    ) async throws -> [TimeseriesEntry] {
        try await self.read { db in
            // total() instead of sum(): that fails when integers overflow (sqlite.org/lang_aggfunc.html).
            try db.rows(
                """
                SELECT (ts - ?1) / ?2 AS slot, count(*) AS entries,
                    count(iif(kind = 1, 1, NULL)) AS integers, count(iif(kind = 2, 1, NULL)) AS decimals,
                    total(iif(kind IN (1, 2), value, NULL)) AS total,
                    min(iif(kind IN (1, 2), value, NULL)) AS least, max(iif(kind IN (1, 2), value, NULL)) AS greatest,
                    min(iif(kind = 3, value, NULL)) AS first_text, max(iif(kind = 3, value, NULL)) AS last_text
                FROM ts
                WHERE device = (SELECT no FROM device WHERE id = ?3) AND key = ?4 AND ts >= ?1 AND ts < ?5
                GROUP BY slot ORDER BY slot \(ascending ? "ASC" : "DESC")
                """,
                [intervals.start.rawValue, intervals.length, device.uuid, key, intervals.end.rawValue]
            ).compactMap { row in
                guard let value = aggregation.value(of: row) else { return nil }
                return TimeseriesEntry(key: key, timestamp: intervals.middle(of: row["slot"]), value: value)
            }
        }
    }
}

extension TimeseriesAggregation {
    /// The magnitude below which every integer has a decimal of its own.
    private static let exactMax = 9_007_199_254_740_992.0

    /// The value of an interval; `nil` if it has nothing of the kind that is aggregated.
    fileprivate func value(of row: Row) -> JSON? {
        let decimals: Int64 = row["decimals"]
        let numbers = decimals + (row["integers"] as Int64)
        switch self {
        case .count: return .integer(row["entries"])
        case .minimum: return Self.extreme(row, number: "least", text: "first_text", hasDecimals: decimals > 0)
        case .maximum: return Self.extreme(row, number: "greatest", text: "last_text", hasDecimals: decimals > 0)
        case .average: return numbers > 0 ? Self.decimal((row["total"] as Double) / Double(numbers)) : nil
        case .sum:
            guard numbers > 0 else { return nil }
            let total: Double = row["total"]
            return decimals == 0 && total.magnitude < Self.exactMax ? .integer(Int64(total)) : Self.decimal(total)
        }
    }

    /// A number of the type that holds all numbers of the interval, or a text if there are none.
    private static func extreme(_ row: Row, number: String, text: String, hasDecimals: Bool) -> JSON? {
        if hasDecimals { return (row[number] as Double?).map(JSON.double) }
        return (row[number] as Int64?).map(JSON.integer) ?? (row[text] as String?).map(JSON.string)
    }

    /// The number, which JSON has only if it is finite.
    private static func decimal(_ value: Double) -> JSON? { value.isFinite ? .double(value) : nil }
}
