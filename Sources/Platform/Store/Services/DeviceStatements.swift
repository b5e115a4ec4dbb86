import OTA

/// The statements that every device causes again and again, ready to run on the writer's connection.
final class DeviceStatements: Sendable {
    /// Assignments that may not have reached a device yet.
    let massAssignments: MassAssignments

    init(_ massAssignments: MassAssignments) { self.massAssignments = massAssignments }

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

    /// What decides about a report: of the device's update, and of the device.
    ///
    /// Few columns, as each report needs them.
    let reportFacts = DirectStatement(
        """
        SELECT r.state, r.failure_cause, r.package_id, r.title, r.version, r.queued_time, r.assigned_time,
            r.served_time IS NOT NULL, r.interrupted, r.former_title, r.former_version, v.title, v.version, v.given_id,
            r.progress, r.error, r.push_missed
        FROM (SELECT ?1 AS device, ?2 AS type) w
            LEFT JOIN update_record r ON r.device = w.device AND r.type = w.type
            LEFT JOIN device_package v ON v.device = w.device AND v.type = w.type
        """
    )
    let historyEntry = DirectStatement(
        """
        INSERT INTO update_history (device, type, title, version, state, timestamp, accepted, error, cause, flag)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """
    )
    let completion = DirectStatement(
        "UPDATE update_record SET progress = ?, error = ?, active_time = ? WHERE device = ? AND type = ?"
    )
    let errorClass = DirectStatement(
        "UPDATE update_record SET error_class = ? WHERE device = ? AND type = ? AND state = 'FAILED'"
    )
    let installed = DirectStatement(
        """
        INSERT INTO device_package (device, type, title, version, since, report) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (device, type) DO UPDATE SET title = excluded.title, version = excluded.version, since = excluded.since,
            report = excluded.report
        """
    )
    let former = DirectStatement(
        "UPDATE update_record SET former_title = ?, former_version = ? WHERE device = ? AND type = ?"
    )
    let given = DirectStatement(
        """
        INSERT INTO device_package (device, type, given_id) VALUES (?, ?, ?)
        ON CONFLICT (device, type) DO UPDATE SET given_id = excluded.given_id
        """
    )
    /// What decides about bytes that were served to a device.
    let servedFacts = DirectStatement(
        """
        SELECT d.no, r.package_id, r.state, r.progress, r.served_time, r.served_ranges, r.attempt_ranges, v.given_id, k.data_size,
            r.queued_time
        FROM device d
            LEFT JOIN update_record r ON r.device = d.no AND r.type = ?2
            LEFT JOIN device_package v ON v.device = d.no AND v.type = ?2
            LEFT JOIN ota_package k ON k.id = r.package_id
        WHERE d.id = ?1
        """
    )
    let served = DirectStatement(
        """
        UPDATE update_record SET progress = ?, active_time = coalesce(?, active_time), served_time = ?, served_ranges = ?,
            attempt_ranges = ?
        WHERE device = ? AND type = ?
        """
    )
    private let entering = Dictionary(
        uniqueKeysWithValues: OtaUpdateState.allCases.map { ($0, DirectStatement($0.entering())) }
    )

    private let effectiveFirmware = DirectStatement(DeviceStatements.effectivePackage(.firmware))
    private let effectiveSoftware = DirectStatement(DeviceStatements.effectivePackage(.software))
    let missedPush = DirectStatement("UPDATE update_record SET push_missed = 1 WHERE device = ? AND type = ?")
    let settlement = DirectStatement("DELETE FROM assignment WHERE id = ?")
    let assignmentRetry = DirectStatement(
        "UPDATE assignment SET due = ?, tries = tries + 1, code = ?, reason = ? WHERE id = ?"
    )

    // Queues.

    /// A message that waits behind others of its originator.
    let queueEntry = DirectStatement(
        """
        INSERT INTO message_queue (queue, message, originator, priority, due, since)
        SELECT ?1, ?2, ?3, 0, CASE WHEN EXISTS (SELECT 1 FROM message_queue WHERE originator = ?3 AND queue = ?1 AND key IS NULL)
            THEN NULL ELSE ?4 END, ?4
        """
    )
    /// A message that takes the place of an older one.
    let queueReplacement = DirectStatement(
        """
        INSERT INTO message_queue (queue, message, originator, priority, due, since, key, generation)
        VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)
        ON CONFLICT (originator, key, queue) WHERE key IS NOT NULL DO UPDATE SET message = excluded.message,
            priority = excluded.priority, due = since, key = excluded.key, generation = excluded.generation, tries = 0, code = NULL,
            reason = NULL
        WHERE excluded.generation >= generation
        """
    )
    let queuedGeneration = DirectStatement(
        "SELECT generation FROM message_queue WHERE originator = ? AND key = ? AND queue = ?"
    )
    let queueRemoval = DirectStatement("DELETE FROM message_queue WHERE id = ? AND generation IS ?")
    /// The oldest message of an originator is due from now on, as the one before it is done: many of one hold up no other.
    let queueAdvance = DirectStatement(
        """
        UPDATE message_queue SET due = ?1 WHERE due IS NULL AND id =
            (SELECT min(id) FROM message_queue WHERE originator = ?2 AND queue = ?3 AND key IS NULL)
        """
    )
    let queueRetry = DirectStatement(
        "UPDATE message_queue SET due = ?, tries = tries + 1, code = ?, reason = ? WHERE id = ? AND generation IS ?"
    )

    /// The statement that makes an update DOWNLOADING in another attempt.
    let beginningAttempt = DirectStatement(OtaUpdateState.downloading.entering(isNewAttempt: true))

    /// The statement that puts a record into a state.
    func entering(_ state: OtaUpdateState) -> DirectStatement {
        self.entering[state, default: DirectStatement(state.entering())]
    }

    /// The row number of a device, its own package, and that of its profile; see ``AssignmentRules/effective(own:ofProfile:)``.
    func effectivePackage(_ type: OtaPackageType) -> DirectStatement {
        type == .firmware ? self.effectiveFirmware : self.effectiveSoftware
    }

    private static func effectivePackage(_ type: OtaPackageType) -> String {
        """
        SELECT d.no, d.\(type.ownColumn), p.\(type.ownColumn), d.\(type.generationColumn) FROM device d
        JOIN device_profile p ON p.id = d.device_profile_id WHERE d.id = ?
        """
    }
}
