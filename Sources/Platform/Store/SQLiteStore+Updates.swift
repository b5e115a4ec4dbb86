import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: UpdateService {
    /// The most characters kept of what a device says about a failure.
    static let errorLengthMax = 1024
    /// The most characters kept of a state that is none of ours.
    static let stateLengthMax = 255

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
                    cause: (row["cause"] as String?).flatMap(UpdateCause.init(rawValue:))
                )
            }
        }
    }

    /// Records what a device told.
    public func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult {
        let now = self.now()
        return try await self.write(repeatable: true) { [progress, numbers, statements] db, effects in
            let number = try numbers.number(of: device, db)
            let present = try statements.presentUpdate(number, report.type, db)
            let error = report.error.map { String($0.prefix(Self.errorLengthMax)) }
            let told = report.progress.map { min(max($0, 0), 100) }
            guard let text = report.state else {
                guard let present else { return .flagged }
                return try statements.complete(present, number, report.type, progress: told, error: error, now: now, db)
            }
            let next = OtaUpdateState(rawValue: text)
            guard let present, let next, present.state.takes(next, failedFor: present.cause) else {
                try statements.appendHistory(number, report, text, of: present, accepted: false, error, db)
                return .flagged
            }
            guard next != present.state else {
                return try statements.complete(present, number, report.type, progress: told, error: error, now: now, db)
            }
            if next == .downloading { progress.forget(device, report.type) }
            try statements.enter(next, number, report.type, at: report.timestamp, now: now, progress: told, error, db)
            effects.updateEvents = true
            try statements.appendHistory(number, report, text, of: present, accepted: true, error, db)
            return .recorded(next)
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
        at time: Timestamp
    ) async throws -> Bool {
        try Self.checkKeys(attributes)
        let now = self.now()
        return try await self.write(repeatable: true) { [statements] db, effects in
            let found = try statements.effectivePackage(type).row(db) { arguments in
                try arguments.add(device.uuid)
            } read: { columns in
                (number: columns.integer(0), package: columns.identifier(1))
            }
            guard let found, found.package == packageId.uuid else { return false }
            let number = found.number
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
    }

    /// Counts bytes served to a device, for its progress.
    public func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId) {
        guard self.progress.served(range, of: package, to: device) else { return }
        self.writer.writeLater { [progress, statements, now] db, _ in
            try statements.store(progress.drain(), at: now(), db)
        }
    }

    /// Stores what was counted since the last time.
    func storeProgress() async throws {
        guard self.progress.beginInterval() else { return }
        // Taken away by the writer's thread, so that a count never comes after the report that begins anew.
        try await self.write { [progress, statements, now] db, _ in
            try statements.store(progress.drain(), at: now(), db)
        }
    }
}

extension Database {
    /// The row of an update record.
    fileprivate func record(_ device: Int64, _ type: OtaPackageType) throws -> Row? {
        try self.row("SELECT * FROM update_record WHERE device = ? AND type = ?", [device, type.rawValue])
    }
}

/// What of an update record decides what becomes of it.
private struct PresentUpdate {
    var state: OtaUpdateState
    var title: String
    var version: String
    var progress: Int64?
    var error: String?
    var cause: UpdateCause?
    var queuedTime: Int64?
}

extension DeviceStatements {
    fileprivate func presentUpdate(_ device: Int64, _ type: OtaPackageType, _ db: Database) throws -> PresentUpdate? {
        try self.presentUpdate.row(db) { arguments in
            try arguments.add(device)
            try arguments.add(type.rawValue)
        } read: { columns in
            guard let state = columns.text(0).flatMap(OtaUpdateState.init(rawValue:)) else {
                throw NodeError(.internalError, "the database holds an unknown 'state'; check the store")
            }
            return PresentUpdate(
                state: state,
                title: columns.text(1) ?? "",
                version: columns.text(2) ?? "",
                progress: columns.integerIfPresent(3),
                error: columns.text(4),
                cause: columns.text(5).flatMap(UpdateCause.init(rawValue:)),
                queuedTime: columns.integerIfPresent(6)
            )
        }
    }

    /// Puts a record into its next state.
    fileprivate func enter(
        _ state: OtaUpdateState,
        _ device: Int64,
        _ type: OtaPackageType,
        at time: Timestamp,
        now: Timestamp,
        progress: Int?,
        _ error: String?,
        _ db: Database
    ) throws {
        try self.entering(state).run(db) { arguments in
            try arguments.add(state.rawValue)
            try arguments.add(time.rawValue)
            try arguments.add(now.rawValue)
            try arguments.add(state == .updated ? 100 : progress.map(Int64.init))
            try arguments.add(state == .failed ? error : nil)
            try arguments.add(device)
            try arguments.add(type.rawValue)
        }
    }

    /// Makes a QUEUED update INITIATED, with its history and time series; any other stays in its state.
    ///
    /// Until a session takes the push that follows, it counts as missed.
    ///
    /// - Returns: Whether the device is to be told; not of an update that the server ended.
    fileprivate func initiate(_ device: Int64, _ type: OtaPackageType, at now: Timestamp, _ db: Database) throws -> Bool
    {
        guard let present = try self.presentUpdate(device, type, db) else { return true }
        guard present.cause == nil else { return false }
        guard present.state == .queued else {
            try self.missedPush.run(db) { arguments in
                try arguments.add(device)
                try arguments.add(type.rawValue)
            }
            return true
        }
        // Later than QUEUED by all means: the series `fw_state` has one value for each millisecond, and both are to be seen.
        let time = Timestamp(milliseconds: max(now.rawValue, (present.queuedTime ?? now.rawValue - 1) + 1))
        let state = OtaUpdateState.initiated.rawValue
        try self.enter(.initiated, device, type, at: time, now: now, progress: nil, nil, db)
        let report = StateReport(type: type, state: state, timestamp: time)
        try self.appendHistory(device, report, state, of: present, accepted: true, nil, db)
        try self.insertPoint(device, "\(type.prefix)_state", time, .string(state), db)
        return true
    }

    /// Takes over what a report adds to a record that is in the reported state already.
    fileprivate func complete(
        _ present: PresentUpdate,
        _ device: Int64,
        _ type: OtaPackageType,
        progress: Int?,
        error: String?,
        now: Timestamp,
        _ db: Database
    ) throws -> StateReportResult {
        let newProgress = present.state.isFinal ? present.progress : progress.map(Int64.init) ?? present.progress
        let newError = present.state == .failed ? error ?? present.error : present.error
        guard newProgress != present.progress || newError != present.error else { return .duplicate(present.state) }
        try self.completion.run(db) { arguments in
            try arguments.add(newProgress)
            try arguments.add(newError)
            try arguments.add(now.rawValue)
            try arguments.add(device)
            try arguments.add(type.rawValue)
        }
        return .recorded(present.state)
    }

    /// Stores counted progress.
    fileprivate func store(_ counts: [ProgressCounter.Count], at now: Timestamp, _ db: Database) throws {
        for count in counts {
            try self.countedProgress.run(db) { arguments in
                try arguments.add(Int64(count.percent))
                try arguments.add(now.rawValue)
                try arguments.add(count.device.uuid)
                try arguments.add(count.type.rawValue)
                try arguments.add(count.package.uuid)
            }
        }
    }

    fileprivate func appendHistory(
        _ device: Int64,
        _ report: StateReport,
        _ state: String,
        of present: PresentUpdate?,
        accepted: Bool,
        _ error: String?,
        _ db: Database
    ) throws {
        try self.historyEntry.run(db) { arguments in
            try arguments.add(device)
            try arguments.add(report.type.rawValue)
            try arguments.add(present?.title ?? "")
            try arguments.add(present?.version ?? "")
            try arguments.add(String(state.prefix(SQLiteStore.stateLengthMax)))
            try arguments.add(report.timestamp.rawValue)
            try arguments.add(accepted)
            try arguments.add(error)
        }
    }
}

extension OtaUpdateState {
    /// The column of the time when a state was last entered.
    fileprivate var timeColumn: String { "\(self.rawValue.lowercased())_time" }

    /// The statement that enters this state.
    ///
    /// With DOWNLOADING progress begins anew; after a failure it is a new attempt. One that the server queued is counted then.
    /// Until a session takes the push that follows INITIATED, it counts as missed; whoever reports anything else knows.
    var entering: String {
        let isAttempt = self == .downloading
        return """
            UPDATE update_record SET state = ?, \(self.timeColumn) = ?, active_time = ?,
                progress = \(isAttempt ? "?" : "coalesce(?, progress)"),
                attempts = \(isAttempt ? "CASE state WHEN 'FAILED' THEN attempts + 1 ELSE max(attempts, 1) END" : "attempts"),
                error = ?, error_class = NULL, failure_cause = NULL, retry_time = NULL,
                push_missed = \(self == .initiated ? 1 : 0)
            WHERE device = ? AND type = ?
            """
    }
}

extension UpdateRecord {
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
            activeTime: row.time("active_time")
        )
    }
}
