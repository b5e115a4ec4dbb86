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
                guard let value = aggregation.value(of: IntervalSummary(row: row)) else { return nil }
                return TimeseriesEntry(key: key, timestamp: intervals.middle(of: row["slot"]), value: value)
            }
        }
    }
}

extension IntervalSummary {
    fileprivate init(row: Row) {
        func number(_ column: String) -> JSON? {
            switch (row[column] as DatabaseValue).storage {
            case .int64(let value): .integer(value)
            case .double(let value): .double(value)
            case .null, .string, .blob: nil
            }
        }
        self.init(
            entries: row["entries"],
            integers: row["integers"],
            decimals: row["decimals"],
            total: row["total"],
            least: number("least"),
            greatest: number("greatest"),
            firstText: row["first_text"],
            lastText: row["last_text"]
        )
    }
}
