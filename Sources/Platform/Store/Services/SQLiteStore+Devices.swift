import GRDB
import NodeKit
public import OTA

extension SQLiteStore: DeviceService {
    /// The device with this identifier, if it exists.
    public func findDeviceById(_ id: DeviceId) async throws -> Device? {
        try await self.read { db in try db.device(id)?.device }
    }

    /// A tenant's device with this name, if it exists.
    public func findDeviceByName(_ name: String, of tenant: TenantId) async throws -> Device? {
        try await self.read { db in
            try db.row(
                "SELECT \(Device.columns) FROM device WHERE tenant_id = ? AND name = ?",
                [tenant.uuid, name]
            ).map(Device.init(row:))
        }
    }

    /// A page of a tenant's devices, of one profile if given.
    public func findDevices(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        page: PageLink
    ) async throws -> Page<Device> {
        var query = PageQuery(
            select: "SELECT device.*",
            from: "FROM device",
            conditions: ["device.tenant_id = ?"],
            arguments: [tenant.uuid],
            searched: "device.name",
            sortable: [
                "createdTime": "device.created_time", "name": "device.name", "label": "device.label",
                "type": "(SELECT p.name FROM device_profile p WHERE p.id = device.device_profile_id)",
            ],
            tieBreaker: "device.no"
        )
        if let deviceProfileId {
            query.conditions.append("device.device_profile_id = ?")
            query.arguments += [deviceProfileId.uuid]
        }
        return try await self.read { [query] db in try query.page(page, db, Device.init(row:)) }
    }

    /// How many devices of a profile have no package of this type of their own.
    public func countDevices(deviceProfileId: DeviceProfileId, withoutOwn type: OtaPackageType) async throws -> Int {
        try await self.read { db in
            let column = type.ownColumn
            let count = try db.integer(
                "SELECT count(*) FROM device WHERE device_profile_id = ? AND \(column) IS NULL",
                [deviceProfileId.uuid]
            )
            return Int(count ?? 0)
        }
    }

    /// Creates a device that is not saved yet or replaces one that is, and queues its update if its effective package changes.
    public func saveDevice(_ device: Device, accessToken: String?, priority: Int) async throws -> Device {
        try DeviceRules.check(device)
        let now = self.now()
        let token = accessToken.flatMap { $0.isEmpty ? nil : $0 } ?? CredentialsRules.randomText()
        let credentials = DeviceCredentials(createdTime: now, deviceId: device.id, credentialsId: token)
        let old = device.isSaved ? try await self.findDeviceById(device.id) : nil
        if let old, AssignmentRules.onlyTakesAway(from: old, to: device) {
            return try await self.remove { [times] db, effects in
                try Self.save(device, credentials: credentials, priority: priority, at: now, times, db, &effects)
            }
        }
        return try await self.write { [progress, statements, times] db, effects in
            try statements.store(progress, of: device.id, at: now, db, &effects)
            return try Self.save(device, credentials: credentials, priority: priority, at: now, times, db, &effects)
        }
    }

    /// Creates or replaces a device together with its credentials, in one transaction.
    public func saveDevice(_ device: Device, credentials: DeviceCredentials) async throws -> Device {
        try DeviceRules.check(device)
        let now = self.now()
        let wanted = try CredentialsRules.completed(credentials)
        return try await self.write { [progress, statements, times] db, effects in
            try statements.store(progress, of: device.id, at: now, db, &effects)
            let saved = try Self.save(device, credentials: wanted, priority: 0, at: now, times, db, &effects)
            if device.isSaved { try Self.replaceCredentials(by: wanted, db, &effects) }
            return saved
        }
    }

    /// Saves a device that was checked, and queues its update if its effective package changes.
    ///
    /// The credentials are those of a device that is new.
    static func save(
        _ device: Device,
        credentials: DeviceCredentials,
        priority: Int,
        at now: Timestamp,
        _ times: ServerTimes,
        _ db: Database,
        _ effects: inout Effects
    ) throws -> Device {
        let old = try device.isSaved ? EntityRules.found(db.device(device.id), device.id) : nil
        let change = try DeviceRules.change(to: device, db.facts(of: device, over: old?.device))
        effects.devices = [device.id]
        let number: Int64
        if let old {
            number = old.number
            try db.update(change.device)
            if change.isRenamed, let credentials = try db.credentials(of: device.id) {
                effects.credentials = [credentials.credentialsId]
            }
        } else {
            number = try db.insert(change.device)
            try Self.insert(credentials, of: number, db)
        }
        for (type, package) in change.targets {
            try db.assign(
                package,
                type: type,
                to: [number],
                priority: priority,
                since: now,
                at: now,
                pointsAt: times.take(1, for: device.id, at: now)
            )
            effects.assignments = true
        }
        return change.device
    }

    /// Removes a device with all that is stored about it.
    ///
    /// If its time series are long, their oldest values go first: cut off in the middle, the device is there and can be removed again.
    public func deleteDevice(_ id: DeviceId) async throws {
        let delete: @Sendable (Database, inout Effects) throws -> Bool = { db, effects in
            var valuesLeft = Self.deletedValuesMax
            return try db.delete(id, db.number(of: id), &valuesLeft, &effects)
        }
        while try await !self.remove(delete) {}
    }
}

extension Database {
    /// What decides about a device that is saved.
    fileprivate func facts(of device: Device, over old: Device?) throws -> DeviceRules.Facts {
        let tenant = (old ?? device).tenantId
        return DeviceRules.Facts(
            old: old,
            followed: old == nil ? [:] : try self.followedPackages(of: device.id),
            profile: try self.profile(device.deviceProfileId),
            isNameTaken: try self.exists(
                "SELECT 1 FROM device WHERE tenant_id = ? AND name = ? AND id <> ?",
                [tenant.uuid, device.name, device.id.uuid]
            ),
            packages: try self.packages(of: device)
        )
    }
}

extension OtaPackageType {
    /// The column of a device or profile with the package of this type.
    var ownColumn: String { self == .firmware ? "firmware_id" : "software_id" }

    /// The package that a device `d` of a profile `p` should have, in SQL: what
    /// ``AssignmentRules/effective(own:ofProfile:)`` says of one device.
    var effective: String { "coalesce(d.\(self.ownColumn), p.\(self.ownColumn))" }
}
