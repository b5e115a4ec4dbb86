import FoundationEssentials
import GRDB
import NodeKit
import OTA

extension Schema {
    /// What waits: one order for what came and what is tried again, urgent messages, those that take the place of older ones, and why
    /// something waits or ended.
    ///
    /// A row of `message_queue` with a `key` is the only one of its originator in its queue. Of those without one all but the oldest of an
    /// originator have no time at which they are due: they wait behind it.
    static let version13 = [
        "ALTER TABLE device ADD COLUMN firmware_generation INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE device ADD COLUMN software_generation INTEGER NOT NULL DEFAULT 0",
        // What waits to be handed on is newer than what waits further on, which begins at 0.
        "UPDATE device SET firmware_generation = 1 WHERE no IN (SELECT device FROM assignment WHERE type = 'FIRMWARE')",
        "UPDATE device SET software_generation = 1 WHERE no IN (SELECT device FROM assignment WHERE type = 'SOFTWARE')",
        "ALTER TABLE update_record ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE update_record ADD COLUMN hold_time INTEGER",
        "ALTER TABLE update_record ADD COLUMN hold_code TEXT",
        "ALTER TABLE update_record ADD COLUMN hold_reason TEXT",
        "CREATE INDEX update_record_held ON update_record (hold_code) WHERE hold_code IS NOT NULL",
        "ALTER TABLE mass_assignment ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE assignment ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE assignment ADD COLUMN due INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE assignment ADD COLUMN tries INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE assignment ADD COLUMN code TEXT",
        "ALTER TABLE assignment ADD COLUMN reason TEXT",
        "UPDATE assignment SET due = timestamp",
        "CREATE INDEX assignment_by_due ON assignment (priority, due)",
        "ALTER TABLE message_queue ADD COLUMN originator BLOB CHECK (length(originator) = 16)",
        "ALTER TABLE message_queue ADD COLUMN key TEXT",
        "ALTER TABLE message_queue ADD COLUMN generation INTEGER",
        "ALTER TABLE message_queue ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message_queue ADD COLUMN due INTEGER",
        "ALTER TABLE message_queue ADD COLUMN since INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message_queue ADD COLUMN tries INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message_queue ADD COLUMN code TEXT",
        "ALTER TABLE message_queue ADD COLUMN reason TEXT",
        "CREATE INDEX message_queue_by_due ON message_queue (queue, priority, due)",
        "CREATE UNIQUE INDEX message_queue_by_key ON message_queue (originator, key, queue) WHERE key IS NOT NULL",
        "CREATE INDEX message_queue_in_order ON message_queue (originator, queue) WHERE key IS NULL",
        "CREATE INDEX message_queue_held ON message_queue (queue, code) WHERE code IS NOT NULL",
    ]

    /// Gives the messages of older versions what those of this one have, each in its place.
    static func fillQueues(_ db: Database) throws {
        var isTaken: [String: Int64] = [:]
        var last: Int64 = 0
        while true {
            let rows = try db.rows(
                "SELECT id, queue, message FROM message_queue WHERE id > ? ORDER BY id LIMIT 1000",
                [last]
            )
            guard !rows.isEmpty else { return }
            for row in rows {
                let (id, queue, text): (Int64, String, String) = (row["id"], row["queue"], row["message"])
                last = id
                // What cannot be read is the doctor's to tell.
                guard let stored = try? JSON(parsing: text),
                    let originator = stored["originator"]?["id"]?.string.flatMap(UUID.init(uuidString:))
                else { continue }
                let since = stored["timestamp"]?.integer ?? 0
                guard let key = Self.key(of: stored) else {
                    let place = "\(queue)/\(originator)"
                    try db.run(
                        "UPDATE message_queue SET originator = ?, due = ?, since = ? WHERE id = ?",
                        [originator, isTaken[place] == nil ? since : nil, since, id]
                    )
                    isTaken[place] = id
                    continue
                }
                // The newest counts, in the place of the oldest.
                let place = "\(queue)/\(originator)/\(key)"
                if let older = isTaken[place] {
                    try db.run("UPDATE message_queue SET message = ? WHERE id = ?", [text, older])
                    try db.run("DELETE FROM message_queue WHERE id = ?", [id])
                    continue
                }
                isTaken[place] = id
                try db.run(
                    "UPDATE message_queue SET originator = ?, key = ?, generation = 0, due = ?, since = ? WHERE id = ?",
                    [originator, key, since, since, id]
                )
            }
        }
    }

    private static func key(of stored: JSON) -> String? {
        guard let type = stored["type"]?.string,
            [MessageType.packageAssigned, .packageUnassigned].map(\.rawValue).contains(type)
        else { return nil }
        return stored["metadata"]?[MessageKey.packageType]?.string.flatMap(OtaPackageType.init(rawValue:))?.rawValue
    }
}

extension OtaPackageType {
    /// The column of a device that counts its assignments, also those that were taken back, of this type.
    var generationColumn: String { self == .firmware ? "firmware_generation" : "software_generation" }
}
