import OTA

/// The newest values of the series that tell a state, which have a table of their own so that devices are found by them.
enum LatestState {
    /// The time of the newest entry of a series, in SQL; one that cannot be yet counts only if there is no other.
    ///
    /// - Parameters:
    ///   - device: The row number of the device, in SQL.
    ///   - key: The name of the series, in SQL.
    /// - Returns: An expression.
    static func newestTime(of device: String, _ key: String) -> String {
        """
        coalesce((SELECT max(ts) FROM ts WHERE device = \(device) AND key = \(key) AND ts <= latest_time_max()),
            (SELECT max(ts) FROM ts WHERE device = \(device) AND key = \(key)))
        """
    }

    /// The series.
    static let keys = Set(OtaPackageType.allCases.map(\.stateKey))

    /// The statement that notes values which were added to the series, unless a newer one is known.
    ///
    /// - Parameter source: What gives the rows: of the key, the row number of the device, the time, the kind and the value. A
    ///   query needs a `WHERE`, or the `ON` would be one of a join (sqlite.org/lang_upsert.html, "Parsing Ambiguity").
    /// - Returns: The statement, with the places of the source for its arguments.
    static func inserting(_ source: String) -> String {
        """
        INSERT INTO latest_state (key, device, ts, kind, value)
        \(source)
        ON CONFLICT (key, device) DO UPDATE SET ts = excluded.ts, kind = excluded.kind, value = excluded.value
        WHERE (excluded.ts <= latest_time_max(), excluded.ts) >= (latest_state.ts <= latest_time_max(), latest_state.ts)
        """
    }
}
