import GRDB
import NodeKit
public import OTA

extension SQLiteStore: DeviceService {
    /// The most characters of a name or label.
    static let nameLengthMax = 255

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
    public func saveDevice(_ device: Device, accessToken: String?) async throws -> Device {
        try Self.check(device)
        let now = self.now()
        let token = accessToken.flatMap { $0.isEmpty ? nil : $0 } ?? Self.randomText()
        let credentials = DeviceCredentials(createdTime: now, deviceId: device.id, credentialsId: token)
        let old = device.isSaved ? try await self.findDeviceById(device.id) : nil
        if let old, OtaPackageType.areOnlyTaken(from: old.packageId(of:), to: device.packageId(of:)) {
            return try await self.remove { [times] db, effects in
                try Self.save(device, credentials: credentials, at: now, times, db, &effects)
            }
        }
        return try await self.write { [progress, statements, times] db, effects in
            try statements.store(progress, of: device.id, at: now, db, &effects)
            return try Self.save(device, credentials: credentials, at: now, times, db, &effects)
        }
    }

    /// Creates or replaces a device together with its credentials, in one transaction.
    public func saveDevice(_ device: Device, credentials: DeviceCredentials) async throws -> Device {
        try Self.check(device)
        let now = self.now()
        let wanted = try Self.completed(credentials)
        return try await self.write { [progress, statements, times] db, effects in
            try statements.store(progress, of: device.id, at: now, db, &effects)
            let saved = try Self.save(device, credentials: wanted, at: now, times, db, &effects)
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
        at now: Timestamp,
        _ times: ServerTimes,
        _ db: Database,
        _ effects: inout Effects
    ) throws -> Device {
        let old = device.isSaved ? try db.device(device.id) : nil
        guard device.isSaved == (old != nil) else { throw NodeError(missing: device.id) }
        let tenant = old?.device.tenantId ?? device.tenantId
        guard let profile = try db.profile(device.deviceProfileId), profile.tenantId == tenant else {
            throw NodeError(.badRequest, "Device is referencing to non-existent device profile!")
        }
        let taken = try db.integer(
            "SELECT no FROM device WHERE tenant_id = ? AND name = ? AND id <> ?",
            [tenant.uuid, device.name, device.id.uuid]
        )
        guard taken == nil else { throw NodeError(.badRequest, "Device with such name already exists!") }
        for type in OtaPackageType.allCases {
            // What did not change was checked when it was saved.
            guard let id = device.packageId(of: type) else { continue }
            if let old, old.device.packageId(of: type) == id, old.device.deviceProfileId == profile.id { continue }
            try OtaPackageRules.checkAssignment(
                of: db.package(id),
                as: type,
                tenantId: tenant,
                deviceProfileId: profile.id
            )
        }
        var saved = device
        saved.isSaved = true
        let number: Int64
        var oldEffective: [OtaPackageType: OtaPackageId] = [:]
        effects.devices = [device.id]
        if let old {
            saved.createdTime = old.device.createdTime
            saved.tenantId = tenant
            number = old.number
            let oldProfile = try db.profile(old.device.deviceProfileId)
            for type in OtaPackageType.allCases {
                oldEffective[type] = old.device.packageId(of: type) ?? oldProfile?.packageId(of: type)
            }
            try db.update(saved)
            if old.device.$name != device.$name || old.device.deviceProfileId != device.deviceProfileId,
                let credentials = try db.credentials(of: device.id)
            {
                effects.credentials = [credentials.credentialsId]
            }
        } else {
            number = try db.insert(saved)
            try Self.insert(credentials, of: number, db)
        }
        for type in OtaPackageType.allCases {
            let effective = saved.packageId(of: type) ?? profile.packageId(of: type)
            guard effective != oldEffective[type] else { continue }
            try db.assign(
                effective,
                type: type,
                to: .device(number),
                at: now,
                pointsAt: times.take(1, for: device.id, at: now)
            )
            effects.assignments = true
        }
        return saved
    }

    /// Removes a device with all that is stored about it.
    public func deleteDevice(_ id: DeviceId) async throws {
        try await self.remove { db, effects in
            let number = try db.number(of: id)
            if let credentials = try db.credentials(of: id) { effects.credentials = [credentials.credentialsId] }
            effects.devices = [id]
            effects.notifications = [(id, .credentialsRevoked)]
            try db.run("DELETE FROM device WHERE no = ?", [number])
        }
    }

    /// Refuses a device without a name, or with texts that are too long.
    static func check(_ device: Device) throws {
        guard !device.name.allSatisfy(\.isWhitespace) else {
            throw NodeError(.badRequest, "Device name should be specified!")
        }
        try Self.checkLength(device.name, of: "name")
        try Self.checkLength(device.label, of: "label")
    }

    /// Refuses a text that is too long, in the words of ThingsBoard.
    static func checkLength(_ text: String?, of name: String, max: Int = SQLiteStore.nameLengthMax) throws {
        guard let text, text.utf8.count > max, text.unicodeScalars.count > max else { return }
        throw NodeError(.badRequest, "\(name) length must be equal or less than \(max)")
    }

    /// Twenty letters and digits that nobody can guess, as ThingsBoard makes tokens, keys, secrets and names.
    static func randomText() -> String {
        let characters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        return String((0..<20).compactMap { _ in characters.randomElement() })
    }
}

extension OtaPackageType {
    /// The column of a device or profile with the package of this type.
    var ownColumn: String { self == .firmware ? "firmware_id" : "software_id" }
}
