import OTA

/// The statements that every device causes again and again, ready to run on the writer's connection.
final class DeviceStatements: Sendable {
    // What it replaces is changed in place: to delete it first, SQLite would keep what it needs to undo the statement, also when
    // there is nothing to replace.
    let point = DirectStatement(
        """
        INSERT INTO ts (device, key, ts, kind, value) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (device, key, ts) DO UPDATE SET kind = excluded.kind, value = excluded.value
        """
    )
    let latestState = DirectStatement(LatestState.inserting("VALUES (?, ?, ?, ?, ?)"))
    let attribute = DirectStatement(
        """
        INSERT INTO attribute (device, scope, key, kind, value, last_update) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (device, scope, key)
        DO UPDATE SET kind = excluded.kind, value = excluded.value, last_update = excluded.last_update
        """
    )
    let attributeRemoval = DirectStatement("DELETE FROM attribute WHERE device = ? AND scope = ? AND key = ?")

    /// The columns of an update record that decide what becomes of it: few, as each report needs them.
    let presentUpdate = DirectStatement(
        """
        SELECT state, title, version, progress, error, failure_cause, queued_time FROM update_record
        WHERE device = ? AND type = ?
        """
    )
    let historyEntry = DirectStatement(
        """
        INSERT INTO update_history (device, type, title, version, state, timestamp, accepted, error)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """
    )
    let completion = DirectStatement(
        "UPDATE update_record SET progress = ?, error = ?, active_time = ? WHERE device = ? AND type = ?"
    )
    let errorClass = DirectStatement(
        "UPDATE update_record SET error_class = ? WHERE device = ? AND type = ? AND state = 'FAILED'"
    )
    /// Counted progress never lowers what is known, and what is over stays as it is.
    let countedProgress = DirectStatement(
        """
        UPDATE update_record SET progress = ?1, active_time = ?2
        WHERE device = (SELECT no FROM device WHERE id = ?3) AND type = ?4 AND package_id = ?5
            AND state NOT IN ('UPDATED', 'FAILED') AND (progress IS NULL OR progress < ?1)
        """
    )
    private let entering = Dictionary(
        uniqueKeysWithValues: OtaUpdateState.allCases.map { ($0, DirectStatement($0.entering)) }
    )

    private let effectiveFirmware = DirectStatement(DeviceStatements.effectivePackage(.firmware))
    private let effectiveSoftware = DirectStatement(DeviceStatements.effectivePackage(.software))
    let missedPush = DirectStatement("UPDATE update_record SET push_missed = 1 WHERE device = ? AND type = ?")
    let settlement = DirectStatement("DELETE FROM assignment WHERE id = ?")
    let queueEntry = DirectStatement("INSERT INTO message_queue (queue, message) VALUES (?, ?)")
    let queueRemoval = DirectStatement("DELETE FROM message_queue WHERE id = ? AND queue = ?")

    /// The statement that puts a record into a state.
    func entering(_ state: OtaUpdateState) -> DirectStatement {
        self.entering[state, default: DirectStatement(state.entering)]
    }

    /// The row number of a device, and the package that it should have.
    func effectivePackage(_ type: OtaPackageType) -> DirectStatement {
        type == .firmware ? self.effectiveFirmware : self.effectiveSoftware
    }

    private static func effectivePackage(_ type: OtaPackageType) -> String {
        """
        SELECT d.no, coalesce(d.\(type.ownColumn), p.\(type.ownColumn)) FROM device d
        JOIN device_profile p ON p.id = d.device_profile_id WHERE d.id = ?
        """
    }
}
