import GRDB
import NodeKit
public import OTA

extension SQLiteStore: DeviceProfileService {
    /// The profile with this identifier, if it exists.
    public func findDeviceProfileById(_ id: DeviceProfileId) async throws -> DeviceProfile? {
        try await self.read { db in try db.profile(id) }
    }

    /// A tenant's profile with this name, if it exists.
    public func findDeviceProfileByName(_ name: String, of tenant: TenantId) async throws -> DeviceProfile? {
        try await self.read { db in
            try db.row("SELECT * FROM device_profile WHERE tenant_id = ? AND name = ?", [tenant.uuid, name])
                .map(DeviceProfile.init(row:))
        }
    }

    /// The profile of a tenant's devices that name none.
    public func defaultDeviceProfile(of tenant: TenantId) async throws -> DeviceProfile {
        let profile = try await self.read { db in
            try db.row("SELECT * FROM device_profile WHERE tenant_id = ? AND is_default = 1", [tenant.uuid])
                .map(DeviceProfile.init(row:))
        }
        guard let profile else {
            throw NodeError(.internalError, "the tenant '\(tenant)' has no default device profile; check the store")
        }
        return profile
    }

    /// A page of a tenant's profiles.
    public func findDeviceProfiles(of tenant: TenantId, page: PageLink) async throws -> Page<DeviceProfile> {
        let query = PageQuery(
            select: "SELECT *",
            from: "FROM device_profile",
            conditions: ["tenant_id = ?"],
            arguments: [tenant.uuid],
            searched: "name",
            sortable: [
                "createdTime": "created_time", "name": "name", "description": "description", "default": "is_default",
                "isDefault": "is_default", "type": "settings ->> '$.type'",
                "transportType": "settings ->> '$.transportType'",
            ],
            tieBreaker: "id"
        )
        return try await self.read { db in try query.page(page, db, DeviceProfile.init(row:)) }
    }

    /// Creates a profile that is not saved yet or replaces one that is, and queues the update of every device without its own package if the profile's changes.
    ///
    /// Which profile is the default one is changed by ``setDefaultDeviceProfile(_:)`` alone.
    public func saveDeviceProfile(_ profile: DeviceProfile) async throws -> DeviceProfile {
        guard !profile.name.allSatisfy(\.isWhitespace) else {
            throw NodeError(.badRequest, "Device profile name should be specified!")
        }
        try Self.checkLength(profile.name, of: "name")
        try Self.checkLength(profile.provisioning.deviceKey, of: "provisionDeviceKey")
        try Self.checkLength(profile.provisioning.deviceSecret, of: "provisionDeviceSecret")
        let now = self.now()
        let known = profile.isSaved ? try await self.findDeviceProfileById(profile.id) : nil
        let isTaken =
            known.map { OtaPackageType.areOnlyTaken(from: $0.packageId(of:), to: profile.packageId(of:)) } ?? false
        let save: @Sendable (Database, inout Effects) throws -> DeviceProfile = {
            [progress, statements, times] db, effects in
            let old = profile.isSaved ? try db.profile(profile.id) : nil
            guard profile.isSaved == (old != nil) else { throw Self.missing(profile.id) }
            let tenant = old?.tenantId ?? profile.tenantId
            let taken = try db.exists(
                "SELECT 1 FROM device_profile WHERE tenant_id = ? AND name = ? AND id <> ?",
                [tenant.uuid, profile.name, profile.id.uuid]
            )
            guard !taken else { throw NodeError(.badRequest, "Device profile with such name already exists!") }
            for type in OtaPackageType.allCases {
                guard let id = profile.packageId(of: type), id != old?.packageId(of: type) else { continue }
                try OtaPackageRules.checkAssignment(
                    of: db.package(id),
                    as: type,
                    tenantId: tenant,
                    deviceProfileId: profile.id
                )
            }
            var saved = profile
            saved.isSaved = true
            saved.provisioning = try Self.completed(profile.provisioning, of: profile.id, old: old?.provisioning, db)
            guard let old else {
                saved.isDefault = false
                try db.insert(saved)
                return saved
            }
            saved.createdTime = old.createdTime
            saved.tenantId = tenant
            saved.isDefault = old.isDefault
            try db.update(saved)
            // The type of an originator is the name of its profile.
            if old.$name != saved.$name { effects.allCredentials = true }
            if old.transport != saved.transport { effects.allTransports = true }
            for type in OtaPackageType.allCases where saved.packageId(of: type) != old.packageId(of: type) {
                // What was served before an assignment does not count for it.
                if !isTaken { try statements.store(progress, at: now, db, &effects) }
                let id = saved.packageId(of: type)
                try db.assign(id, type: type, to: .profile(saved.id), at: now, pointsAt: times.takeForAll(at: now))
                effects.allDevices = true
                effects.assignments = true
            }
            return saved
        }
        return isTaken ? try await self.remove(save) : try await self.write(save)
    }

    /// Makes a profile the default one of its tenant.
    public func setDefaultDeviceProfile(_ id: DeviceProfileId) async throws -> DeviceProfile {
        try await self.write { db, _ in
            guard var profile = try db.profile(id) else { throw Self.missing(id) }
            // Two steps, as there is never more than one default.
            try db.run("UPDATE device_profile SET is_default = 0 WHERE tenant_id = ?", [profile.tenantId.uuid])
            try db.run("UPDATE device_profile SET is_default = 1 WHERE id = ?", [id.uuid])
            profile.isDefault = true
            return profile
        }
    }

    /// Removes a profile that no device uses, with its packages.
    public func deleteDeviceProfile(_ id: DeviceProfileId) async throws {
        try await self.remove { [storages] db, effects in
            guard let profile = try db.profile(id) else { throw Self.missing(id) }
            guard !profile.isDefault else {
                throw NodeError(.badRequest, "Deletion of Default Device Profile is prohibited!")
            }
            guard try !db.exists("SELECT 1 FROM device WHERE device_profile_id = ? LIMIT 1", [id.uuid]) else {
                throw NodeError(.badRequest, "The device profile referenced by the devices cannot be deleted!")
            }
            for row in try db.rows("SELECT id, sha256 FROM ota_package WHERE device_profile_id = ?", [id.uuid]) {
                effects.packages.append(row.id("id"))
                if let file: String = row["sha256"] { effects.files.append(file) }
            }
            try db.run("UPDATE device_profile SET firmware_id = NULL, software_id = NULL WHERE id = ?", [id.uuid])
            try db.run("DELETE FROM ota_package WHERE device_profile_id = ?", [id.uuid])
            try storages.release(effects.files, db)
            try db.run("DELETE FROM device_profile WHERE id = ?", [id.uuid])
        }
    }

    private static func missing(_ id: DeviceProfileId) -> NodeError {
        NodeError(.notFound, "Device profile with id [\(id)] is not found")
    }
}

extension OtaPackageType {
    /// Whether packages are taken away and none is assigned, so that a save must succeed on a full disk, too: a package that is
    /// assigned cannot be deleted.
    static func areOnlyTaken(from old: (Self) -> OtaPackageId?, to new: (Self) -> OtaPackageId?) -> Bool {
        let changed = Self.allCases.filter { old($0) != new($0) }
        return !changed.isEmpty && changed.allSatisfy { new($0) == nil }
    }
}
