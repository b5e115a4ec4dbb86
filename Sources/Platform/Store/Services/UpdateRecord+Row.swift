import GRDB
import NodeKit
import OTA

extension UpdateRecord {
    /// What a query of records selects, and from where: the record `r`, with what its device says it runs.
    static let columns = "r.*, v.title AS running_title, v.version AS running_version, v.since, v.report"
    static let table = "update_record r LEFT JOIN device_package v ON v.device = r.device AND v.type = r.type"

    /// What to set as an attempt ends and another one is to begin: the bytes that were served stay served.
    static let attemptEnds = """
        served_ranges = CASE WHEN served_time IS NOT NULL THEN NULL
            WHEN served_ranges IS NULL OR attempt_ranges IS NULL THEN coalesce(served_ranges, attempt_ranges)
            ELSE served_ranges || ',' || attempt_ranges END,
        attempt_ranges = NULL
        """

    init(row: Row, of device: DeviceId) throws {
        var entered: [OtaUpdateState: Timestamp] = [:]
        for state in OtaUpdateState.allCases {
            entered[state] = (row[state.timeColumn] as Int64?).map(Timestamp.init(milliseconds:))
        }
        self.init(
            deviceId: device,
            type: try row.choice("type"),
            packageId: row.idIfPresent("package_id"),
            title: row["title"],
            version: row["version"],
            state: try row.choice("state"),
            entered: entered,
            progress: row["progress"],
            attempts: row["attempts"],
            errorClass: (row["error_class"] as String?).flatMap(OtaErrorClass.init(rawValue:)),
            error: row["error"],
            failureCause: (row["failure_cause"] as String?).flatMap(UpdateCause.init(rawValue:)),
            retryTime: (row["retry_time"] as Int64?).map(Timestamp.init(milliseconds:)),
            activeTime: row.time("active_time"),
            servedTime: (row["served_time"] as Int64?).map(Timestamp.init(milliseconds:)),
            isInterrupted: row["interrupted"] && row["state"] as String != OtaUpdateState.failed.rawValue,
            installed: InstalledVersion(row: row, title: "running_title", version: "running_version")
        )
    }
}

extension InstalledVersion {
    /// What columns of a row say a device runs, with `since` and `report`; `nil` if it never said.
    init?(row: Row, title: String, version: String) {
        guard let since: Int64 = row["since"] else { return nil }
        self.init(
            running: ReportedVersion(title: row[title], version: row[version]),
            since: Timestamp(milliseconds: since),
            report: row["report"]
        )
    }
}

extension OtaUpdateState {
    /// The column of the time when a state was last entered.
    var timeColumn: String { "\(self.rawValue.lowercased())_time" }

    /// The states that a rule holds for, as a list of SQL: `'UPDATED', 'FAILED'`.
    static func list(_ holds: (OtaUpdateState) -> Bool) -> String {
        Self.allCases.filter(holds).map { "'\($0.rawValue)'" }.joined(separator: ", ")
    }

    /// The states of updates that are over, as a list of SQL.
    static let over = list(\.isFinal)

    /// The statement that enters this state; as ``UpdateVerdict/beginAttempt`` with another attempt.
    ///
    /// An attempt that the server queued is counted then.
    /// Until a session takes the push that follows INITIATED, it counts as missed; a device that reports anything else knows.
    func entering(isNewAttempt: Bool = false) -> String {
        let attempts = isNewAttempt ? "attempts + 1" : self == .downloading ? "max(attempts, 1)" : "attempts"
        return """
            UPDATE update_record SET state = ?, \(self.timeColumn) = ?, active_time = ?,
                progress = \(isNewAttempt ? "?" : "coalesce(?, progress)"), attempts = \(attempts),
                error = ?, error_class = NULL, failure_cause = NULL, retry_time = NULL, interrupted = 0,
                push_missed = \(self == .initiated ? 1 : 0)
            WHERE device = ? AND type = ?
            """
    }
}
