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
        guard try await self.read({ db in try db.profile(for: request) }) != nil else { return .notFound }
        let now = self.now()
        do {
            return try await self.write { [statements, times] db, effects in
                guard let profile = try db.profile(for: request) else { return .notFound }
                let known = try db.device(named: request.deviceName, of: profile.tenantId)
                if let answer = ProvisioningRules.answer(about: known, in: profile) {
                    guard case .provisioned(let device, _) = answer else { return answer }
                    try statements.markProvisioned(DeviceId(device.id), at: now, db)
                    return answer
                }
                let (device, credentials) = try ProvisioningRules.created(
                    for: request,
                    in: profile,
                    at: now,
                    random: CredentialsRules.randomText
                )
                let saved = try Self.save(device, credentials: credentials, priority: 0, at: now, times, db, &effects)
                try statements.markProvisioned(saved.id, at: now, db)
                let originator = Originator(id: saved.id.uuid, name: saved.name, type: profile.name)
                return .provisioned(originator, credentials)
            }
        } catch {
            // The write was undone.
            guard let refusal = ProvisioningRules.refusal(by: error) else { throw error }
            return refusal
        }
    }
}

extension Database {
    /// The profile that a request names by its key, if that admits it.
    fileprivate func profile(for request: ProvisionRequest) throws -> DeviceProfile? {
        try self.row("SELECT * FROM device_profile WHERE provision_device_key = ?", [request.deviceKey])
            .map(DeviceProfile.init(row:))
            .flatMap { ProvisioningRules.admits(request, to: $0) ? $0 : nil }
    }

    /// The device with the name that a request has.
    fileprivate func device(named name: String, of tenant: TenantId) throws -> ProvisioningRules.KnownDevice? {
        let row = try self.row(
            """
            SELECT d.*, p.name AS type, a.kind, a.value
            FROM device d JOIN device_profile p ON p.id = d.device_profile_id
                LEFT JOIN attribute a ON a.device = d.no AND a.scope = ? AND a.key = ?
            WHERE d.tenant_id = ? AND d.name = ?
            """,
            [AttributeScope.server.rawValue, AttributeEntry.provisionStateKey, tenant.uuid, name]
        )
        return try row.map { row in
            let device = try Device(row: row)
            return ProvisioningRules.KnownDevice(
                device: device,
                type: row["type"],
                credentials: try self.credentials(of: device.id),
                state: row["kind"] as Int? == nil ? nil : try JSON(columnsOf: row)
            )
        }
    }
}

extension DeviceStatements {
    fileprivate func markProvisioned(_ device: DeviceId, at now: Timestamp, _ db: Database) throws {
        try self.insertAttribute(
            db.number(of: device),
            .server,
            AttributeEntry.provisionStateKey,
            AttributeEntry.provisionedState,
            at: now,
            db
        )
    }
}
