import GRDB
import NodeKit
import OTA

/// Devices whose effective package becomes another one.
enum AssignedDevices {
    /// The device with this row number.
    case device(Int64)
    /// The devices of this profile without a package of their own.
    case profile(DeviceProfileId)

    /// What rows of `device` must fulfil, with one argument.
    func condition(_ type: OtaPackageType) -> String {
        switch self {
        case .device: "device.no = ?"
        case .profile: "device.device_profile_id = ? AND device.\(type.ownColumn) IS NULL"
        }
    }

    var argument: DatabaseValue {
        switch self {
        case .device(let number): number.databaseValue
        case .profile(let id): id.uuid.databaseValue
        }
    }
}

extension Database {
    /// Begins the update of devices to their new effective package, or ends it if they have none any more.
    ///
    /// All rows of all devices are written by a handful of statements, in the order of their keys: a fleet is one assignment.
    func assign(_ id: OtaPackageId?, type: OtaPackageType, to devices: AssignedDevices, at now: Timestamp) throws {
        let condition = devices.condition(type)
        if let id {
            guard let package = try self.package(id) else {
                throw NodeError(.internalError, "an assigned package does not exist; check the store")
            }
            try self.queueUpdates(to: package, of: devices, at: now)
        } else {
            // What an update came to stays known; one under way has no target any more.
            try self.run(
                """
                DELETE FROM update_record WHERE type = ? AND state NOT IN ('UPDATED', 'FAILED')
                    AND device IN (SELECT device.no FROM device WHERE \(condition))
                """,
                [type.rawValue, devices.argument]
            )
        }
        // A newer assignment takes the place of one that the device was not told of yet.
        try self.run(
            """
            INSERT OR REPLACE INTO assignment (device, type, package_id, timestamp)
            SELECT device.no, ?, ?, ? FROM device WHERE \(condition)
            """,
            [type.rawValue, id?.uuid, now.rawValue, devices.argument]
        )
    }

    private func queueUpdates(to package: OtaPackage, of devices: AssignedDevices, at now: Timestamp) throws {
        let condition = devices.condition(package.type)
        let prefix = package.type.prefix
        try self.run(
            """
            INSERT OR REPLACE INTO update_record (device, type, package_id, title, version, state, queued_time, active_time)
            SELECT device.no, ?, ?, ?, ?, 'QUEUED', ?, ? FROM device WHERE \(condition)
            """,
            [
                package.type.rawValue, package.id.uuid, package.title, package.version, now.rawValue, now.rawValue,
                devices.argument,
            ]
        )
        try self.run(
            """
            INSERT INTO update_history (device, type, title, version, state, timestamp, accepted)
            SELECT device.no, ?, ?, ?, 'QUEUED', ?, 1 FROM device WHERE \(condition)
            """,
            [package.type.rawValue, package.title, package.version, now.rawValue, devices.argument]
        )
        // In the order of the keys.
        var series: [(key: String, value: JSON)] = [("\(prefix)_state", "QUEUED")]
        if let tag = package.tag { series.append(("target_\(prefix)_tag", .string(tag))) }
        series.append(("target_\(prefix)_title", .string(package.title)))
        series.append(("target_\(prefix)_ts", .integer(now.rawValue)))
        series.append(("target_\(prefix)_version", .string(package.version)))
        var arguments: StatementArguments = []
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
            arguments + [now.rawValue, devices.argument]
        )
        try self.run(
            LatestState.inserting("SELECT ?, device.no, ?, 3, 'QUEUED' FROM device WHERE \(condition)"),
            ["\(prefix)_state", now.rawValue, devices.argument]
        )
    }
}
