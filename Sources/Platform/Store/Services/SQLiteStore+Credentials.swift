import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: DeviceCredentialsService {
    /// The credentials of a device.
    public func findCredentials(of id: DeviceId) async throws -> DeviceCredentials? {
        try await self.read { db in try db.credentials(of: id) }
    }

    /// Replaces the credentials of a device.
    ///
    /// If they change, its sessions end.
    public func saveCredentials(_ credentials: DeviceCredentials) async throws -> DeviceCredentials {
        let wanted = try CredentialsRules.completed(credentials)
        return try await self.write { db, effects in
            try Self.replaceCredentials(by: wanted, db, &effects)
        }
    }

    /// Replaces the credentials of a device by others that are complete.
    @discardableResult
    static func replaceCredentials(
        by wanted: DeviceCredentials,
        _ db: Database,
        _ effects: inout Effects
    ) throws -> DeviceCredentials {
        let number = try db.number(of: wanted.deviceId)
        var saved = wanted
        if let old = try db.credentials(of: wanted.deviceId) {
            let isOther: Bool
            (saved, isOther) = CredentialsRules.replaced(old, by: wanted)
            guard isOther else { return saved }
            effects.credentials += [old.credentialsId, saved.credentialsId]
            effects.notifications.append((saved.deviceId, .credentialsRevoked))
            try db.run("DELETE FROM device_credentials WHERE device = ?", [number])
        }
        try Self.insert(saved, of: number, db)
        return saved
    }
}

extension SQLiteStore: DeviceAuthenticator {
    /// The device with this access token.
    public func device(accessToken: String) async throws -> Originator? {
        guard let known = try await self.credentials([accessToken])[0], known.kind == .accessToken else { return nil }
        return known.device
    }

    /// The device with these MQTT credentials.
    public func device(clientId: String, userName: String?, password: String?) async throws -> Originator? {
        let login = MQTTLogin(clientId: clientId, userName: userName, password: password)
        return login.device(among: try await self.credentials(login.lookups))
    }

    /// The device with this certificate.
    public func device(certificate: [UInt8]) async throws -> Originator? {
        let id = CredentialsRules.lookup(certificate: certificate)
        guard let known = try await self.credentials([id])[0], known.kind == .x509Certificate else { return nil }
        return known.device
    }

    /// The device with this identifier.
    public func device(_ id: DeviceId) async throws -> Originator? {
        try await self.read { db in
            try db.row(
                """
                SELECT d.id, d.name, p.name AS type
                FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE d.id = ?
                """,
                [id.uuid]
            ).map(Originator.init(row:))
        }
    }

    /// The device with this access token and how it may connect, if both are in memory.
    public func known(accessToken: String) -> Cached<(device: Originator, transport: ProfileTransport)> {
        Cached(self.caches.device(accessToken: accessToken))
    }

    /// How the profile of a device lets it connect.
    public func transport(of device: Originator) async throws -> ProfileTransport {
        if let known = self.caches.transport(of: device.id) { return known }
        let version = self.caches.version
        let found = try await self.read { db in
            try db.row(
                "SELECT p.settings FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE d.id = ?",
                [device.id]
            ).map { ProfileTransport(settings: try JSON(stored: $0["settings"])) }
        }
        guard let transport = found else { return .any }
        self.caches.keep(transport, for: device.id, readAt: version)
        return transport
    }

    /// What is known by these identifiers of credentials, in their order, with one visit to the database at most.
    ///
    /// Whoever has shown who it is, is asked next how it may connect, so that is read along.
    private func credentials(_ ids: [String]) async throws -> [KnownCredentials?] {
        var found = ids.map { $0.isEmpty ? nil : self.caches.credentials($0) }
        let missing = ids.indices.filter { found[$0] == nil && !ids[$0].isEmpty }
        guard !missing.isEmpty else { return found }
        let version = self.caches.version
        let read = try await self.read { db in
            try missing.map { index in try Self.credentials(ids[index], db) }
        }
        for (index, row) in zip(missing, read) {
            guard let (known, transport) = row else { continue }
            found[index] = known
            self.caches.keep(known, as: ids[index], readAt: version)
            self.caches.keep(transport, for: known.device.id, readAt: version)
        }
        return found
    }

    private static func credentials(_ id: String, _ db: Database) throws -> (KnownCredentials, ProfileTransport)? {
        let row = try db.row(
            """
            SELECT c.kind, c.credentials_value, d.id, d.name, p.name AS type, p.settings
            FROM device_credentials c JOIN device d ON d.no = c.device JOIN device_profile p ON p.id = d.device_profile_id
            WHERE c.credentials_id = ?
            """,
            [id]
        )
        guard let row else { return nil }
        let known = KnownCredentials(
            device: Originator(row: row),
            kind: try row.choice("kind"),
            value: row["credentials_value"]
        )
        return (known, ProfileTransport(settings: try JSON(stored: row["settings"])))
    }

    /// Adds the credentials of a device that has none.
    static func insert(_ credentials: DeviceCredentials, of number: Int64, _ db: Database) throws {
        try CredentialsRules.check(
            credentials,
            isTaken: db.exists("SELECT 1 FROM device_credentials WHERE credentials_id = ?", [credentials.credentialsId])
        )
        try db.run(
            """
            INSERT INTO device_credentials (id, created_time, device, kind, credentials_id, credentials_value)
            VALUES (?, ?, ?, ?, ?, ?)
            """,
            [
                credentials.id.uuid, credentials.createdTime.rawValue, number, credentials.kind.rawValue,
                credentials.credentialsId, credentials.credentialsValue,
            ]
        )
    }
}

extension Originator {
    /// Reads a row with a device's `id` and `name` and its profile's name as `type`.
    init(row: Row) {
        self.init(id: row["id"], name: row["name"], type: row["type"])
    }
}
