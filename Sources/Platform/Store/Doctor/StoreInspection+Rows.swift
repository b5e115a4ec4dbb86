import GRDB
import NodeKit
import OTA

extension StoreInspection {
    /// Looks at all rows.
    static func faults(_ db: Database) throws -> [StoreFinding] {
        var faults = try Self.integrityFaults(db)
        faults += try Self.valueFaults(db)
        faults += try Self.tenantFaults(db)
        if try db.exists("SELECT 1 FROM device WHERE no NOT IN (SELECT device FROM device_credentials)") {
            faults.append(
                StoreFinding(
                    .credentialsMissing,
                    "a device has no credentials",
                    remedy: "give every device credentials (POST /api/device/credentials)"
                )
            )
        }
        for type in OtaPackageType.allCases { faults += try Self.updateFaults(of: type, db) }
        faults += try Self.unprovenUpdates(db)
        // What is recorded and what was recorded must tell the same story.
        if try db.exists(
            """
            SELECT 1 FROM update_record r WHERE NOT EXISTS (
                SELECT 1 FROM update_history h WHERE h.device = r.device AND h.type = r.type AND h.accepted = 1
                    AND h.state = r.state AND h.title = r.title AND h.version = r.version)
            """
        ) {
            faults.append(
                StoreFinding(
                    .historyGap,
                    "the state of an update is not in its history",
                    remedy: "nothing is lost but a line of the history; the next state mends it"
                )
            )
        }
        // The newest values of states, once more from the points they were taken from. Whether a point that lies ahead is the newest
        // depends on a setting and on when it came, so any of them may be.
        let isOlder = """
            (SELECT max(n.ts) FROM ts n WHERE n.device = s.device AND n.key = s.key AND n.ts <= latest_time_max()) > s.ts
            """
        let points = "SELECT key, device, ts, kind, value FROM ts WHERE key IN ('fw_state', 'sw_state')"
        let noted = "SELECT key, device, ts, kind, value FROM latest_state"
        if try db.exists(
            """
            SELECT 1 FROM latest_state s WHERE \(isOlder)
            UNION ALL SELECT 1 FROM (\(noted) EXCEPT \(points))
            UNION ALL SELECT 1 FROM (SELECT key, device FROM ts WHERE key IN ('fw_state', 'sw_state')
                EXCEPT SELECT key, device FROM latest_state)
            """
        ) {
            faults.append(
                StoreFinding(
                    .newestState,
                    "the newest value of a state is not what its series says",
                    remedy:
                        "queries by 'fw_state' or 'sw_state' are wrong about a device until its next report, which mends it"
                )
            )
        }
        return faults
    }

    private static func integrityFaults(_ db: Database) throws -> [StoreFinding] {
        let copy = "put a copy of the data folder from before in its place"
        var faults: [StoreFinding] = []
        for answer in try String.fetchAll(db, sql: "PRAGMA integrity_check") where answer != "ok" {
            faults.append(StoreFinding(.databaseDamaged, "the database is damaged: \(answer)", remedy: copy))
        }
        for row in try Row.fetchAll(db, sql: "PRAGMA foreign_key_check") {
            faults.append(
                StoreFinding(
                    .danglingReference,
                    "a row of '\(row["table"] as String)' refers to one of '\(row["parent"] as String)' that is not there",
                    remedy: copy
                )
            )
        }
        return faults
    }

    private static func tenantFaults(_ db: Database) throws -> [StoreFinding] {
        var faults = try db.rows(
            """
            SELECT title FROM tenant
            WHERE (SELECT count(*) FROM device_profile p WHERE p.tenant_id = tenant.id AND p.is_default = 1) <> 1
            """
        ).map { row in
            StoreFinding(
                .defaultProfile,
                "the tenant '\(row["title"] as String)' has not exactly one default device profile",
                remedy: "make one of its profiles the default one (POST /api/deviceProfile/{id}/default)"
            )
        }
        let copy = "put a copy of the data folder from before in its place"
        for table in ["device", "device_profile", "ota_package"]
        where try db.exists("SELECT 1 FROM \(table) WHERE tenant_id NOT IN (SELECT id FROM tenant) LIMIT 1") {
            faults.append(
                StoreFinding(
                    .wrongTenant,
                    "a row of '\(table)' belongs to a tenant that does not exist",
                    remedy: copy
                )
            )
        }
        if try db.exists(
            """
            SELECT 1 FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE p.tenant_id <> d.tenant_id
            UNION ALL
            SELECT 1 FROM ota_package o JOIN device_profile p ON p.id = o.device_profile_id
            WHERE p.tenant_id <> o.tenant_id LIMIT 1
            """
        ) {
            faults.append(
                StoreFinding(
                    .wrongTenant,
                    "a device or a package belongs to another tenant than its profile",
                    remedy: copy
                )
            )
        }
        return faults
    }

    /// Texts that are not what their column is for.
    ///
    /// What columns hold is checked by the schema, but for JSON and for values whose kind says how to read them.
    private static func valueFaults(_ db: Database) throws -> [StoreFinding] {
        let columns = [
            ("device", "additional_info"), ("device", "device_data"), ("device_profile", "settings"),
            ("ota_package", "additional_info"), ("message_queue", "message"),
        ]
        var faults: [StoreFinding] = []
        func add(_ count: Int64?, _ what: String) {
            guard let count, count > 0 else { return }
            faults.append(
                StoreFinding(
                    .unreadableValue,
                    "\(count) \(what) cannot be read",
                    remedy: "write them anew, or put a copy of the data folder from before in its place"
                )
            )
        }
        for (table, column) in columns {
            let sql = "SELECT count(*) FROM \(table) WHERE \(column) IS NOT NULL AND NOT json_valid(\(column))"
            add(try db.integer(sql), "texts in '\(column)' of '\(table)'")
        }
        for table in ["attribute", "ts"] {
            let count = try db.integer(
                """
                SELECT count(*) FROM \(table) WHERE CASE kind
                    WHEN 0 THEN typeof(value) <> 'integer' OR value NOT IN (0, 1)
                    WHEN 1 THEN typeof(value) <> 'integer'
                    WHEN 2 THEN typeof(value) <> 'real'
                    WHEN 3 THEN typeof(value) <> 'text'
                    ELSE typeof(value) <> 'text' OR NOT json_valid(value) END
                """
            )
            add(count, "values of '\(table)'")
        }
        return faults
    }

    /// The most updates without proof that are listed one by one.
    static let unprovenUpdatesMax = 100

    /// Updates that are UPDATED and would not be by the rules; those of versions before the rules may be so.
    ///
    /// What a device reported after the end of its update does not count.
    private static func unprovenUpdates(_ db: Database) throws -> [StoreFinding] {
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT d.name, r.type, r.title, r.version, v.title AS running_title, v.version AS running_version
                FROM update_record r JOIN device d ON d.no = r.device
                    LEFT JOIN device_package v ON v.device = r.device AND v.type = r.type AND v.since <= r.active_time
                WHERE r.state = 'UPDATED' AND r.served_time IS NULL
                    AND NOT EXISTS (SELECT 1 FROM device_package n
                        WHERE n.device = r.device AND n.type = r.type AND n.since > r.active_time)
                ORDER BY d.name, r.type
                """
        )
        var findings: [StoreFinding] = []
        var count = 0
        while let row = try rows.next() {
            let target = ReportedVersion(title: row["title"], version: row["version"])
            let running = ReportedVersion(title: row["running_title"], version: row["running_version"])
            guard !UpdateRules.isProven(target, running: running, isServed: false) else { continue }
            count += 1
            guard count <= Self.unprovenUpdatesMax else { continue }
            findings.append(
                StoreFinding(
                    .unprovenUpdate,
                    "the \(row["type"] as String) update of '\(row["name"] as String)' to \(target) is UPDATED, but "
                        + (running.isEmpty
                            ? "nothing shows that the device runs it" : "the device says it runs \(running)"),
                    remedy: "nothing is changed by itself; if it is not so, "
                        + "'windlass update resend --include-updated --device NAME'"
                )
            )
        }
        if count > Self.unprovenUpdatesMax {
            findings.append(
                StoreFinding(
                    .unprovenUpdate,
                    "\(count - Self.unprovenUpdatesMax) more updates are UPDATED and nothing shows that their devices run them",
                    remedy: "nothing is changed by itself; if it is not so, "
                        + "'windlass update resend --include-updated --package ID'"
                )
            )
        }
        return findings
    }

    private static func updateFaults(of type: OtaPackageType, _ db: Database) throws -> [StoreFinding] {
        let devices = "device d JOIN device_profile p ON p.id = d.device_profile_id"
        // Else an assignment to the whole profile has not reached the device yet.
        let isReached = "d.\(type.followedColumn) IS \(type.effective)"
        let again = "take the package from the device or profile and assign it again"
        var faults: [StoreFinding] = []
        if try db.exists(
            """
            SELECT 1 FROM \(devices) JOIN update_record r ON r.device = d.no
            WHERE r.type = ? AND r.state NOT IN (\(OtaUpdateState.over)) AND r.package_id IS NOT \(type.effective)
                AND \(isReached)
            """,
            [type.rawValue]
        ) {
            faults.append(
                StoreFinding(
                    .updateRecord,
                    "an update under way is not that to the device's effective \(type.rawValue) package",
                    remedy: again
                )
            )
        }
        if try db.exists(
            """
            SELECT 1 FROM \(devices) LEFT JOIN update_record r ON r.device = d.no AND r.type = ?
            WHERE \(type.effective) IS NOT NULL AND r.package_id IS NOT \(type.effective) AND \(isReached)
            """,
            [type.rawValue]
        ) {
            faults.append(
                StoreFinding(
                    .updateRecord,
                    "a device has an effective \(type.rawValue) package but no update record of it",
                    remedy: again
                )
            )
        }
        if try db.exists(
            """
            SELECT 1 FROM \(devices) WHERE NOT \(isReached) AND NOT EXISTS (
                SELECT 1 FROM mass_assignment m
                WHERE m.device_profile_id = p.id AND m.type = ? AND m.last_device < d.no AND d.\(type.ownColumn) IS NULL)
            """,
            [type.rawValue]
        ) {
            faults.append(
                StoreFinding(
                    .updateRecord,
                    "the \(type.rawValue) update of a device does not follow its effective package, and nothing will make it",
                    remedy: again
                )
            )
        }
        let entered = OtaUpdateState.allCases.map { "WHEN '\($0.rawValue)' THEN \($0.rawValue.lowercased())_time" }
        if try db.exists(
            "SELECT 1 FROM update_record WHERE type = ? AND CASE state \(entered.joined(separator: " ")) ELSE 0 END IS NULL",
            [type.rawValue]
        ) {
            faults.append(
                StoreFinding(
                    .updateRecord,
                    "a \(type.rawValue) update is in a state that it never entered",
                    remedy: again
                )
            )
        }
        if try db.exists(
            """
            SELECT 1 FROM \(devices) JOIN assignment a ON a.device = d.no
            WHERE a.type = ? AND a.package_id IS NOT \(type.effective) AND \(isReached)
            """,
            [type.rawValue]
        ) {
            faults.append(
                StoreFinding(
                    .staleAssignment,
                    "an assignment waits that is not the device's effective \(type.rawValue) package",
                    remedy: again
                )
            )
        }
        return faults
    }
}
