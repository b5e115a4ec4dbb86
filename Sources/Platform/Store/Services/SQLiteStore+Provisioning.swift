import GRDB
import NodeKit
public import OTA

extension SQLiteStore: DeviceProvisioningService {
    /// Makes a device of somebody who knows a profile's key and secret, or hands out the credentials of one that was made before.
    ///
    /// All in one transaction: of several requests for one name one succeeds, and a device that is told its credentials is
    /// stored with them.
    public func provision(_ request: ProvisionRequest) async throws -> ProvisionResult {
        // Whoever only guesses does not keep the writer busy.
        guard try await self.read({ db in try Self.profile(for: request, db) }) != nil else { return .notFound }
        let now = self.now()
        do {
            return try await self.write { [statements, times] db, effects in
                guard let profile = try Self.profile(for: request, db) else { return .notFound }
                let known = try Self.device(named: request.deviceName, of: profile.tenantId, db)
                guard profile.provisioning.kind == .allowCreateNewDevices else {
                    return try Self.handOut(known, of: profile, at: now, statements, db)
                }
                if let known {
                    return .refused("a device with this name exists already", known.device.originator(known.type))
                }
                return try Self.create(request, in: profile, at: now, times, statements, db, &effects)
            }
        } catch let error as NodeError where error.code == .badRequest {
            // A rule of names or credentials; the write was undone.
            return .refused(error.message, nil)
        }
    }

    /// The profile with the key, if it provisions devices and the secret is right.
    private static func profile(for request: ProvisionRequest, _ db: Database) throws -> DeviceProfile? {
        let row = try db.row("SELECT * FROM device_profile WHERE provision_device_key = ?", [request.deviceKey])
        guard let profile = try row.map(DeviceProfile.init(row:)), profile.provisioning.kind.needsKey,
            let secret = profile.provisioning.deviceSecret, secret.isSameSecret(as: request.deviceSecret)
        else { return nil }
        return profile
    }

    private static func device(
        named name: String,
        of tenant: TenantId,
        _ db: Database
    ) throws -> (number: Int64, device: Device, type: String)? {
        let row = try db.row(
            """
            SELECT d.*, p.name AS type FROM device d JOIN device_profile p ON p.id = d.device_profile_id
            WHERE d.tenant_id = ? AND d.name = ?
            """,
            [tenant.uuid, name]
        )
        return try row.map { row in (row["no"], try Device(row: row), row["type"]) }
    }

    private static func create(
        _ request: ProvisionRequest,
        in profile: DeviceProfile,
        at now: Timestamp,
        _ times: ServerTimes,
        _ statements: DeviceStatements,
        _ db: Database,
        _ effects: inout Effects
    ) throws -> ProvisionResult {
        let device = Device(
            createdTime: now,
            tenantId: profile.tenantId,
            name: request.deviceName.isEmpty ? Self.randomText() : request.deviceName,
            deviceProfileId: profile.id,
            additionalInfo: request.isGateway ? ["gateway": true] : nil
        )
        try Self.check(device)
        let credentials = try Self.completed(request.credentials(of: device.id, at: now))
        let saved = try Self.save(device, credentials: credentials, at: now, times, db, &effects)
        try statements.markProvisioned(try db.number(of: saved.id), at: now, db)
        return .provisioned(saved.originator(profile.name), credentials)
    }

    /// The credentials of a device that an administrator made for this profile, once.
    private static func handOut(
        _ known: (number: Int64, device: Device, type: String)?,
        of profile: DeviceProfile,
        at now: Timestamp,
        _ statements: DeviceStatements,
        _ db: Database
    ) throws -> ProvisionResult {
        guard let known, known.device.deviceProfileId == profile.id,
            let credentials = try db.credentials(of: known.device.id)
        else { return .refused("no device with this name was made for the profile", nil) }
        let device = known.device.originator(known.type)
        let state = try db.row(
            "SELECT kind, value FROM attribute WHERE device = ? AND scope = ? AND key = ?",
            [known.number, AttributeScope.server.rawValue, AttributeEntry.provisionStateKey]
        ).map(JSON.init(columnsOf:))
        guard state != AttributeEntry.provisionedState else {
            return .refused("the device has its credentials already", device)
        }
        try statements.markProvisioned(known.number, at: now, db)
        return .provisioned(device, credentials)
    }

    /// What a profile that is saved says about provisioning: key and secret stay what they were, or are made, if its kind needs
    /// them and it names none.
    static func completed(
        _ provisioning: ProfileProvisioning,
        of id: DeviceProfileId,
        old: ProfileProvisioning?,
        _ db: Database
    ) throws -> ProfileProvisioning {
        var completed = provisioning
        if completed.deviceKey?.isEmpty == true { completed.deviceKey = nil }
        if completed.deviceSecret?.isEmpty == true { completed.deviceSecret = nil }
        if completed.kind.needsKey {
            completed.deviceKey = completed.deviceKey ?? old?.deviceKey ?? Self.randomText()
            completed.deviceSecret = completed.deviceSecret ?? old?.deviceSecret ?? Self.randomText()
        }
        if let key = completed.deviceKey {
            let sql = "SELECT 1 FROM device_profile WHERE provision_device_key = ? AND id <> ?"
            guard try !db.exists(sql, [key, id.uuid]) else {
                throw NodeError(.badRequest, "Device profile with such provision device key already exists!")
            }
        }
        return completed
    }
}

extension DeviceStatements {
    fileprivate func markProvisioned(_ number: Int64, at now: Timestamp, _ db: Database) throws {
        try self.insertAttribute(
            number,
            .server,
            AttributeEntry.provisionStateKey,
            AttributeEntry.provisionedState,
            at: now,
            db
        )
    }
}

extension Device {
    fileprivate func originator(_ type: String) -> Originator {
        Originator(id: self.id.uuid, name: self.name, type: type)
    }
}

extension ProvisionRequest {
    /// The credentials of the device that is made.
    fileprivate func credentials(of device: DeviceId, at now: Timestamp) -> DeviceCredentials {
        switch self.credentials {
        case nil:
            return DeviceCredentials(createdTime: now, deviceId: device, credentialsId: SQLiteStore.randomText())
        case .accessToken(let token):
            return DeviceCredentials(createdTime: now, deviceId: device, credentialsId: token)
        case .mqttBasic(let clientId, let userName, let password):
            let members = [("clientId", clientId), ("userName", userName), ("password", password)]
            let value = JSON.object(JSON.Object(members.map { ($0.0, $0.1.map(JSON.string) ?? .null) }))
            return DeviceCredentials(
                createdTime: now,
                deviceId: device,
                kind: .mqttBasic,
                credentialsId: "",
                credentialsValue: value.description
            )
        case .x509Certificate(let certificate):
            return DeviceCredentials(
                createdTime: now,
                deviceId: device,
                kind: .x509Certificate,
                credentialsId: "",
                credentialsValue: certificate
            )
        }
    }
}
