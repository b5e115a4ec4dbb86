import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: UpdateProgressService {
    /// Updates that are in a state and did not move since a time, those first that stand still the longest.
    public func stalledUpdates(
        in state: OtaUpdateState,
        since: Timestamp,
        limit: Int
    ) async throws -> [StalledUpdate] {
        try await self.followClock()
        let due = self.due(since)
        return try await self.read { db in
            // The index update_record_active has just these rows, in this order.
            try db.rows(
                """
                SELECT \(UpdateRecord.columns), d.id, d.name, p.name AS profile_name
                FROM \(UpdateRecord.table) JOIN device d ON d.no = r.device JOIN device_profile p ON p.id = d.device_profile_id
                WHERE r.state = ? AND \(ClockLeap.isDue("r.active_time")) ORDER BY r.active_time LIMIT ?
                """,
                [state.rawValue] + due + [max(0, limit)]
            ).map { row in
                StalledUpdate(
                    device: Originator(id: row["id"], name: row["name"], type: row["profile_name"]),
                    record: try UpdateRecord(row: row, of: row.id("id"))
                )
            }
        }
    }

    /// Lets an update that stands still count anew, if it did not move meanwhile.
    public func toldStalled(_ update: StalledUpdate) async throws {
        let now = self.now()
        try await self.write { db, _ in
            try db.run(
                """
                UPDATE update_record SET active_time = ?
                WHERE device = (SELECT no FROM device WHERE id = ?) AND type = ? AND state = ? AND active_time = ?
                """,
                [
                    now.rawValue, update.record.deviceId.uuid, update.record.type.rawValue,
                    update.record.state.rawValue,
                    update.record.activeTime.rawValue,
                ]
            )
        }
    }

    /// Ends an update as FAILED, unless it is over or moved meanwhile.
    public func fail(
        _ device: DeviceId,
        _ type: OtaPackageType,
        ifUnmovedSince since: Timestamp?,
        cause: UpdateCause?,
        reason: String,
        retryAt retryTime: Timestamp?
    ) async throws -> Bool {
        let (now, pointTime) = (self.now(), self.serverTime(for: device))
        return try await self.write { db, effects in
            let number = try db.number(of: device)
            let isUnderWay = try db.exists(
                """
                SELECT 1 FROM update_record WHERE device = ?1 AND type = ?2 AND state NOT IN ('UPDATED', 'FAILED')
                    AND active_time = coalesce(?3, active_time)
                """,
                [number, type.rawValue, since?.rawValue]
            )
            guard isUnderWay else { return false }
            try db.fail([number], type: type, cause: cause, reason: reason, at: now, pointsAt: pointTime)
            if let retryTime {
                try db.run(
                    "UPDATE update_record SET retry_time = ? WHERE device = ? AND type = ?",
                    [retryTime.rawValue, number, type.rawValue]
                )
            }
            effects.updateEvents = true
            return true
        }
    }

    /// Notes when a FAILED update is to begin again.
    public func scheduleRetry(of device: DeviceId, _ type: OtaPackageType, at time: Timestamp) async throws -> Bool {
        try await self.write { db, _ in
            try db.run(
                """
                UPDATE update_record SET retry_time = ?
                WHERE device = ? AND type = ? AND state = 'FAILED' AND failure_cause IS NOT 'CANCELLED'
                    AND package_id = (
                        SELECT coalesce(d.\(type.ownColumn), p.\(type.ownColumn))
                        FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE d.no = update_record.device)
                """,
                [time.rawValue, try db.number(of: device), type.rawValue]
            )
            return db.changesCount > 0
        }
    }

    /// Begins again what is due.
    public func releaseRetries(until now: Timestamp, limit: Int) async throws -> (count: Int, next: Timestamp?) {
        try await self.followClock()
        let due = self.due(now)
        let condition = "retry_time IS NOT NULL AND \(ClockLeap.isDue("retry_time"))"
        let isDue = try await self.read { db in
            try db.exists("SELECT 1 FROM update_record WHERE \(condition)", due)
        }
        var count = 0
        if isDue {
            let (time, pointTime) = (self.now(), self.serverTime())
            count = try await self.write { db, effects in
                let rows = try db.rows(
                    """
                    SELECT device, type FROM update_record
                    WHERE \(condition) ORDER BY retry_time LIMIT ?
                    """,
                    due + [max(0, limit)]
                )
                for type in OtaPackageType.allCases {
                    let due = rows.filter { $0["type"] as String == type.rawValue }.map { $0["device"] as Int64 }
                    // The package may have been taken away since; what an update came to stays known.
                    let current = try db.retryable(due, type: type)
                    try db.queueAgain(current, type: type, cause: .retried, at: time, pointsAt: pointTime)
                    for device in Set(due).subtracting(current) {
                        try db.run(
                            "UPDATE update_record SET retry_time = NULL WHERE device = ? AND type = ?",
                            [device, type.rawValue]
                        )
                    }
                }
                effects.assignments = true
                return rows.count
            }
        }
        let next = try await self.read { db in
            try db.integer("SELECT min(retry_time) FROM update_record WHERE retry_time IS NOT NULL")
        }
        return (count, next.map(Timestamp.init(milliseconds:)))
    }

    /// The packages that a device should have been told of and was not.
    public func missedPushes(of device: DeviceId) async throws -> [Assignment] {
        let now = self.now()
        return try await self.read { db in
            try db.rows(
                """
                SELECT r.type AS package_type, r.package_id, d.id, d.name, p.name AS type
                FROM device d JOIN update_record r ON r.device = d.no
                    JOIN device_profile p ON p.id = d.device_profile_id
                WHERE d.id = ? AND r.push_missed = 1 AND r.state NOT IN ('UPDATED', 'FAILED')
                """,
                [device.uuid]
            ).map { row in
                Assignment(
                    id: 0,
                    device: Originator(row: row),
                    type: try row.choice("package_type"),
                    packageId: row.idIfPresent("package_id"),
                    cause: .resent,
                    timestamp: now
                )
            }
        }
    }
}

extension SQLiteStore {
    /// Notes that a device learned of a package whose push it missed.
    public func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws {
        let push = TakenPush(device: device, type: type, package: packageId)
        let now = self.now()
        try await self.write(repeatable: true) { db, _ in try push.store(db, at: now) }
    }

    /// What became of updates after an entry of the history.
    public func updateEvents(after id: Int64, limit: Int) async throws -> [UpdateEvent] {
        try await self.read { db in
            try db.rows(
                """
                SELECT h.id AS number, h.type AS package_type, h.title, h.version, h.state, h.timestamp, h.error, h.cause,
                    d.id, d.name, p.name AS type, k.id AS package_id
                FROM update_history h JOIN device d ON d.no = h.device JOIN device_profile p ON p.id = d.device_profile_id
                    LEFT JOIN ota_package k ON k.tenant_id = d.tenant_id AND k.title = h.title AND k.version = h.version
                WHERE h.id > ? AND h.accepted = 1 ORDER BY h.id LIMIT ?
                """,
                [id, max(0, limit)]
            ).map { row in
                UpdateEvent(
                    device: Originator(row: row),
                    entry: UpdateHistoryEntry(
                        id: row["number"],
                        deviceId: row.id("id"),
                        type: try row.choice("package_type"),
                        title: row["title"],
                        version: row["version"],
                        state: row["state"],
                        timestamp: row.time("timestamp"),
                        accepted: true,
                        error: row["error"],
                        cause: (row["cause"] as String?).flatMap(UpdateCause.init(rawValue:))
                    ),
                    packageId: row.idIfPresent("package_id")
                )
            }
        }
    }

    /// Up to which entry a reader has come; one that is new has come to the newest.
    public func eventsRead(by reader: String) async throws -> Int64 {
        try await self.write { db, _ in
            try db.run(
                """
                INSERT INTO event_reader (name, last_read)
                VALUES (?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'update_history'), 0))
                ON CONFLICT (name) DO NOTHING
                """,
                [reader]
            )
            return try db.integer("SELECT last_read FROM event_reader WHERE name = ?", [reader]) ?? 0
        }
    }

    /// Notes up to which entry a reader has come.
    public func setEventsRead(by reader: String, to id: Int64) async throws {
        try await self.write { db, _ in
            try db.run("UPDATE event_reader SET last_read = ? WHERE name = ?", [id, reader])
        }
    }

    /// Returns when there may be an entry after this one, or the task is cancelled.
    public func waitForUpdateEvents(after id: Int64) async throws {
        while !Task.isCancelled {
            // Read first: what comes after the query raises the signal again.
            let count = self.updateEventsAdded.count
            let isThere = try await self.read { db in
                try db.exists("SELECT 1 FROM update_history WHERE id > ? AND accepted = 1 LIMIT 1", [id])
            }
            if isThere { return }
            await self.updateEventsAdded.wait(since: count)
        }
    }
}

extension Database {
    /// Those among some devices whose FAILED update is to the package that they should have.
    fileprivate func retryable(_ devices: [Int64], type: OtaPackageType) throws -> [Int64] {
        guard !devices.isEmpty else { return [] }
        return try self.rows(
            """
            SELECT r.device FROM update_record r JOIN device d ON d.no = r.device
                JOIN device_profile p ON p.id = d.device_profile_id
            WHERE r.type = ? AND r.state = 'FAILED' AND r.package_id = coalesce(d.\(type.ownColumn), p.\(type.ownColumn))
                AND r.device IN (SELECT value FROM json_each(?))
            """,
            [type.rawValue, JSON.array(devices.map(JSON.integer)).description]
        ).map { $0["device"] }
    }
}
