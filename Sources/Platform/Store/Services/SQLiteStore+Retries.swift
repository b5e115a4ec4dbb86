import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: UpdateRetryService {
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
        return try await self.write { [massAssignments] db, effects in
            let number = try db.number(of: device)
            try massAssignments.follow(device, type, at: now, db, &effects)
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
        let now = self.now()
        return try await self.write { [massAssignments] db, effects in
            try massAssignments.follow(device, type, at: now, db, &effects)
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
