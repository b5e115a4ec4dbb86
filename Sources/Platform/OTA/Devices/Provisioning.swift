public import NodeKit

/// How devices that have no credentials yet may become devices of a profile.
public struct ProfileProvisioning: Sendable, Hashable {
    /// Which devices, named as in ThingsBoard.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// None.
        case disabled = "DISABLED"
        /// Any that knows key and secret, under a name that no device has.
        case allowCreateNewDevices = "ALLOW_CREATE_NEW_DEVICES"
        /// Those that an administrator made before, each once.
        case checkPreProvisionedDevices = "CHECK_PRE_PROVISIONED_DEVICES"
        /// Those with a certificate of a chain; kept for clients of the REST API, nothing is provisioned by it.
        case x509CertificateChain = "X509_CERTIFICATE_CHAIN"

        /// Whether devices prove by key and secret that they may.
        public var needsKey: Bool { [.allowCreateNewDevices, .checkPreProvisionedDevices].contains(self) }
    }

    /// Which devices.
    public var kind: Kind
    /// What the profile is found by, unique among profiles, 1…255 characters.
    ///
    /// A profile whose kind needs one gets a random one when it is saved without.
    public var deviceKey: String?
    /// What proves that a device may; made and kept like the key.
    public var deviceSecret: String?

    /// Describes how devices are provisioned; not at all unless told otherwise.
    public init(kind: Kind = .disabled, deviceKey: String? = nil, deviceSecret: String? = nil) {
        self.kind = kind
        self.deviceKey = deviceKey
        self.deviceSecret = deviceSecret
    }
}

/// What somebody who is no device yet presents to become one.
public struct ProvisionRequest: Sendable, Hashable {
    /// Credentials that the device wants to have.
    public enum Credentials: Sendable, Hashable {
        /// This access token.
        case accessToken(String)
        /// These MQTT credentials, those that are set.
        case mqttBasic(clientId: String?, userName: String?, password: String?)
        /// This client certificate, as text.
        case x509Certificate(String)
    }

    /// The name it wants; empty for a random one.
    @ExactText public var deviceName: String
    /// The key of the profile.
    @ExactText public var deviceKey: String
    /// The secret of the profile.
    @ExactText public var deviceSecret: String
    /// The credentials it wants; `nil` for a random access token.
    public var credentials: Credentials?
    /// Whether it speaks for other devices, which its `additionalInfo` then says.
    public var isGateway: Bool

    /// Describes a request.
    public init(
        deviceName: String,
        deviceKey: String,
        deviceSecret: String,
        credentials: Credentials? = nil,
        isGateway: Bool = false
    ) {
        self.deviceName = deviceName
        self.deviceKey = deviceKey
        self.deviceSecret = deviceSecret
        self.credentials = credentials
        self.isGateway = isGateway
    }
}

/// What became of a ``ProvisionRequest``.
public enum ProvisionResult: Sendable {
    /// It is this device now, with these credentials.
    case provisioned(Originator, DeviceCredentials)
    /// No profile has this key and secret, or it provisions no devices.
    case notFound
    /// Key and secret are right, but this device cannot be provisioned; the sentence says why.
    ///
    /// With the device of this name, if there is one.
    case refused(String, Originator?)
}

extension AttributeEntry {
    /// The server attribute that says that a device was provisioned, as in ThingsBoard.
    public static let provisionStateKey = "provisionState"
    /// Its value then.
    public static let provisionedState: JSON = "provisioned"
}
