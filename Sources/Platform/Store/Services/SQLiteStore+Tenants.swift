import GRDB
import NodeKit
public import OTA

extension SQLiteStore: TenantService {
    /// How many devices of a tenant that is deleted go in one transaction, so that others' writes do not wait for long.
    static let deletedDevicesMax = 500
    /// How many values of time series that are deleted go in one transaction, for the same reason.
    static let deletedValuesMax = 10_000

    /// The tenant with this identifier, if it exists.
    public func findTenantById(_ id: TenantId) async throws -> Tenant? {
        try await self.read { db in try db.tenant(id) }
    }

    /// A page of tenants.
    public func findTenants(page: PageLink) async throws -> Page<Tenant> {
        let query = PageQuery(
            select: "SELECT *",
            from: "FROM tenant",
            searched: "title",
            sortable: ["createdTime": "created_time", "title": "title", "name": "title"],
            tieBreaker: "id"
        )
        return try await self.read { db in try query.page(page, db, Tenant.init(row:)) }
    }

    /// Creates a tenant that is not saved yet, with a default profile, or replaces one that is.
    public func saveTenant(_ tenant: Tenant) async throws -> Tenant {
        try TenantRules.check(tenant)
        let now = self.now()
        return try await self.write { db, _ in
            var saved = tenant
            saved.isSaved = true
            if tenant.isSaved {
                saved.createdTime = try EntityRules.found(db.tenant(tenant.id), tenant.id).createdTime
                try db.run(
                    "UPDATE tenant SET title = ?, details = ? WHERE id = ?",
                    [saved.title, saved.details.description, saved.id.uuid]
                )
            } else {
                try db.run(
                    "INSERT INTO tenant (id, created_time, title, details) VALUES (?, ?, ?, ?)",
                    [saved.id.uuid, saved.createdTime.rawValue, saved.title, saved.details.description]
                )
                try db.insert(DeviceProfileRules.first(of: saved.id, at: now))
            }
            return saved
        }
    }

    /// Removes a tenant with all that it owns.
    ///
    /// In steps, of which only the last removes the tenant: cut off in the middle, it is there without users, and can be removed
    /// again.
    public func deleteTenant(_ id: TenantId) async throws {
        try TenantRules.checkRemoval(of: id)
        try await self.remove { db, effects in
            effects.allHolders = true
            _ = try EntityRules.found(db.tenant(id), id)
            try db.run("DELETE FROM user WHERE tenant_id = ?", [id.uuid])
            // Devices must not come faster than they go.
            try db.run(
                "UPDATE device_profile SET provision_type = 'DISABLED', provision_device_key = NULL WHERE tenant_id = ?",
                [id.uuid]
            )
        }
        // What was let in before the users went may still add a device; so each step looks for devices.
        try await self.removeInSteps { db, effects in
            guard try db.deleteDevices(of: id, &effects) else { return nil }
            try db.run(
                "DELETE FROM audit_log WHERE no IN (SELECT no FROM audit_log WHERE tenant_id = ? LIMIT ?)",
                [id.uuid, Self.removedPerWrite]
            )
            guard db.changesCount < Self.removedPerWrite else { return nil }
            var files: [String] = []
            for row in try db.rows("SELECT id, sha256 FROM ota_package WHERE tenant_id = ?", [id.uuid]) {
                effects.packages.append(row.id("id"))
                if let file: String = row["sha256"] { files.append(file) }
            }
            try db.run(
                "UPDATE device_profile SET firmware_id = NULL, software_id = NULL WHERE tenant_id = ?",
                [id.uuid]
            )
            for table in ["ota_package", "device_profile"] {
                try db.run("DELETE FROM \(table) WHERE tenant_id = ?", [id.uuid])
            }
            try db.run("DELETE FROM tenant WHERE id = ?", [id.uuid])
            return files
        }
    }
}

extension Database {
    /// Removes some devices of a tenant that is deleted.
    ///
    /// - Returns: Whether none is left.
    fileprivate func deleteDevices(of tenant: TenantId, _ effects: inout Effects) throws -> Bool {
        let rows = try self.rows(
            "SELECT no, id FROM device WHERE tenant_id = ? LIMIT ?",
            [tenant.uuid, SQLiteStore.deletedDevicesMax]
        )
        var valuesLeft = SQLiteStore.deletedValuesMax
        for row in rows {
            guard try self.delete(row.id("id"), row["no"], &valuesLeft, &effects) else { break }
        }
        return rows.isEmpty
    }

    /// Removes a device with all that is stored about it, unless its time series are too long for one transaction.
    ///
    /// - Parameters:
    ///   - device: The device.
    ///   - number: Its row number.
    ///   - valuesLeft: How many values of time series may be removed.
    ///   - effects: What follows.
    /// - Returns: Whether it is gone; otherwise some of its values are, the oldest of each series first, and it is to be called again.
    /// - Throws: What the database throws.
    func delete(
        _ device: DeviceId,
        _ number: Int64,
        _ valuesLeft: inout Int,
        _ effects: inout Effects
    ) throws -> Bool {
        try self.run(
            "DELETE FROM ts WHERE device = ?1 AND (key, ts) IN (SELECT key, ts FROM ts WHERE device = ?1 ORDER BY key, ts LIMIT ?2)",
            [number, valuesLeft]
        )
        valuesLeft -= self.changesCount
        guard valuesLeft > 0 else { return false }
        if let credentials = try self.credentials(of: device) { effects.credentials.append(credentials.credentialsId) }
        effects.devices.append(device)
        effects.notifications.append((device, .credentialsRevoked))
        try self.run("DELETE FROM device WHERE no = ?", [number])
        return true
    }
}

extension Tenant {
    init(row: Row) throws {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            title: row["title"],
            details: try JSON(stored: row["details"])
        )
        self.isSaved = true
    }
}

extension Database {
    func tenant(_ id: TenantId) throws -> Tenant? {
        try self.row("SELECT * FROM tenant WHERE id = ?", [id.uuid]).map(Tenant.init(row:))
    }
}
