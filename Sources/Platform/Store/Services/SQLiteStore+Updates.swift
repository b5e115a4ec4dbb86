import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: UpdateService {
    /// The update record of a device, if there is one.
    public func updateRecord(of device: DeviceId, type: OtaPackageType) async throws -> UpdateRecord? {
        try await self.read { db in
            guard let number = try db.integer("SELECT no FROM device WHERE id = ?", [device.uuid]) else { return nil }
            return try db.record(number, type).map { try UpdateRecord(row: $0, of: device) }
        }
    }

    /// The history of a device's updates of a type, oldest first.
    public func updateHistory(of device: DeviceId, type: OtaPackageType) async throws -> [UpdateHistoryEntry] {
        try await self.read { db in
            try db.rows(
                """
                SELECT h.* FROM update_history h
                WHERE h.device = (SELECT no FROM device WHERE id = ?) AND h.type = ? ORDER BY h.id
                """,
                [device.uuid, type.rawValue]
            ).map { row in
                UpdateHistoryEntry(
                    id: row["id"],
                    deviceId: device,
                    type: type,
                    title: row["title"],
                    version: row["version"],
                    state: row["state"],
                    timestamp: row.time("timestamp"),
                    accepted: row["accepted"],
                    error: row["error"],
                    cause: (row["cause"] as String?).flatMap(UpdateCause.init(rawValue:)),
                    flag: (row["flag"] as String?).flatMap(ReportFlag.init(rawValue:))
                )
            }
        }
    }

    /// Records what a device reports.
    public func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult {
        let now = self.now()
        var report = report
        report.timestamp = self.plausible(report.timestamp, at: now)
        return try await self.write(repeatable: true) { [report, progress, numbers, statements, times] db, effects in
            let number = try numbers.number(of: device, db)
            try statements.massAssignments.follow(device, report.type, at: now, db, &effects)
            let recording = ReportRecording(statements, number, report, now: now, db) {
                times.take(1, for: device, at: now)
            }
            // What was served counts at the end of an update, and when another attempt begins, before it is stored by itself.
            if report.needsServed { try statements.store(progress, of: device, [report.type], at: now, db, &effects) }
            let given = progress.package(givenTo: device, report.type)
            let result = try recording.carryOut(given: given)
            effects.updateEvents = effects.updateEvents || result.isEvent
            return result
        }
    }

    /// Stores why a failed update failed.
    public func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws {
        try await self.write(repeatable: true) { [numbers, statements] db, _ in
            let number = try numbers.number(of: device, db)
            try statements.errorClass.run(db) { arguments in
                try arguments.add(errorClass?.rawValue)
                try arguments.add(number)
                try arguments.add(type.rawValue)
            }
        }
    }

    /// Makes a QUEUED update INITIATED and writes the shared attributes that tell the device of it, if its package is still the
    /// effective one.
    public func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        generation: Int64?,
        at time: Timestamp
    ) async throws -> Bool {
        try ValueRules.checkKeys(attributes)
        let now = self.serverTime(for: device)
        let isCurrent = try await self.write(repeatable: true) { [statements] db, effects in
            let found = try statements.effectivePackage(type).row(db) { arguments in
                try arguments.add(device.uuid)
            } read: { columns -> (number: Int64, package: OtaPackageId?, generation: Int64) in
                let own = columns.identifier(1).map(OtaPackageId.init)
                let ofProfile = columns.identifier(2).map(OtaPackageId.init)
                return (
                    columns.integer(0), AssignmentRules.effective(own: own, ofProfile: ofProfile), columns.integer(3)
                )
            }
            guard let found, found.package == packageId else { return false }
            guard generation == nil || generation == found.generation else { return false }
            let number = found.number
            try statements.massAssignments.follow(device, type, at: now, db, &effects)
            guard try statements.initiate(number, type, at: now, db) else { return false }
            effects.updateEvents = true
            let deleted = try statements.deleteAttributes(number, .shared, obsolete, db)
            for (key, value) in attributes.members {
                try statements.insertAttribute(number, .shared, key, value, at: time, db)
            }
            if !deleted.isEmpty { effects.notifications.append((device, .attributesDeleted(deleted))) }
            effects.notifications.append((device, .attributesUpdated(attributes)))
            return true
        }
        // Before that, the message of which this is the end must not be settled: a device is rather notified twice than not at all.
        if isCurrent { await self.sessions.flushed(device.uuid) }
        return isCurrent
    }

    /// Takes the shared attributes of a package away from a device that should not install it any more.
    public func withdraw(
        from device: DeviceId,
        type: OtaPackageType,
        isCancelled: Bool,
        generation: Int64?
    ) async throws -> Bool {
        let isCurrent = try await self.remove { [statements] db, effects in
            let number = try db.number(of: device)
            let facts = try db.row(
                """
                SELECT \(type.effective) AS package_id, d.\(type.generationColumn) AS generation, r.failure_cause
                FROM device d JOIN device_profile p ON p.id = d.device_profile_id
                    LEFT JOIN update_record r ON r.device = d.no AND r.type = ?
                WHERE d.no = ?
                """,
                [type.rawValue, number]
            )
            guard let facts, generation == nil || generation == facts["generation"] as Int64 else { return false }
            // The package of a cancelled update still is the device's, for whoever retries it.
            let isCurrent =
                isCancelled
                ? facts["failure_cause"] as String? == UpdateCause.cancelled.rawValue
                : facts.idIfPresent("package_id") as OtaPackageId? == nil
            guard isCurrent else { return false }
            let deleted = try statements.deleteAttributes(number, .shared, type.pushedAttributeNames, db)
            if !deleted.isEmpty { effects.notifications.append((device, .attributesDeleted(deleted))) }
            return true
        }
        if isCurrent { await self.sessions.flushed(device.uuid) }
        return isCurrent
    }
}

extension Database {
    /// The row of an update record, with what the device says it runs.
    fileprivate func record(_ device: Int64, _ type: OtaPackageType) throws -> Row? {
        try self.row(
            "SELECT \(UpdateRecord.columns) FROM \(UpdateRecord.table) WHERE r.device = ? AND r.type = ?",
            [device, type.rawValue]
        )
    }
}
