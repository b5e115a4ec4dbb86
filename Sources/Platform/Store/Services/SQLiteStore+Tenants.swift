import GRDB
import NodeKit
public import OTA

extension SQLiteStore: TenantService {
    /// How many devices of a tenant that is deleted go in one transaction, so that others' writes do not wait for long.
    static let deletedDevicesMax = 500

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
        // What was let in before the users went may still add a device; then the last step finds it.
        repeat {
            while try await self.deleteSomeDevices(of: id) > 0 {}
        } while try await !self.deleteEmptied(id)
    }

    private func deleteSomeDevices(of tenant: TenantId) async throws -> Int {
        try await self.remove { db, effects in
            let rows = try db.rows(
                """
                SELECT d.no, d.id, c.credentials_id FROM device d JOIN device_credentials c ON c.device = d.no
                WHERE d.tenant_id = ? LIMIT ?
                """,
                [tenant.uuid, Self.deletedDevicesMax]
            )
            for row in rows {
                let id: DeviceId = row.id("id")
                effects.credentials.append(row["credentials_id"])
                effects.devices.append(id)
                effects.notifications.append((id, .credentialsRevoked))
                try db.run("DELETE FROM device WHERE no = ?", [row["no"] as Int64])
            }
            return rows.count
        }
    }

    /// Removes the tenant with its profiles, packages and log; `false` if it still has devices.
    private func deleteEmptied(_ id: TenantId) async throws -> Bool {
        try await self.remove { [storages] db, effects in
            guard try !db.exists("SELECT 1 FROM device WHERE tenant_id = ? LIMIT 1", [id.uuid]) else { return false }
            for row in try db.rows("SELECT id, sha256 FROM ota_package WHERE tenant_id = ?", [id.uuid]) {
                effects.packages.append(row.id("id"))
                if let file: String = row["sha256"] { effects.files.append(file) }
            }
            try db.run(
                "UPDATE device_profile SET firmware_id = NULL, software_id = NULL WHERE tenant_id = ?",
                [id.uuid]
            )
            for table in ["ota_package", "device_profile", "audit_log"] {
                try db.run("DELETE FROM \(table) WHERE tenant_id = ?", [id.uuid])
            }
            try storages.release(effects.files, db)
            try db.run("DELETE FROM tenant WHERE id = ?", [id.uuid])
            return true
        }
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
