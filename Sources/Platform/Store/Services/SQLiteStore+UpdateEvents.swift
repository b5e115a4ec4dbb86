import GRDB
import NodeKit
public import OTA
import Waiting

extension SQLiteStore: UpdateEventService {
    /// Makes a reader known; one that is new reads what happens from now on.
    public func addReader(_ reader: String) async throws {
        try await self.write { db, _ in
            try db.run(
                """
                INSERT INTO event_reader (name, last_read)
                VALUES (?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'update_history'), 0))
                ON CONFLICT (name) DO NOTHING
                """,
                [reader]
            )
        }
    }

    /// What became of updates and a reader has not read.
    ///
    /// One writer gives the identifiers, so here they become visible in order, and the last that was read says it all.
    public func updateEvents(unreadBy reader: String, limit: Int) async throws -> [UpdateEvent] {
        try await self.read { db in
            guard let last = try db.integer("SELECT last_read FROM event_reader WHERE name = ?", [reader]) else {
                throw UpdateRules.unknownReader(reader)
            }
            return try db.rows(
                """
                SELECT h.id AS number, h.type AS package_type, h.title, h.version, h.state, h.timestamp, h.error, h.cause,
                    d.id, d.name, p.name AS type, k.id AS package_id
                FROM update_history h JOIN device d ON d.no = h.device JOIN device_profile p ON p.id = d.device_profile_id
                    LEFT JOIN ota_package k ON k.tenant_id = d.tenant_id AND k.title = h.title AND k.version = h.version
                WHERE h.id > ? AND h.accepted = 1 ORDER BY h.id LIMIT ?
                """,
                [last, max(0, limit)]
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

    /// Notes that a reader is done with what it was given last.
    public func noteRead(_ events: [UpdateEvent], by reader: String) async throws {
        guard let last = events.map(\.entry.id).max() else { return }
        try await self.write { db, _ in
            try db.run("UPDATE event_reader SET last_read = max(last_read, ?) WHERE name = ?", [last, reader])
        }
    }

    /// Returns when entries may have been appended, or the task is cancelled.
    public func waitForUpdateEvents(since mark: UInt64?) async -> UInt64 {
        await self.updateEventsAdded.next(after: mark)
    }
}
