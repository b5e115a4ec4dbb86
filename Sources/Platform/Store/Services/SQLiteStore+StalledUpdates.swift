import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: StalledUpdateService {
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
}
