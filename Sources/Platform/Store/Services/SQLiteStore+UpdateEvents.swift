import GRDB
import NodeKit
public import OTA

extension SQLiteStore: UpdateEventService {
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
