import FoundationEssentials
import GRDB
import NodeKit
import OTA

extension Device {
    static let columns =
        "no, id, created_time, tenant_id, name, label, device_profile_id, firmware_id, software_id, additional_info, device_data"

    init(row: Row) throws {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            tenantId: row.id("tenant_id"),
            name: row["name"],
            label: row["label"],
            deviceProfileId: row.id("device_profile_id"),
            firmwareId: row.idIfPresent("firmware_id"),
            softwareId: row.idIfPresent("software_id"),
            additionalInfo: try row.json("additional_info"),
            deviceData: try row.json("device_data")
        )
        self.isSaved = true
    }
}

extension DeviceProfile {
    init(row: Row) throws {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            tenantId: row.id("tenant_id"),
            name: row["name"],
            description: row["description"],
            isDefault: row["is_default"],
            firmwareId: row.idIfPresent("firmware_id"),
            softwareId: row.idIfPresent("software_id"),
            provisioning: ProfileProvisioning(
                kind: try row.choice("provision_type"),
                deviceKey: row["provision_device_key"],
                deviceSecret: row["provision_device_secret"]
            ),
            settings: try JSON(stored: row["settings"])
        )
        self.isSaved = true
    }
}

extension OtaPackage {
    init(row: Row) throws {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            tenantId: row.id("tenant_id"),
            deviceProfileId: row.idIfPresent("device_profile_id"),
            type: try row.choice("type"),
            title: row["title"],
            version: row["version"],
            tag: row["tag"],
            url: row["url"]
        )
        self.sha256 = row["sha256"]
        self.hasData = self.url != nil || self.sha256 != nil
        self.fileName = row["file_name"]
        self.contentType = row["content_type"]
        if row["checksum_algorithm"] as String? != nil { self.checksumAlgorithm = try row.choice("checksum_algorithm") }
        self.checksum = row["checksum"]
        self.dataSize = row["data_size"]
        self.additionalInfo = try row.json("additional_info")
        self.isSaved = true
    }
}

extension DeviceCredentials {
    /// Reads a row that has the device's identifier as `device_id`.
    init(row: Row) throws {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            deviceId: row.id("device_id"),
            kind: try row.choice("kind"),
            credentialsId: row["credentials_id"],
            credentialsValue: row["credentials_value"]
        )
    }
}

extension Database {
    func device(_ id: DeviceId) throws -> (number: Int64, device: Device)? {
        guard let row = try self.row("SELECT \(Device.columns) FROM device WHERE id = ?", [id.uuid]) else { return nil }
        return (row["no"], try Device(row: row))
    }

    /// The packages that the updates of a device follow: its effective ones, unless an assignment to its whole profile has not reached it.
    func followedPackages(of device: DeviceId) throws -> [OtaPackageType: OtaPackageId] {
        guard
            let row = try self.row(
                "SELECT followed_firmware, followed_software FROM device WHERE id = ?",
                [device.uuid]
            )
        else { return [:] }
        return OtaPackageType.allCases.reduce(into: [:]) { $0[$1] = row.idIfPresent($1.followedColumn) }
    }

    func profile(_ id: DeviceProfileId) throws -> DeviceProfile? {
        try self.row("SELECT * FROM device_profile WHERE id = ?", [id.uuid]).map(DeviceProfile.init(row:))
    }

    func package(_ id: OtaPackageId) throws -> OtaPackage? {
        try self.row("SELECT * FROM ota_package WHERE id = ?", [id.uuid]).map(OtaPackage.init(row:))
    }

    /// The packages that a device or a profile names, of those that exist.
    func packages(of holder: some PackageHolder) throws -> [OtaPackageId: OtaPackage] {
        var packages: [OtaPackageId: OtaPackage] = [:]
        for id in OtaPackageType.allCases.compactMap(holder.packageId(of:)) { packages[id] = try self.package(id) }
        return packages
    }

    func credentials(of device: DeviceId) throws -> DeviceCredentials? {
        try self.row(
            """
            SELECT c.*, d.id AS device_id FROM device_credentials c JOIN device d ON d.no = c.device WHERE d.id = ?
            """,
            [device.uuid]
        ).map(DeviceCredentials.init(row:))
    }

    func insert(_ profile: DeviceProfile) throws {
        try self.run(
            """
            INSERT INTO device_profile
                (id, created_time, tenant_id, name, description, is_default, firmware_id, software_id, settings,
                    provision_type, provision_device_key, provision_device_secret)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                profile.id.uuid, profile.createdTime.rawValue, profile.tenantId.uuid, profile.name, profile.description,
                profile.isDefault, profile.firmwareId?.uuid, profile.softwareId?.uuid, profile.settings.description,
                profile.provisioning.kind.rawValue, profile.provisioning.deviceKey, profile.provisioning.deviceSecret,
            ]
        )
    }

    func update(_ profile: DeviceProfile) throws {
        try self.run(
            """
            UPDATE device_profile SET name = ?, description = ?, firmware_id = ?, software_id = ?, settings = ?,
                provision_type = ?, provision_device_key = ?, provision_device_secret = ?
            WHERE id = ?
            """,
            [
                profile.name, profile.description, profile.firmwareId?.uuid, profile.softwareId?.uuid,
                profile.settings.description, profile.provisioning.kind.rawValue, profile.provisioning.deviceKey,
                profile.provisioning.deviceSecret, profile.id.uuid,
            ]
        )
    }

    /// Adds a device and returns its row number.
    func insert(_ device: Device) throws -> Int64 {
        try self.run(
            """
            INSERT INTO device (id, created_time, tenant_id, name, label, device_profile_id, firmware_id, software_id,
                additional_info, device_data)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                device.id.uuid, device.createdTime.rawValue, device.tenantId.uuid, device.name, device.label,
                device.deviceProfileId.uuid, device.firmwareId?.uuid, device.softwareId?.uuid,
                device.additionalInfo?.description, device.deviceData?.description,
            ]
        )
        return self.lastInsertedRowID
    }

    func update(_ device: Device) throws {
        try self.run(
            """
            UPDATE device SET name = ?, label = ?, device_profile_id = ?, firmware_id = ?, software_id = ?,
                additional_info = ?, device_data = ?
            WHERE id = ?
            """,
            [
                device.name, device.label, device.deviceProfileId.uuid, device.firmwareId?.uuid,
                device.softwareId?.uuid,
                device.additionalInfo?.description, device.deviceData?.description, device.id.uuid,
            ]
        )
    }
}
