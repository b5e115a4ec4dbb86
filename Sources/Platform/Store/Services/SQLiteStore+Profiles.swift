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
    public func saveDeviceProfile(_ profile: DeviceProfile, priority: Int) async throws -> DeviceProfile {
        try DeviceProfileRules.check(profile)
        let now = self.now()
        let known = profile.isSaved ? try await self.findDeviceProfileById(profile.id) : nil
        let onlyTakesAway = known.map { AssignmentRules.onlyTakesAway(from: $0, to: profile) } ?? false
        let save: @Sendable (Database, inout Effects) throws -> DeviceProfile = {
            [progress, statements, times, massAssignments] db, effects in
            let old = try profile.isSaved ? EntityRules.found(db.profile(profile.id), profile.id) : nil
            let saved = DeviceProfileRules.saved(profile, over: old, random: CredentialsRules.randomText)
            try db.check(saved, over: old)
            guard let old else {
                try db.insert(saved)
                return saved
            }
            let changed = OtaPackageType.allCases.filter { saved.packageId(of: $0) != old.packageId(of: $0) }
            // What was served before an assignment does not count for it.
            if !onlyTakesAway, !changed.isEmpty { try statements.store(progress, at: now, db, &effects) }
            try db.update(saved)
            // The type of an originator is the name of its profile.
            if old.$name != saved.$name { effects.allCredentials = true }
            if old.transport != saved.transport { effects.allTransports = true }
            for type in changed {
                massAssignments.begin()
                let time = times.takeForAll(at: now)
                try db.beginMassAssignment(
                    of: type,
                    in: saved.id,
                    priority: priority,
                    at: now,
                    pointsAt: time,
                    &effects
                )
                effects.allDevices = true
            }
            return saved
        }
        return onlyTakesAway ? try await self.remove(save) : try await self.write(save)
    }

    /// Makes a profile the default one of its tenant.
    public func setDefaultDeviceProfile(_ id: DeviceProfileId) async throws -> DeviceProfile {
        try await self.write { db, _ in
            var profile = try EntityRules.found(db.profile(id), id)
            // Two steps, as there is never more than one default.
            try db.run("UPDATE device_profile SET is_default = 0 WHERE tenant_id = ?", [profile.tenantId.uuid])
            try db.run("UPDATE device_profile SET is_default = 1 WHERE id = ?", [id.uuid])
            profile.isDefault = true
            return profile
        }
    }

    /// Removes a profile that no device uses, with its packages.
    public func deleteDeviceProfile(_ id: DeviceProfileId) async throws {
        try await self.removeInSteps { db, effects in
            try DeviceProfileRules.checkRemoval(
                of: EntityRules.found(db.profile(id), id),
                isUsed: db.exists("SELECT 1 FROM device WHERE device_profile_id = ? LIMIT 1", [id.uuid])
            )
            guard try db.clearRecords(ofPackages: "k.device_profile_id = ?", [id.uuid]) else { return nil }
            var files: [String] = []
            for row in try db.rows("SELECT id, sha256 FROM ota_package WHERE device_profile_id = ?", [id.uuid]) {
                effects.packages.append(row.id("id"))
                if let file: String = row["sha256"] { files.append(file) }
            }
            try db.run("UPDATE device_profile SET firmware_id = NULL, software_id = NULL WHERE id = ?", [id.uuid])
            try db.run("DELETE FROM ota_package WHERE device_profile_id = ?", [id.uuid])
            try db.run("DELETE FROM device_profile WHERE id = ?", [id.uuid])
            return files
        }
    }
}

extension Database {
    /// Checks a profile that is saved beside others.
    fileprivate func check(_ saved: DeviceProfile, over old: DeviceProfile?) throws {
        try DeviceProfileRules.check(
            saved,
            over: old,
            isNameTaken: self.exists(
                "SELECT 1 FROM device_profile WHERE tenant_id = ? AND name = ? AND id <> ?",
                [saved.tenantId.uuid, saved.name, saved.id.uuid]
            ),
            isKeyTaken: self.exists(
                "SELECT 1 FROM device_profile WHERE provision_device_key = ? AND id <> ?",
                [saved.provisioning.deviceKey, saved.id.uuid]
            ),
            packages: self.packages(of: saved)
        )
    }
}
