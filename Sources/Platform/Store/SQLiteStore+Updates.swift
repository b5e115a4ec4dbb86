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
        return try await self.write(repeatable: true) { [progress, numbers] db, effects in
            let number = try numbers.number(of: device, db)
            let row = try db.presentState(number, report.type)
            let error = report.error.map { String($0.prefix(Self.errorLengthMax)) }
            let told = report.progress.map { min(max($0, 0), 100) }
            guard let text = report.state else {
                guard let row else { return .flagged }
                return try db.complete(row, number, report.type, progress: told, error: error, now: now)
            }
            guard let row else {
                try db.appendHistory(number, report, text, title: "", version: "", accepted: false, error)
                return .flagged
            }
            let present: OtaUpdateState = try row.choice("state")
            let cause = (row["failure_cause"] as String?).flatMap(UpdateCause.init(rawValue:))
            guard let next = OtaUpdateState(rawValue: text), present.takes(next, failedFor: cause) else {
                try db.appendHistory(
                    number,
                    report,
                    text,
                    title: row["title"],
                    version: row["version"],
                    accepted: false,
                    error
                )
                return .flagged
            }
            guard next != present else {
                return try db.complete(row, number, report.type, progress: told, error: error, now: now)
            }
            if next == .downloading { progress.forget(device, report.type) }
            try db.enter(next, number, report.type, at: report.timestamp, now: now, progress: told, error: error)
            effects.updateEvents = true
            try db.appendHistory(
                number,
                report,
                text,
                title: row["title"],
                version: row["version"],
                accepted: true,
                error
            )
            return .recorded(next)
        }
    }

    /// Stores why a failed update failed.
    public func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws {
        try await self.write(repeatable: true) { db, _ in
            let number = try db.number(of: device)
            try db.run(
                "UPDATE update_record SET error_class = ? WHERE device = ? AND type = ? AND state = 'FAILED'",
                [errorClass?.rawValue, number, type.rawValue]
            )
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
        return try await self.write(repeatable: true) { db, effects in
            let found = try db.row(
                """
                SELECT d.no, coalesce(d.\(type.ownColumn), p.\(type.ownColumn)) AS package
                FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE d.id = ?
                """,
                [device.uuid]
            )
            guard let found, found.idIfPresent("package") == packageId else { return false }
            let number: Int64 = found["no"]
            guard try db.initiate(number, type, at: now) else { return false }
            effects.updateEvents = true
            let deleted = try db.deleteAttributes(number, .shared, obsolete)
            for (key, value) in attributes.members {
                try db.insertAttribute(number, .shared, key, value, at: time)
            }
            if !deleted.isEmpty { effects.notifications.append((device, .attributesDeleted(deleted))) }
            effects.notifications.append((device, .attributesUpdated(attributes)))
            return true
        }
    }

    /// Counts bytes served to a device, for its progress.
    public func served(_ range: Range<Int64>, of package: OtaPackage, to device: DeviceId) {
        guard self.progress.served(range, of: package, to: device) else { return }
        self.writer.writeLater { [progress, now] db, _ in try db.store(progress.drain(), at: now()) }
    }

    /// Stores what was counted since the last time.
    func storeProgress() async throws {
        guard self.progress.beginInterval() else { return }
        // Taken away by the writer's thread, so that a count never comes after the report that begins anew.
        try await self.write { [progress, now] db, _ in try db.store(progress.drain(), at: now()) }
    }
}

extension Database {
    /// The row of an update record.
    fileprivate func record(_ device: Int64, _ type: OtaPackageType) throws -> Row? {
        try self.row("SELECT * FROM update_record WHERE device = ? AND type = ?", [device, type.rawValue])
    }

    /// The columns of an update record that decide what becomes of it: few, as each report needs them.
    fileprivate func presentState(_ device: Int64, _ type: OtaPackageType) throws -> Row? {
        try self.row(
            """
            SELECT state, title, version, progress, error, failure_cause, queued_time FROM update_record
            WHERE device = ? AND type = ?
            """,
            [device, type.rawValue]
        )
    }

    /// Puts a record into its next state.
    fileprivate func enter(
        _ state: OtaUpdateState,
        _ device: Int64,
        _ type: OtaPackageType,
        at time: Timestamp,
        now: Timestamp,
        progress: Int?,
        error: String?
    ) throws {
        try self.run(
            state.entering,
            [
                state.rawValue, time.rawValue, now.rawValue, state == .updated ? 100 : progress,
                state == .failed ? error : nil,
                device,
                type.rawValue,
            ]
        )
    }

    /// Makes a QUEUED update INITIATED, with its history and time series; any other stays in its state.
    ///
    /// Until a session takes the push that follows, it counts as missed.
    ///
    /// - Returns: Whether the device is to be told; not of an update that the server ended.
    fileprivate func initiate(_ device: Int64, _ type: OtaPackageType, at now: Timestamp) throws -> Bool {
        guard let row = try self.presentState(device, type) else { return true }
        guard row["failure_cause"] as String? == nil else { return false }
        guard try row.choice("state") == OtaUpdateState.queued else {
            try self.run(
                "UPDATE update_record SET push_missed = 1 WHERE device = ? AND type = ?",
                [device, type.rawValue]
            )
            return true
        }
        // Later than QUEUED by all means: the series `fw_state` has one value for each millisecond, and both are to be seen.
        let queued: Int64? = row["queued_time"]
        let time = Timestamp(milliseconds: max(now.rawValue, (queued ?? now.rawValue - 1) + 1))
        let state = OtaUpdateState.initiated.rawValue
        try self.enter(.initiated, device, type, at: time, now: now, progress: nil, error: nil)
        try self.appendHistory(
            device,
            StateReport(type: type, state: state, timestamp: time),
            state,
            title: row["title"],
            version: row["version"],
            accepted: true,
            nil
        )
        try self.insertPoint(device, "\(type.prefix)_state", time, .string(state))
        return true
    }

    /// Takes over what a report adds to a record that is in the reported state already.
    fileprivate func complete(
        _ row: Row,
        _ device: Int64,
        _ type: OtaPackageType,
        progress: Int?,
        error: String?,
        now: Timestamp
    ) throws -> StateReportResult {
        let state: OtaUpdateState = try row.choice("state")
        let known: Int? = row["progress"]
        let knownError: String? = row["error"]
        let newProgress = state.isFinal ? known : progress ?? known
        let newError = state == .failed ? error ?? knownError : knownError
        guard newProgress != known || newError != knownError else { return .duplicate(state) }
        try self.run(
            "UPDATE update_record SET progress = ?, error = ?, active_time = ? WHERE device = ? AND type = ?",
            [newProgress, newError, now.rawValue, device, type.rawValue]
        )
        return .recorded(state)
    }

    fileprivate func appendHistory(
        _ device: Int64,
        _ report: StateReport,
        _ state: String,
        title: String,
        version: String,
        accepted: Bool,
        _ error: String?
    ) throws {
        try self.run(
            """
            INSERT INTO update_history (device, type, title, version, state, timestamp, accepted, error)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                device, report.type.rawValue, title, version, String(state.prefix(SQLiteStore.stateLengthMax)),
                report.timestamp.rawValue, accepted, error,
            ]
        )
    }

    /// Stores counted progress; it never lowers what is known, and what is over stays as it is.
    fileprivate func store(_ counts: [ProgressCounter.Count], at now: Timestamp) throws {
        for count in counts {
            try self.run(
                """
                UPDATE update_record SET progress = ?1, active_time = ?5
                WHERE device = (SELECT no FROM device WHERE id = ?2) AND type = ?3 AND package_id = ?4
                    AND state NOT IN ('UPDATED', 'FAILED') AND (progress IS NULL OR progress < ?1)
                """,
                [count.percent, count.device.uuid, count.type.rawValue, count.package.uuid, now.rawValue]
            )
        }
    }
}

extension OtaUpdateState {
    /// The column of the time when a state was last entered.
    fileprivate var timeColumn: String { "\(self.rawValue.lowercased())_time" }

    /// The statement that enters this state.
    ///
    /// With DOWNLOADING progress begins anew; after a failure it is a new attempt. One that the server queued is counted then.
    fileprivate var entering: String { Self.enteringStatements[self] ?? "" }

    /// Until a session takes the push that follows INITIATED, it counts as missed; whoever reports anything else knows.
    ///
    /// Made once, as it is used for every report.
    private static let enteringStatements: [OtaUpdateState: String] = Dictionary(
        uniqueKeysWithValues: Self.allCases.map { state in
            let isAttempt = state == .downloading
            let statement = """
                UPDATE update_record SET state = ?, \(state.timeColumn) = ?, active_time = ?,
                    progress = \(isAttempt ? "?" : "coalesce(?, progress)"),
                    attempts = \(isAttempt ? "CASE state WHEN 'FAILED' THEN attempts + 1 ELSE max(attempts, 1) END" : "attempts"),
                    error = ?, error_class = NULL, failure_cause = NULL, retry_time = NULL,
                    push_missed = \(state == .initiated ? 1 : 0)
                WHERE device = ? AND type = ?
                """
            return (state, statement)
        }
    )
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
