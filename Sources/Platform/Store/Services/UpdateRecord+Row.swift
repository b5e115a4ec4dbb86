import GRDB
import NodeKit
import OTA

extension UpdateRecord {
    /// What a query of records selects, and from where: the record `r`, with what its device says it runs.
    static let columns =
        "r.*, v.title AS running_title, v.version AS running_version, v.since, v.report, \(hold) AS hold"
    static let table = "update_record r LEFT JOIN device_package v ON v.device = r.device AND v.type = r.type"

    /// Why the device of an update was not notified yet, as an array: the queue, since when, until when, how many tries, code and reason.
    private static let hold = """
        CASE WHEN r.state IN ('QUEUED', 'INITIATED') THEN coalesce(
            (SELECT json_array('assignments', a.timestamp, a.due, a.tries, a.code, a.reason) FROM assignment a
                WHERE a.device = r.device AND a.type = r.type),
            (SELECT json_array(w.queue, w.since, w.due, w.tries, w.code, w.reason) FROM message_queue w
                WHERE w.originator = (SELECT id FROM device WHERE no = r.device) AND w.key = r.type ORDER BY w.id LIMIT 1),
            CASE WHEN r.state = 'QUEUED' AND r.hold_code IS NOT NULL
                THEN json_array(NULL, r.hold_time, NULL, 0, r.hold_code, r.hold_reason) END) END
        """

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
            installed: InstalledVersion(row: row, title: "running_title", version: "running_version"),
            priority: row["priority"],
            hold: (row["hold"] as String?).flatMap(UpdateHold.init(columns:))
        )
    }
}

extension UpdateHold {
    fileprivate init?(columns text: String) {
        guard let values = (try? JSON(parsing: text))?.array, values.count == 6, let since = values[1].integer else {
            return nil
        }
        self.init(
            queue: values[0].string,
            since: Timestamp(milliseconds: since),
            until: values[2].integer.map(Timestamp.init(milliseconds:)),
            tries: Int(values[3].integer ?? 0),
            reason: values[4].string.map { HoldReason(code: $0, text: values[5].string ?? "") }
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
