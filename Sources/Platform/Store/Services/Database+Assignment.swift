import GRDB
import NodeKit
import OTA

/// Devices among those whose effective package becomes another one.
private struct Part {
    /// What rows of `device` must fulfil, with the arguments.
    var condition: String
    var arguments: Arguments
}

extension Database {
    /// Begins the update of devices to their new effective package, or ends it if they have none any more.
    ///
    /// All rows of all devices are written by a handful of statements, in the order of their keys.
    ///
    /// - Parameters:
    ///   - id: The package; `nil` for none.
    ///   - type: Firmware or software.
    ///   - devices: The row numbers of the devices, at most ``MassAssignments/stepMax``.
    ///   - priority: How urgent it is, 0…9.
    ///   - time: When the package became their effective one.
    ///   - now: The time of day.
    ///   - pointTime: The time of the points in their series, which no other point of them has.
    /// - Throws: What the database throws.
    func assign(
        _ id: OtaPackageId?,
        type: OtaPackageType,
        to devices: [Int64],
        priority: Int,
        since time: Timestamp,
        at now: Timestamp,
        pointsAt pointTime: Timestamp
    ) throws {
        let all = Part(
            condition: "device.no IN (SELECT value FROM json_each(?))",
            arguments: [JSON.array(devices.map(JSON.integer)).description]
        )
        try self.run(
            """
            UPDATE device SET \(type.followedColumn) = ?, \(type.generationColumn) = \(type.generationColumn) + 1
            WHERE \(all.condition)
            """,
            [id?.uuid] + all.arguments
        )
        // A newer assignment takes the place of one of which the device was not notified yet.
        try self.hastenQueued(of: devices, type: type, at: now)
        guard let id else {
            // What an update came to stays known; one under way has no target any more.
            try self.run(
                """
                DELETE FROM update_record WHERE type = ? AND state NOT IN (\(OtaUpdateState.over))
                    AND device IN (SELECT device.no FROM device WHERE \(all.condition))
                """,
                [type.rawValue] + all.arguments
            )
            return try self.addAssignments(of: nil, type: type, to: all, priority: priority, at: time)
        }
        guard let package = try self.package(id) else {
            throw NodeError(.internalError, "an assigned package does not exist; check the store")
        }
        let (installed, missing) = try self.parts(of: all, by: package)
        try self.noteInstalled(package, on: installed, priority: priority, since: time, at: now, pointsAt: pointTime)
        try self.begin(.queued, package, of: missing, priority: priority, since: time, at: now, pointsAt: pointTime)
        try self.addAssignments(of: id, type: type, to: missing, priority: priority, at: time)
    }

    /// The devices that have the package installed, and the others; see ``UpdateRules/isInstalled(_:by:)``.
    ///
    /// A device that may be busy with another package is one of the others: it has to be notified that it is not to install that one.
    private func parts(of devices: Part, by package: OtaPackage) throws -> (installed: Part, missing: Part) {
        let runsIt = """
            EXISTS (SELECT 1 FROM device_package v WHERE v.device = device.no AND v.type = ? AND v.title = ? AND v.version = ?)
            """
        let running = devices.arguments + [package.type.rawValue, package.title, package.version]
        // Listed once, as the updates change with each statement.
        let busy = try self.rows(
            """
            SELECT device.no FROM device JOIN update_record r ON r.device = device.no AND r.type = ?
            WHERE (r.state IN (\(OtaUpdateState.list { UpdateRules.mayBeBusy(in: $0, isPushMissed: true) }))
                    OR r.state IN (\(OtaUpdateState.list { UpdateRules.mayBeBusy(in: $0, isPushMissed: false) }))
                        AND r.push_missed = 0)
                AND \(devices.condition) AND \(runsIt)
            """,
            [package.type.rawValue] + running
        ).map { JSON.integer($0["no"]) }
        let arguments = running + [JSON.array(busy).description]
        let isBusy = "device.no IN (SELECT value FROM json_each(?))"
        return (
            Part(condition: "\(devices.condition) AND \(runsIt) AND NOT \(isBusy)", arguments: arguments),
            Part(condition: "\(devices.condition) AND (NOT \(runsIt) OR \(isBusy))", arguments: arguments)
        )
    }

    /// Makes the update of devices that have the package installed UPDATED at once: they need not be notified.
    ///
    /// What a push would set is set all the same, for clients that read the attributes.
    private func noteInstalled(
        _ package: OtaPackage,
        on devices: Part,
        priority: Int,
        since time: Timestamp,
        at now: Timestamp,
        pointsAt pointTime: Timestamp
    ) throws {
        guard try self.exists("SELECT 1 FROM device WHERE \(devices.condition) LIMIT 1", devices.arguments) else {
            return
        }
        try self.begin(.updated, package, of: devices, priority: priority, since: time, at: now, pointsAt: pointTime)
        try self.run(
            "DELETE FROM assignment WHERE type = ? AND device IN (SELECT no FROM device WHERE \(devices.condition))",
            [package.type.rawValue] + devices.arguments
        )
        let values = package.sharedAttributes
        for key in package.type.pushedAttributeNames {
            guard let columns = values[key]?.columns else {
                try self.run(
                    """
                    DELETE FROM attribute WHERE scope = 'SHARED_SCOPE' AND key = ?
                        AND device IN (SELECT no FROM device WHERE \(devices.condition))
                    """,
                    [key] + devices.arguments
                )
                continue
            }
            try self.run(
                """
                INSERT OR REPLACE INTO attribute (device, scope, key, kind, value, last_update)
                SELECT device.no, 'SHARED_SCOPE', ?, ?, ?, ? FROM device WHERE \(devices.condition)
                """,
                [key, columns.kind, columns.value, now.rawValue] + devices.arguments
            )
        }
    }

    private func addAssignments(
        of id: OtaPackageId?,
        type: OtaPackageType,
        to devices: Part,
        priority: Int,
        at time: Timestamp
    ) throws {
        try self.run(
            """
            INSERT OR REPLACE INTO assignment (device, type, package_id, timestamp, due, priority)
            SELECT device.no, ?, ?, ?, ?, ? FROM device WHERE \(devices.condition)
            """,
            [type.rawValue, id?.uuid, time.rawValue, time.rawValue, priority] + devices.arguments
        )
    }

    /// Begins updates in a state: QUEUED, or UPDATED if the package is installed already.
    private func begin(
        _ state: OtaUpdateState,
        _ package: OtaPackage,
        of devices: Part,
        priority: Int,
        since time: Timestamp,
        at now: Timestamp,
        pointsAt pointTime: Timestamp
    ) throws {
        let condition = devices.condition
        let isOver = state == .updated
        try self.run(
            """
            INSERT OR REPLACE INTO update_record (device, type, package_id, title, version, state, queued_time, assigned_time,
                active_time, updated_time, progress, priority)
            SELECT device.no, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM device WHERE \(condition)
            """,
            [
                package.type.rawValue, package.id.uuid, package.title, package.version, state.rawValue,
                isOver ? nil : time.rawValue, time.rawValue, now.rawValue, isOver ? time.rawValue : nil,
                isOver ? 100 : nil, priority,
            ] + devices.arguments
        )
        try self.run(
            """
            INSERT INTO update_history (device, type, title, version, state, timestamp, accepted, cause)
            SELECT device.no, ?, ?, ?, ?, ?, 1, ? FROM device WHERE \(condition)
            """,
            [
                package.type.rawValue, package.title, package.version, state.rawValue, time.rawValue,
                isOver ? UpdateCause.alreadyInstalled.rawValue : nil,
            ] + devices.arguments
        )
        let series = package.assignmentSeries(in: state, at: time).members
        var arguments: Arguments = []
        for (key, value) in series {
            guard let columns = value.columns else { continue }
            arguments += [key, columns.kind, columns.value]
        }
        let points = series.map { _ in "(?, ?, ?)" }.joined(separator: ", ")
        try self.run(
            """
            WITH point (key, kind, value) AS (VALUES \(points))
            INSERT OR REPLACE INTO ts (device, key, ts, kind, value)
            SELECT device.no, point.key, ?, point.kind, point.value FROM device CROSS JOIN point WHERE \(condition)
            """,
            arguments + [pointTime.rawValue] + devices.arguments
        )
        try self.run(
            LatestState.inserting("SELECT ?, device.no, ?, 3, ? FROM device WHERE \(condition)"),
            [package.type.stateKey, pointTime.rawValue, state.rawValue] + devices.arguments
        )
    }
}
