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
            guard let update = try db.standing(of: number, type), UpdateRules.mayEnd(update, ifUnmovedSince: since)
            else { return false }
            try db.fail([number], type: type, cause: cause, reason: reason, at: now, pointsAt: pointTime)
            if let retryTime {
                try db.setRetryTime(retryTime, of: number, type)
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
            let number = try db.number(of: device)
            guard let update = try db.standing(of: number, type), UpdateRules.mayScheduleRetry(of: update) else {
                return false
            }
            try db.setRetryTime(time, of: number, type)
            return true
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
                    for device in Set(due).subtracting(current) { try db.setRetryTime(nil, of: device, type) }
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
    /// What of an update decides what the server may do with it.
    fileprivate func standing(of device: Int64, _ type: OtaPackageType) throws -> UpdateStanding? {
        try self.row(
            """
            SELECT r.state, r.failure_cause, r.active_time, r.retry_time, r.package_id,
                d.\(type.ownColumn) AS own, p.\(type.ownColumn) AS of_profile
            FROM update_record r JOIN device d ON d.no = r.device JOIN device_profile p ON p.id = d.device_profile_id
            WHERE r.device = ? AND r.type = ?
            """,
            [device, type.rawValue]
        ).map { row in
            let target: OtaPackageId? = row.idIfPresent("package_id")
            let effective = AssignmentRules.effective(
                own: row.idIfPresent("own"),
                ofProfile: row.idIfPresent("of_profile")
            )
            return UpdateStanding(
                state: try row.choice("state"),
                failureCause: (row["failure_cause"] as String?).flatMap(UpdateCause.init(rawValue:)),
                activeTime: row.time("active_time"),
                retryTime: (row["retry_time"] as Int64?).map(Timestamp.init(milliseconds:)),
                isCurrent: target != nil && target == effective
            )
        }
    }

    fileprivate func setRetryTime(_ time: Timestamp?, of device: Int64, _ type: OtaPackageType) throws {
        try self.run(
            "UPDATE update_record SET retry_time = ? WHERE device = ? AND type = ?",
            [time?.rawValue, device, type.rawValue]
        )
    }

    /// Those among some devices whose updates are retried now; see ``UpdateRules/fits(_:_:)``.
    fileprivate func retryable(_ devices: [Int64], type: OtaPackageType) throws -> [Int64] {
        guard !devices.isEmpty else { return [] }
        return try self.rows(
            """
            SELECT r.device FROM update_record r JOIN device d ON d.no = r.device
            WHERE r.type = ? AND \(UpdateConditions.retryable(type).joined(separator: " AND "))
                AND r.device IN (SELECT value FROM json_each(?))
            """,
            [type.rawValue, JSON.array(devices.map(JSON.integer)).description]
        ).map { $0["device"] }
    }
}
