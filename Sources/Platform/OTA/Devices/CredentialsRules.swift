import Crypto
import FoundationEssentials
public import NodeKit

/// The rules of what devices prove themselves with, with ThingsBoard's sentences where one is broken; see ``EntityRules``.
public enum CredentialsRules {
    /// Checks credentials, and works out what those of MQTT and certificates are looked up by.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if a part is missing or cannot be understood.
    public static func completed(_ credentials: DeviceCredentials) throws(NodeError) -> DeviceCredentials {
        var credentials = credentials
        switch credentials.kind {
        case .accessToken:
            credentials.credentialsValue = nil
            try Self.checkAccessToken(credentials.credentialsId)
        case .mqttBasic:
            var basic: MQTTBasicCredentials?
            do throws(JSONSyntaxError) {
                basic = try MQTTBasicCredentials(parsing: credentials.credentialsValue ?? "")
            } catch {
                guard error.null == nil else { throw NullCharacter(in: "credentialsValue").refusal }
            }
            guard let basic else {
                throw EntityRules.broken("Invalid credentials body for simple mqtt credentials!")
            }
            guard basic.clientId != nil || basic.userName != nil else {
                throw EntityRules.broken("Both mqtt client id and user name are empty!")
            }
            credentials.credentialsId = MQTTBasicCredentials.lookup(clientId: basic.clientId, userName: basic.userName)
        case .x509Certificate:
            let value = credentials.credentialsValue ?? ""
            try EntityRules.checkGiven(value, "Device credentials value", isBlankEnough: true)
            guard let body = Self.certificateBody(value) else {
                throw EntityRules.broken("Device credentials value must be one certificate in PEM form!")
            }
            credentials.credentialsId = Self.digest(body)
        }
        return credentials
    }

    /// Checks that an access token is given.
    public static func checkAccessToken(_ token: String) throws(NodeError) {
        try EntityRules.checkGiven(token, "Device credentials id", isBlankEnough: true)
    }

    /// Checks that credentials may be stored.
    ///
    /// - Parameters:
    ///   - credentials: The credentials, completed.
    ///   - isTaken: Whether another device's are looked up by the same.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func check(_ credentials: DeviceCredentials, isTaken: Bool) throws(NodeError) {
        try EntityRules.checkLength(credentials.credentialsId, of: "credentialsId")
        guard !isTaken else {
            throw EntityRules.broken("Device credentials are already assigned to another device!")
        }
    }

    /// Credentials in place of others of the same device, as whose they are stored.
    ///
    /// - Returns: The credentials, and whether a client has to present something else: then the device's sessions end.
    public static func replaced(
        _ old: DeviceCredentials,
        by wanted: DeviceCredentials
    ) -> (credentials: DeviceCredentials, isOther: Bool) {
        var credentials = wanted
        credentials.id = old.id
        credentials.createdTime = old.createdTime
        let isSame =
            wanted.kind == old.kind && wanted.$credentialsId == old.$credentialsId
            && wanted.credentialsValue.exact == old.credentialsValue.exact
        return (credentials, !isSame)
    }

    /// What the credentials with a certificate are looked up by, built as in ThingsBoard but of SHA-256: a digest of the base64 text
    /// of its DER form.
    public static func lookup(certificate: [UInt8]) -> String { Self.digest(Data(certificate).base64EncodedString()) }

    /// Twenty letters and digits that nobody can guess, as ThingsBoard makes tokens, keys, secrets and names.
    public static func randomText() -> String {
        let characters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        return String((0..<20).compactMap { _ in characters.randomElement() })
    }

    /// The base64 text of a certificate's DER form, from a PEM text with or without its first and last line and whatever its
    /// line ends are; `nil` if the text is not a certificate.
    private static func certificateBody(_ text: String) -> String? {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.filter { !$0.isWhitespace } }
        let body = lines.filter { !$0.hasPrefix("-----") }.joined()
        guard !body.isEmpty, lines.count(where: { $0.hasPrefix("-----BEGIN") }) <= 1, Data(base64Encoded: body) != nil
        else { return nil }
        return body
    }

    static func digest(_ text: String) -> String {
        var checksum = Checksum(.sha256)
        Array(text.utf8).withUnsafeBytes { checksum.update($0) }
        return checksum.hexadecimal
    }
}

/// Client identifier, user name and password, of which those that are set must be presented.
public struct MQTTBasicCredentials: Sendable, Hashable {
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
    func accepts(_ login: MQTTLogin) -> Bool {
        if let wanted = self.clientId, wanted.exact != login.clientId.exact { return false }
        if let wanted = self.userName, wanted.exact != login.userName.exact { return false }
        guard let wanted = self.password else { return true }
        return wanted.isSameSecret(as: login.password ?? "")
    }

    /// What credentials with these members are looked up by, built as in ThingsBoard but of SHA-256.
    static func lookup(clientId: String?, userName: String?) -> String {
        switch (clientId, userName) {
        case (let clientId?, let userName?): CredentialsRules.digest("\(clientId)|\(userName)")
        case (nil, let userName?): userName
        case (let clientId, nil): CredentialsRules.digest(clientId ?? "")
        }
    }
}

/// Stored credentials with the device that they prove.
public struct KnownCredentials: Sendable {
    /// The device.
    public let device: Originator
    /// What kind they are.
    public let kind: DeviceCredentials.Kind
    private let basic: MQTTBasicCredentials?

    /// Joins credentials and their device.
    ///
    /// - Parameters:
    ///   - device: The device.
    ///   - kind: What kind they are.
    ///   - value: ``DeviceCredentials/credentialsValue``.
    public init(device: Originator, kind: DeviceCredentials.Kind, value: String?) {
        self.device = device
        self.kind = kind
        self.basic = kind == .mqttBasic ? try? MQTTBasicCredentials(parsing: value ?? "", allowsNull: true) : nil
    }

    fileprivate func accepts(_ login: MQTTLogin) -> Bool { self.basic?.accepts(login) ?? false }
}

/// What an MQTT client presents to prove which device it is.
public struct MQTTLogin: Sendable, Hashable {
    /// The client identifier.
    public var clientId: String
    /// The user name; `nil` if there is none, or an empty one.
    public private(set) var userName: String?
    /// The password.
    public var password: String?

    /// Joins what is presented.
    public init(clientId: String, userName: String?, password: String?) {
        self.clientId = clientId
        self.userName = userName?.isEmpty == true ? nil : userName
        self.password = password
    }

    /// What credentials that may be the client's are looked up by.
    public var lookups: [String] {
        let own = MQTTBasicCredentials.lookup(clientId: self.clientId, userName: self.userName)
        return [own] + (self.userName.map { [$0] } ?? [])
    }

    /// The device that the client is, in ThingsBoard's order: MQTT basic by client identifier and user name, then whatever has the
    /// user name as its identifier, an access token among it.
    ///
    /// - Parameter found: What was found by each of ``lookups``.
    /// - Returns: The device; `nil` if it is none.
    public func device(among found: [KnownCredentials?]) -> Originator? {
        // A wrong password ends it: the user name must not then count as a token.
        if let known = found[0], known.kind == .mqttBasic { return known.accepts(self) ? known.device : nil }
        guard found.count > 1, let known = found[1] else { return nil }
        return known.kind == .accessToken || known.accepts(self) ? known.device : nil
    }
}

extension String {
    /// Whether two secrets are the same, in a time that tells nothing about them: digests of the same length are compared as a
    /// whole.
    func isSameSecret(as other: String) -> Bool {
        SHA256.hash(data: Array(self.utf8)) == SHA256.hash(data: Array(other.utf8))
    }
}
