import GRDB
import NodeKit
public import OTA
import Waiting

extension SQLiteStore {
    /// The oldest assignments that are not settled, in order of identifier and later than `id`.
    public func assignments(after id: Int64, limit: Int) async throws -> [Assignment] {
        try await self.read { db in
            try db.rows(
                """
                SELECT a.id AS number, a.type AS package_type, a.package_id, a.timestamp, a.cause, d.id, d.name, p.name AS type
                FROM assignment a JOIN device d ON d.no = a.device JOIN device_profile p ON p.id = d.device_profile_id
                WHERE a.id > ? ORDER BY a.id LIMIT ?
                """,
                [id, max(0, limit)]
            ).map { row in
                Assignment(
                    id: row["number"],
                    device: Originator(row: row),
                    type: try row.choice("package_type"),
                    packageId: row.idIfPresent("package_id"),
                    cause: try row.choice("cause"),
                    timestamp: row.time("timestamp")
                )
            }
        }
    }

    /// Removes assignments whose devices were told.
    public func settle(_ assignments: [Int64]) async throws {
        guard !assignments.isEmpty else { return }
        try await self.write(repeatable: true) { [statements] db, _ in
            for id in assignments { try statements.settlement.run(db) { arguments in try arguments.add(id) } }
        }
    }

    /// Returns when assignments may have been added, or the task is cancelled.
    public func waitForAssignments(since mark: UInt64?) async -> UInt64 {
        await self.assignmentsAdded.next(after: mark)
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

    /// Notes that a device learned of a package whose push it missed.
    public func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws {
        let push = TakenPush(device: device, type: type, package: packageId)
        let now = self.now()
        try await self.write(repeatable: true) { db, _ in try push.store(db, at: now) }
    }
}

extension Signal {
    /// Returns when it was raised since it returned `mark`, at once for `nil`; or when the task is cancelled.
    func next(after mark: UInt64?) async -> UInt64 {
        if let mark { await self.wait(since: mark) }
        return self.count
    }
}
