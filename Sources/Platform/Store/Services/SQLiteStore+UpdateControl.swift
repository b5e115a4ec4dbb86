import FoundationEssentials
import GRDB
import NodeKit
public import OTA

extension SQLiteStore: UpdateControlService {
    /// How many devices a command changes in one transaction: few enough that reports of others do not wait for long.
    static let commandBatchSize = 1000

    /// A page of update records with what a list shows of their devices.
    public func findUpdates(_ filter: UpdateFilter, page: PageLink) async throws -> Page<ListedUpdate> {
        let conditions = UpdateConditions(filter)
        let query = PageQuery(
            select: "SELECT \(UpdateRecord.columns), d.id AS device_id, d.name AS device_name, d.device_profile_id",
            from: "FROM \(UpdateRecord.table) JOIN device d ON d.no = r.device",
            conditions: conditions.list,
            arguments: conditions.arguments,
            searched: "d.name",
            // The number of a device grows with the time of its creation, and the records are in its order.
            sortable: [
                "createdTime": "r.device", "deviceName": "d.name", "state": "r.state", "lastChange": "r.active_time",
                "title": "r.title", "version": "r.version", "attempts": "r.attempts",
            ],
            tieBreaker: "r.type, r.device"
        )
        return try await self.read { db in
            try query.page(page, db) { row in
                ListedUpdate(
                    record: try UpdateRecord(row: row, of: row.id("device_id")),
                    deviceName: row["device_name"],
                    deviceProfileId: row.id("device_profile_id")
                )
            }
        }
    }

    /// How many updates there are in each state.
    public func countUpdates(_ filter: UpdateFilter) async throws -> [OtaUpdateState: Int] {
        let conditions = UpdateConditions(filter)
        return try await self.read { db in
            let rows = try db.rows(
                """
                SELECT r.state, count(*) AS count FROM update_record r JOIN device d ON d.no = r.device
                WHERE \(conditions.list.joined(separator: " AND ")) GROUP BY r.state
                """,
                conditions.arguments
            )
            return Dictionary(uniqueKeysWithValues: try rows.map { (try $0.choice("state"), $0["count"]) })
        }
    }

    /// How many devices with such an update say they run each version, most frequent first.
    public func countInstalled(_ filter: UpdateFilter) async throws -> [InstalledCount] {
        let conditions = UpdateConditions(filter)
        return try await self.read { db in
            try db.rows(
                """
                SELECT r.type, v.title, v.version, count(*) AS count
                FROM \(UpdateRecord.table) JOIN device d ON d.no = r.device
                WHERE \(conditions.list.joined(separator: " AND ")) GROUP BY r.type, v.title, v.version
                ORDER BY count DESC, r.type, v.title, v.version LIMIT ?
                """,
                conditions.arguments + [InstalledCount.countMax]
            ).map { row in
                InstalledCount(
                    type: try row.choice("type"),
                    running: ReportedVersion(title: row["title"], version: row["version"]),
                    count: row["count"]
                )
            }
        }
    }

    /// How many updates a command would touch, by the conditions by which it finds them.
    public func count(_ command: UpdateCommand, on filter: UpdateFilter) async throws -> Int {
        // As the command does: assignments that are under way create the updates that it is about.
        try await self.finishMassAssignments()
        return try await self.read { db in
            var count = 0
            for type in filter.types {
                count += try db.count(UpdateConditions(filter, type: type, command: command))
            }
            return count
        }
    }

    /// Carries out a command, a batch of devices in each transaction.
    public func carryOut(_ command: UpdateCommand, on filter: UpdateFilter, by who: String) async throws -> Int {
        // What was assigned before the command is what it is about.
        try await self.finishMassAssignments()
        var count = 0
        for type in filter.types {
            let conditions = UpdateConditions(filter, type: type, command: command)
            var last: Int64 = 0
            while true {
                // Found beside the writer, which looks at few rows again: to find three among a million takes long.
                let devices = try await self.read { [last] db in
                    try db.devices(conditions, after: last, limit: Self.commandBatchSize)
                }
                guard let end = devices.last else { break }
                let (now, pointTime) = (self.now(), self.serverTime())
                count += try await self.write { db, effects in
                    let devices = try db.devices(conditions, among: devices)
                    try db.carryOut(command, type: type, on: devices, by: who, at: now, pointsAt: pointTime)
                    effects.assignments = effects.assignments || !devices.isEmpty
                    return devices.count
                }
                last = end
            }
        }
        return count
    }
}

extension UpdateFilter {
    /// The kinds of package that are meant.
    fileprivate var types: [OtaPackageType] { self.type.map { [$0] } ?? OtaPackageType.allCases }
}

/// What the rows `r` of `update_record`, with `d` of `device`, must fulfil.
struct UpdateConditions: Sendable {
    var list: [String] = ["d.tenant_id = ?"]
    var arguments: Arguments

    init(_ filter: UpdateFilter) {
        self.arguments = [filter.tenantId.uuid]
        if let type = filter.type { self.list.append("r.type = '\(type.rawValue)'") }
        if let states = filter.states {
            self.list.append("r.state IN (\(OtaUpdateState.list(states.contains)))")
        }
        if let id = filter.packageId {
            self.list.append("r.package_id = ?")
            self.arguments += [id.uuid]
        }
        if let id = filter.deviceProfileId {
            self.list.append("d.device_profile_id = ?")
            self.arguments += [id.uuid]
        }
        if let devices = filter.devices {
            self.list.append("d.id IN (\(Self.places(for: devices.count)))")
            self.arguments += Arguments(Self.padded(devices.map(\.uuid)))
        }
    }

    /// As many places as a power of two, so that there are few statements to prepare.
    private static func places(for count: Int) -> String {
        Array(repeating: "?", count: Self.power(above: count)).joined(separator: ", ")
    }

    private static func padded(_ ids: [UUID]) -> [UUID?] {
        ids + Array(repeating: ids.last, count: Self.power(above: ids.count) - ids.count)
    }

    private static func power(above count: Int) -> Int {
        var power = 1
        while power < count { power *= 2 }
        return power
    }

    /// The same, and that a command fits the update; ``UpdateRules/fits(_:_:)`` says it of one update.
    init(_ filter: UpdateFilter, type: OtaPackageType, command: UpdateCommand) {
        var filter = filter
        filter.type = type
        self.init(filter)
        switch command {
        case .retry: self.list += Self.retryable(type)
        case .cancel: self.list.append("(r.state NOT IN (\(OtaUpdateState.over)) OR r.retry_time IS NOT NULL)")
        case .resend(let includesUpdated):
            self.list.append(Self.isCurrent(type))
            if !includesUpdated { self.list.append("r.state != 'UPDATED'") }
        }
    }

    /// What rows `r` and `d` must fulfil so that ``UpdateCommand/retry`` fits.
    static func retryable(_ type: OtaPackageType) -> [String] { ["r.state = 'FAILED'", Self.isCurrent(type)] }

    /// Whether the target is the package that the device should have.
    private static func isCurrent(_ type: OtaPackageType) -> String {
        "r.package_id = (SELECT \(type.effective) FROM device_profile p WHERE p.id = d.device_profile_id)"
    }
}

extension Database {
    /// How many updates fulfil conditions.
    fileprivate func count(_ conditions: UpdateConditions) throws -> Int {
        try self.rows(
            """
            SELECT count(*) AS count FROM update_record r JOIN device d ON d.no = r.device
            WHERE \(conditions.list.joined(separator: " AND "))
            """,
            conditions.arguments
        )[0]["count"]
    }

    /// The row numbers of devices whose updates fulfil conditions, in order.
    fileprivate func devices(_ conditions: UpdateConditions, after last: Int64, limit: Int) throws -> [Int64] {
        try self.rows(
            """
            SELECT r.device FROM update_record r JOIN device d ON d.no = r.device
            WHERE \(conditions.list.joined(separator: " AND ")) AND r.device > ? ORDER BY r.device LIMIT ?
            """,
            conditions.arguments + [last, limit]
        ).map { $0["device"] }
    }

    /// Those among some devices whose updates fulfil conditions still.
    fileprivate func devices(_ conditions: UpdateConditions, among devices: [Int64]) throws -> [Int64] {
        try self.rows(
            """
            SELECT r.device FROM update_record r JOIN device d ON d.no = r.device
            WHERE \(conditions.list.joined(separator: " AND ")) AND r.device IN (SELECT value FROM json_each(?))
            """,
            conditions.arguments + [Self.list(devices)]
        ).map { $0["device"] }
    }

    private static func list(_ devices: [Int64]) -> String { JSON.array(devices.map(JSON.integer)).description }

    /// Changes updates that a command fits, and has their devices told.
    fileprivate func carryOut(
        _ command: UpdateCommand,
        type: OtaPackageType,
        on devices: [Int64],
        by who: String,
        at now: Timestamp,
        pointsAt pointTime: Timestamp
    ) throws {
        guard !devices.isEmpty else { return }
        switch command {
        case .retry: try self.queueAgain(devices, type: type, cause: .retried, at: now, pointsAt: pointTime)
        case .resend:
            let queued = OtaUpdateState.list { UpdateRules.queuesAgain(command, $0) }
            let over = try self.rows(
                """
                SELECT device FROM update_record WHERE type = ? AND state IN (\(queued))
                    AND device IN (SELECT value FROM json_each(?))
                """,
                [type.rawValue, Self.list(devices)]
            ).map { $0["device"] as Int64 }
            try self.queueAgain(over, type: type, cause: .resent, at: now, pointsAt: pointTime)
            try self.raiseGeneration(of: devices, type: type, at: now)
            try self.addAssignments(devices, type: type, cause: .resent, at: now)
        case .cancel:
            // Nor does one need to that was notified of nothing else but what it runs: of an earlier package that it does not run, it
            // may have the attributes still.
            let told = try self.rows(
                """
                SELECT device FROM update_record WHERE type = ?
                    AND (initiated_time IS NOT NULL OR state IN (\(OtaUpdateState.list { UpdateRules.mayBeNotified($0, wasInitiated: false) })))
                    AND device IN (SELECT value FROM json_each(?))
                UNION
                SELECT t.device FROM attribute t LEFT JOIN device_package v ON v.device = t.device AND v.type = ?
                WHERE t.scope = 'SHARED_SCOPE' AND t.device IN (SELECT value FROM json_each(?))
                    AND (t.key = ? AND t.value IS NOT v.title OR t.key = ? AND t.value IS NOT v.version)
                """,
                [
                    type.rawValue, Self.list(devices), type.rawValue, Self.list(devices), "\(type.prefix)_title",
                    "\(type.prefix)_version",
                ]
            ).map { $0["device"] as Int64 }
            try self.fail(
                devices,
                type: type,
                cause: .cancelled,
                reason: UpdateRules.cancellation(by: who),
                at: now,
                pointsAt: pointTime
            )
            try self.raiseGeneration(of: devices, type: type, at: now)
            try self.addAssignments(told, type: type, cause: .cancelled, at: now)
        }
    }

    /// Makes updates QUEUED again, with a new attempt, and has their devices told.
    ///
    /// - Parameters:
    ///   - devices: The row numbers of the devices.
    ///   - type: The type of their packages.
    ///   - cause: Why.
    ///   - now: The time of day, as the record has it.
    ///   - pointTime: The time of the points in their series; see ``SQLiteStore/serverTime(for:)``.
    /// - Throws: What the database refuses.
    func queueAgain(
        _ devices: [Int64],
        type: OtaPackageType,
        cause: UpdateCause,
        at now: Timestamp,
        pointsAt pointTime: Timestamp
    ) throws {
        guard !devices.isEmpty else { return }
        let list = Self.list(devices)
        try self.run(
            """
            UPDATE update_record SET state = 'QUEUED', queued_time = ?1, active_time = ?1, progress = NULL,
                attempts = max(attempts, 1) + 1, error = NULL, error_class = NULL, failure_cause = NULL,
                retry_time = NULL, push_missed = 0, interrupted = 0, \(UpdateRecord.attemptEnds)
            WHERE type = ?2 AND device IN (SELECT value FROM json_each(?3))
            """,
            [now.rawValue, type.rawValue, list]
        )
        try self.appendHistory(of: devices, type: type, cause: cause, at: now, pointsAt: pointTime)
        try self.raiseGeneration(of: devices, type: type, at: now)
        try self.addAssignments(devices, type: type, cause: cause, at: now)
    }

    /// Ends updates as FAILED.
    ///
    /// A sentence of ours is in the time series too, as a device's own would be.
    func fail(
        _ devices: [Int64],
        type: OtaPackageType,
        cause: UpdateCause?,
        reason: String,
        at now: Timestamp,
        pointsAt pointTime: Timestamp
    ) throws {
        let list = Self.list(devices)
        let reason = reason.limited(to: UpdateRules.errorLengthMax)
        try self.run(
            """
            UPDATE update_record SET state = 'FAILED', failed_time = ?1, active_time = ?1, error = ?2, error_class = NULL,
                failure_cause = ?3, retry_time = NULL, push_missed = 0
            WHERE type = ?4 AND device IN (SELECT value FROM json_each(?5))
            """,
            [now.rawValue, reason, cause?.rawValue, type.rawValue, list]
        )
        try self.appendHistory(of: devices, type: type, cause: cause, at: now, pointsAt: pointTime)
        try self.run(
            """
            INSERT OR REPLACE INTO ts (device, key, ts, kind, value)
            SELECT value, ?, ?, 3, ? FROM json_each(?)
            """,
            [type.errorKey, pointTime.rawValue, reason, list]
        )
    }

    /// Appends what updates have come to, and puts their state into the time series.
    private func appendHistory(
        of devices: [Int64],
        type: OtaPackageType,
        cause: UpdateCause?,
        at now: Timestamp,
        pointsAt pointTime: Timestamp
    ) throws {
        let list = Self.list(devices)
        try self.run(
            """
            INSERT INTO update_history (device, type, title, version, state, timestamp, accepted, error, cause)
            SELECT device, type, title, version, state, ?, 1, error, ? FROM update_record
            WHERE type = ? AND device IN (SELECT value FROM json_each(?))
            """,
            [now.rawValue, cause?.rawValue, type.rawValue, list]
        )
        try self.run(
            """
            INSERT OR REPLACE INTO ts (device, key, ts, kind, value)
            SELECT device, ?, ?, 3, state FROM update_record
            WHERE type = ? AND device IN (SELECT value FROM json_each(?))
            """,
            [type.stateKey, pointTime.rawValue, type.rawValue, list]
        )
        try self.run(
            LatestState.inserting(
                """
                SELECT ?, device, ?, 3, state FROM update_record
                WHERE type = ? AND device IN (SELECT value FROM json_each(?))
                """
            ),
            [type.stateKey, pointTime.rawValue, type.rawValue, list]
        )
    }

    /// Makes what waits to be told to devices pointless, and forgets why they were not notified.
    func raiseGeneration(of devices: [Int64], type: OtaPackageType, at now: Timestamp) throws {
        let column = type.generationColumn
        try self.run(
            "UPDATE device SET \(column) = \(column) + 1 WHERE no IN (SELECT value FROM json_each(?))",
            [Self.list(devices)]
        )
        try self.hastenQueued(of: devices, type: type, at: now)
        try self.run(
            """
            UPDATE update_record SET hold_time = NULL, hold_code = NULL, hold_reason = NULL
            WHERE type = ? AND hold_code IS NOT NULL AND device IN (SELECT value FROM json_each(?))
            """,
            [type.rawValue, Self.list(devices)]
        )
        // A cancelled update whose device need not be told, too.
        try self.run(
            "DELETE FROM assignment WHERE type = ? AND device IN (SELECT value FROM json_each(?))",
            [type.rawValue, Self.list(devices)]
        )
    }

    /// Has devices told; what they were to be told before is out of date.
    func addAssignments(
        _ devices: [Int64],
        type: OtaPackageType,
        cause: UpdateCause,
        at now: Timestamp
    ) throws {
        try self.run(
            """
            INSERT OR REPLACE INTO assignment (device, type, package_id, timestamp, due, cause, priority)
            SELECT device, type, package_id, ?, ?, ?, priority FROM update_record
            WHERE type = ? AND device IN (SELECT value FROM json_each(?))
            """,
            [now.rawValue, now.rawValue, cause.rawValue, type.rawValue, Self.list(devices)]
        )
    }
}
