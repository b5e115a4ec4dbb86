import Crypto
import FoundationEssentials
import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: DeviceCredentialsService {
    /// The most characters of what credentials are looked up by.
    static let credentialsIdLengthMax = 255

    /// The credentials of a device.
    public func findCredentials(of id: DeviceId) async throws -> DeviceCredentials? {
        try await self.read { db in try db.credentials(of: id) }
    }

    /// Replaces the credentials of a device.
    ///
    /// If they change, its sessions end.
    public func saveCredentials(_ credentials: DeviceCredentials) async throws -> DeviceCredentials {
        let wanted = try Self.completed(credentials)
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
            saved.id = old.id
            saved.createdTime = old.createdTime
            guard !saved.proves(sameAs: old) else { return saved }
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
        guard let userName, !userName.isEmpty else {
            let id = MQTTBasicCredentials.lookup(clientId: clientId, userName: nil)
            guard let known = try await self.credentials([id])[0] else { return nil }
            return known.accepts(clientId: clientId, userName: nil, password: password) ? known.device : nil
        }
        let both = MQTTBasicCredentials.lookup(clientId: clientId, userName: userName)
        let found = try await self.credentials([both, userName])
        if let known = found[0], known.kind == .mqttBasic {
            // A wrong password ends it: the user name must not then count as a token.
            return known.accepts(clientId: clientId, userName: userName, password: password) ? known.device : nil
        }
        guard let known = found[1] else { return nil }
        if known.kind == .accessToken { return known.device }
        return known.accepts(clientId: clientId, userName: userName, password: password) ? known.device : nil
    }

    /// The device with this certificate.
    public func device(certificate: [UInt8]) async throws -> Originator? {
        let id = Self.lookup(certificate: Data(certificate).base64EncodedString())
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
    public func known(accessToken: String) -> (device: Originator, transport: ProfileTransport)? {
        self.caches.device(accessToken: accessToken)
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
        let kind: DeviceCredentials.Kind = try row.choice("kind")
        let known = KnownCredentials(
            device: Originator(row: row),
            kind: kind,
            basic: kind == .mqttBasic
                ? try? MQTTBasicCredentials(parsing: row["credentials_value"] ?? "", allowsNull: true) : nil
        )
        return (known, ProfileTransport(settings: try JSON(stored: row["settings"])))
    }

    /// Adds the credentials of a device that has none.
    static func insert(_ credentials: DeviceCredentials, of number: Int64, _ db: Database) throws {
        try Self.checkLength(credentials.credentialsId, of: "credentialsId", max: Self.credentialsIdLengthMax)
        guard try !db.exists("SELECT 1 FROM device_credentials WHERE credentials_id = ?", [credentials.credentialsId])
        else {
            throw NodeError(.badRequest, "Device credentials are already assigned to another device!")
        }
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

    /// Checks credentials and works out what those of MQTT and certificates are looked up by.
    static func completed(_ credentials: DeviceCredentials) throws -> DeviceCredentials {
        var credentials = credentials
        switch credentials.kind {
        case .accessToken:
            credentials.credentialsValue = nil
            guard !credentials.credentialsId.isEmpty else {
                throw NodeError(.badRequest, "Device credentials id should be specified!")
            }
        case .mqttBasic:
            var basic: MQTTBasicCredentials?
            do throws(JSONSyntaxError) {
                basic = try MQTTBasicCredentials(parsing: credentials.credentialsValue ?? "")
            } catch {
                guard error.null == nil else { throw NullCharacter(in: "credentialsValue").refusal }
            }
            guard let basic else {
                throw NodeError(.badRequest, "Invalid credentials body for simple mqtt credentials!")
            }
            guard basic.clientId != nil || basic.userName != nil else {
                throw NodeError(.badRequest, "Both mqtt client id and user name are empty!")
            }
            credentials.credentialsId = MQTTBasicCredentials.lookup(clientId: basic.clientId, userName: basic.userName)
        case .x509Certificate:
            guard let value = credentials.credentialsValue, !value.isEmpty else {
                throw NodeError(.badRequest, "Device credentials value should be specified!")
            }
            guard let body = Self.certificateBody(value) else {
                throw NodeError(.badRequest, "Device credentials value must be one certificate in PEM form!")
            }
            credentials.credentialsId = Self.lookup(certificate: body)
        }
        return credentials
    }

    /// The base64 text of a certificate's DER form, from a PEM text with or without its first and last line and whatever its
    /// line ends are; `nil` if it is none.
    private static func certificateBody(_ text: String) -> String? {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.filter { !$0.isWhitespace } }
        let body = lines.filter { !$0.hasPrefix("-----") }.joined()
        guard !body.isEmpty, lines.count(where: { $0.hasPrefix("-----BEGIN") }) <= 1, Data(base64Encoded: body) != nil
        else { return nil }
        return body
    }

    /// What a certificate is found by, built as in ThingsBoard but of SHA-256: a digest of the base64 text of its DER form.
    private static func lookup(certificate: String) -> String { MQTTBasicCredentials.digest(certificate) }
}

extension DeviceCredentials {
    /// Whether the same is presented for both.
    fileprivate func proves(sameAs other: Self) -> Bool {
        self.kind == other.kind && self.$credentialsId == other.$credentialsId
            && self.credentialsValue.exact == other.credentialsValue.exact
    }
}

extension KnownCredentials {
    /// Whether what a client presents is what is stored, for the kind that has a password.
    func accepts(clientId: String, userName: String?, password: String?) -> Bool {
        self.basic?.accepts(clientId: clientId, userName: userName, password: password) ?? false
    }
}

/// Client identifier, user name and password, of which those that are set must be presented.
struct MQTTBasicCredentials: Sendable, Hashable {
    var clientId: String?
    var userName: String?
    var password: String?

    /// Reads ThingsBoard's JSON form; `nil` if the text is not an object.
    ///
    /// - Parameters:
    ///   - text: The text.
    ///   - allowsNull: Whether U+0000 is allowed, as in credentials that were stored before it was refused.
    /// - Throws: ``JSONSyntaxError`` if the text is not JSON.
    init?(parsing text: String, allowsNull: Bool = false) throws(JSONSyntaxError) {
        guard let object = try JSON(parsing: text, allowsNull: allowsNull).object else { return nil }
        func member(_ name: String) -> String? { object[name]?.string.flatMap { $0.isEmpty ? nil : $0 } }
        self.clientId = member("clientId")
        self.userName = member("userName")
        self.password = member("password")
    }

    /// Whether all that is set was presented.
    func accepts(clientId: String, userName: String?, password: String?) -> Bool {
        if let wanted = self.clientId, wanted.exact != clientId.exact { return false }
        if let wanted = self.userName, wanted.exact != userName.exact { return false }
        guard let wanted = self.password else { return true }
        return wanted.isSameSecret(as: password ?? "")
    }

    /// What credentials with these members are found by, built as in ThingsBoard but of SHA-256.
    static func lookup(clientId: String?, userName: String?) -> String {
        switch (clientId, userName) {
        case (let clientId?, let userName?): Self.digest("\(clientId)|\(userName)")
        case (nil, let userName?): userName
        case (let clientId, nil): Self.digest(clientId ?? "")
        }
    }

    static func digest(_ text: String) -> String {
        var checksum = Checksum(.sha256)
        Array(text.utf8).withUnsafeBytes { checksum.update($0) }
        return checksum.hexadecimal
    }
}

extension String {
    /// Whether two secrets are the same, in a time that tells nothing about them: digests of the same length are compared as a
    /// whole.
    func isSameSecret(as other: String) -> Bool {
        SHA256.hash(data: Array(self.utf8)) == SHA256.hash(data: Array(other.utf8))
    }
}

extension Originator {
    /// Reads a row with a device's `id` and `name` and its profile's name as `type`.
    init(row: Row) {
        self.init(id: row["id"], name: row["name"], type: row["type"])
    }
}
