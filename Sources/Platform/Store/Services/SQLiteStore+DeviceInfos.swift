import GRDB
public import OTA

extension SQLiteStore {
    /// What rows of `device` fulfil that were heard of lately.
    private static let isActive = """
        EXISTS (SELECT 1 FROM attribute a
        WHERE a.device = device.no AND a.scope = 'SERVER_SCOPE' AND a.key = 'active' AND a.kind = 0 AND a.value = 1)
        """

    /// A page of a tenant's devices with what people want to know of them.
    public func findDeviceInfos(
        of tenant: TenantId,
        matching filter: DeviceFilter,
        page: PageLink
    ) async throws -> Page<DeviceInfo> {
        let type = "(SELECT p.name FROM device_profile p WHERE p.id = device.device_profile_id)"
        var query = PageQuery(
            select: "SELECT device.*",
            from: "FROM device",
            conditions: ["device.tenant_id = ?"],
            arguments: [tenant.uuid],
            searched: "device.name",
            sortable: [
                "createdTime": "device.created_time", "name": "device.name", "label": "device.label", "type": type,
                "deviceProfileName": type, "active": Self.isActive,
            ],
            tieBreaker: "device.no"
        )
        if let profile = filter.deviceProfileId {
            query.conditions.append("device.device_profile_id = ?")
            query.arguments += [profile.uuid]
        }
        if let type = filter.type {
            query.conditions.append(
                "device.device_profile_id = (SELECT id FROM device_profile WHERE tenant_id = ? AND name = ?)"
            )
            query.arguments += [tenant.uuid, type]
        }
        if let isActive = filter.isActive { query.conditions.append("\(isActive ? "" : "NOT ")\(Self.isActive)") }
        return try await self.read { [query] db in
            // Looked up for the devices of the page alone, and not for all that are sorted.
            try query.page(page, db) { row in try db.info(of: try Device(row: row), number: row["no"]) }
        }
    }

    /// What people want to know of a device.
    public func deviceInfo(of device: Device) async throws -> DeviceInfo {
        try await self.read { db in try db.info(of: device, number: try db.number(of: device.id)) }
    }
}

extension Database {
    fileprivate func info(of device: Device, number: Int64) throws -> DeviceInfo {
        let type = try self.row("SELECT name FROM device_profile WHERE id = ?", [device.deviceProfileId.uuid])
        let isActive = try self.exists(
            """
            SELECT 1 FROM attribute
            WHERE device = ? AND scope = 'SERVER_SCOPE' AND key = 'active' AND kind = 0 AND value = 1
            """,
            [number]
        )
        var installed: [OtaPackageType: InstalledVersion] = [:]
        for row in try self.rows("SELECT * FROM device_package WHERE device = ?", [number]) {
            installed[try row.choice("type")] = InstalledVersion(row: row, title: "title", version: "version")
        }
        return DeviceInfo(device: device, type: type?["name"] ?? "", isActive: isActive, installed: installed)
    }
}
