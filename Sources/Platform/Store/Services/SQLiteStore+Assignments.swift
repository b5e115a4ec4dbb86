import FoundationEssentials
import GRDB
public import NodeKit
public import OTA
import Waiting

extension SQLiteStore {
    /// What devices are to be told of their packages.
    public var waitingAssignments: any WaitingMessages { StoredAssignments(store: self) }

    /// The packages that a device should have been told of and was not.
    public func missedPushes(of device: DeviceId) async throws -> [Assignment] {
        let now = self.now()
        return try await self.read { db in
            try db.rows(
                """
                SELECT r.type AS package_type, r.package_id, d.id, d.name, p.name AS type
                FROM device d JOIN update_record r ON r.device = d.no
                    JOIN device_profile p ON p.id = d.device_profile_id
                WHERE d.id = ? AND r.push_missed = 1 AND r.state NOT IN (\(OtaUpdateState.over))
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

    /// Has a device told again of the package whose push it missed, in its turn.
    public func resendMissedPush(of device: DeviceId, type: OtaPackageType) async throws -> Bool {
        let now = self.now()
        return try await self.write(repeatable: true) { db, effects in
            let missed = try db.integer(
                """
                SELECT r.device FROM device d JOIN update_record r ON r.device = d.no
                WHERE d.id = ? AND r.type = ? AND r.push_missed = 1 AND r.state NOT IN (\(OtaUpdateState.over))
                """,
                [device.uuid, type.rawValue]
            )
            guard let missed else { return false }
            // What waits for the device keeps its place; what was sent and is not settled yet cannot end this one.
            try db.raiseGeneration(of: [missed], type: type, at: now)
            try db.addAssignments([missed], type: type, cause: .resent, at: now)
            effects.assignments = true
            return true
        }
    }

    /// Notes that a device learned of a package whose push it missed.
    public func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws {
        let push = TakenPush(device: device, type: type, package: packageId)
        let now = self.now()
        try await self.write(repeatable: true) { db, _ in try push.store(db, at: now) }
    }
}

/// The table `assignment`, as messages.
private struct StoredAssignments: WaitingMessages {
    let store: SQLiteStore

    func due(at now: Timestamp, limit: Int, without held: Set<Int64>) async throws -> DueMessages {
        try await self.store.read { db in
            var due = DueMessages()
            var priority = try db.integer("SELECT max(priority) FROM assignment")
            while let level = priority {
                due.messages += try db.assignments(of: level, dueAt: now, limit: limit, without: held)
                priority = try db.integer("SELECT max(priority) FROM assignment WHERE priority < ?", [level])
                let next = try db.integer(
                    "SELECT min(due) FROM assignment WHERE priority = ? AND due > ?",
                    [level, now.rawValue]
                )
                if let next { due.next = min(due.next ?? Timestamp(milliseconds: next), Timestamp(milliseconds: next)) }
            }
            return due
        }
    }

    func settle(_ messages: [SettledMessage]) async throws {
        guard !messages.isEmpty else { return }
        let now = self.store.now()
        try await self.store.write(repeatable: true) { [statements = self.store.statements] db, _ in
            for message in messages {
                try statements.settlement.run(db) { arguments in try arguments.add(message.message.id) }
                try db.note(message, at: now)
            }
        }
    }

    func postpone(_ messages: [PostponedMessage]) async throws {
        guard !messages.isEmpty else { return }
        try await self.store.write(repeatable: true) { [statements = self.store.statements] db, _ in
            for message in messages {
                try statements.assignmentRetry.run(db) { arguments in
                    try arguments.add(message.due.rawValue)
                    try arguments.add(message.reason.code)
                    try arguments.add(message.reason.text)
                    try arguments.add(message.message.id)
                }
            }
        }
    }

    func arrivals(since mark: UInt64?) async -> UInt64 { await self.store.assignmentsAdded.next(after: mark) }
}

extension Database {
    /// The assignments of a priority that are due, in order.
    fileprivate func assignments(of priority: Int64, dueAt now: Timestamp, limit: Int, without held: Set<Int64>) throws
        -> [WaitingMessage]
    {
        try self.rows(
            """
            SELECT a.id AS number, a.type AS package_type, a.package_id, a.timestamp, a.cause, a.due, a.tries, a.priority,
                CASE a.type WHEN 'FIRMWARE' THEN d.firmware_generation ELSE d.software_generation END AS generation,
                d.id, d.name, p.name AS type
            FROM assignment a JOIN device d ON d.no = a.device JOIN device_profile p ON p.id = d.device_profile_id
            WHERE a.priority = ? AND a.due <= ? AND a.id NOT IN (SELECT value FROM json_each(?)) ORDER BY a.due, a.id LIMIT ?
            """,
            [priority, now.rawValue, JSON.array(held.map(JSON.integer)).description, limit]
        ).map { row in
            let assignment = Assignment(
                id: row["number"],
                device: Originator(row: row),
                type: try row.choice("package_type"),
                packageId: row.idIfPresent("package_id"),
                cause: try row.choice("cause"),
                timestamp: row.time("timestamp")
            )
            return WaitingMessage(
                id: assignment.id,
                message: Message(assignment, generation: row["generation"], priority: row["priority"]),
                since: assignment.timestamp,
                due: row.time("due"),
                tries: row["tries"]
            )
        }
    }

    /// Notes why the device of a message that is done was not notified, if it was not and nothing else is on its way.
    func note(_ settled: SettledMessage, at now: Timestamp) throws {
        let message = settled.message.message
        guard let end = settled.end, let precedence = message.precedence else { return }
        try self.note(end, of: message.originator.id, precedence, at: now)
    }

    /// Notes why a device was not notified, unless something else is on its way to it.
    func note(_ end: HoldReason, of device: UUID, _ precedence: Precedence, at now: Timestamp) throws {
        guard let type = OtaPackageType(rawValue: precedence.key) else { return }
        try self.run(
            """
            UPDATE update_record SET hold_time = ?1, hold_code = ?2, hold_reason = ?3
            WHERE type = ?4 AND state = 'QUEUED'
                AND device = (SELECT no FROM device WHERE id = ?5 AND \(type.generationColumn) = ?6)
                AND NOT EXISTS (SELECT 1 FROM message_queue WHERE originator = ?5 AND key = ?4)
                AND NOT EXISTS (SELECT 1 FROM assignment a WHERE a.device = update_record.device AND a.type = ?4)
            """,
            [now.rawValue, end.code, end.text, type.rawValue, device, precedence.generation]
        )
    }
}

extension Signal {
    /// Returns when it was raised since it returned `mark`, at once for `nil`; or when the task is cancelled.
    func next(after mark: UInt64?) async -> UInt64 {
        if let mark { await self.wait(since: mark) }
        return self.count
    }
}
