public import NodeKit

/// A device: what updates go to.
public struct Device: Sendable, Hashable {
    /// Unique identifier.
    public var id: DeviceId
    /// When it was created.
    public var createdTime: Timestamp
    /// Who owns it.
    public var tenantId: TenantId
    /// Name, 1…255 characters, unique among the devices of its tenant.
    @ExactText public var name: String
    /// Label for people.
    public var label: String?
    /// Its profile.
    public var deviceProfileId: DeviceProfileId
    /// Firmware of its own, which counts before the profile's.
    public var firmwareId: OtaPackageId?
    /// Software of its own, which counts before the profile's.
    public var softwareId: OtaPackageId?
    /// Anything an administrator wants to keep with it.
    public var additionalInfo: JSON?
    /// Settings as the REST API carries them, kept as they are.
    public var deviceData: JSON?
    /// Whether the store has it; set by the store.
    ///
    /// Saving one that the store does not have creates it, and never replaces one with the same identifier.
    public var isSaved = false

    /// Describes a device that is not saved yet.
    public init(
        id: DeviceId = .random(),
        createdTime: Timestamp = .now,
        tenantId: TenantId = .main,
        name: String,
        label: String? = nil,
        deviceProfileId: DeviceProfileId,
        firmwareId: OtaPackageId? = nil,
        softwareId: OtaPackageId? = nil,
        additionalInfo: JSON? = nil,
        deviceData: JSON? = nil
    ) {
        self.id = id
        self.createdTime = createdTime
        self.tenantId = tenantId
        self.name = name
        self.label = label
        self.deviceProfileId = deviceProfileId
        self.firmwareId = firmwareId
        self.softwareId = softwareId
        self.additionalInfo = additionalInfo
        self.deviceData = deviceData
    }

    /// The device's own package of a type, if any.
    public func packageId(of type: OtaPackageType) -> OtaPackageId? {
        type == .firmware ? self.firmwareId : self.softwareId
    }
}

/// What many devices have in common, among it the packages that they should have.
public struct DeviceProfile: Sendable, Hashable {
    /// Unique identifier.
    public var id: DeviceProfileId
    /// When it was created.
    public var createdTime: Timestamp
    /// Who owns it.
    public var tenantId: TenantId
    /// Name, 1…255 characters, unique among the profiles of its tenant.
    @ExactText public var name: String
    /// Text for people.
    public var description: String?
    /// Whether devices that name no profile get this one.
    ///
    /// Exactly one profile of a tenant is the default.
    public var isDefault: Bool
    /// Firmware for devices without their own.
    public var firmwareId: OtaPackageId?
    /// Software for devices without their own.
    public var softwareId: OtaPackageId?
    /// How devices without credentials may become devices of this profile.
    public var provisioning: ProfileProvisioning
    /// Members of the REST API's form that are no fields here (`transportType`, `profileData`, …), kept as they are.
    public var settings: JSON
    /// Whether the store has it; set by the store.
    ///
    /// Saving one that the store does not have creates it, and never replaces one with the same identifier.
    public var isSaved = false
    /// How its devices may connect.
    public var transport: ProfileTransport { ProfileTransport(settings: self.settings) }

    /// Describes a profile that is not saved yet.
    public init(
        id: DeviceProfileId = .random(),
        createdTime: Timestamp = .now,
        tenantId: TenantId = .main,
        name: String,
        description: String? = nil,
        isDefault: Bool = false,
        firmwareId: OtaPackageId? = nil,
        softwareId: OtaPackageId? = nil,
        provisioning: ProfileProvisioning = ProfileProvisioning(),
        settings: JSON = [:]
    ) {
        self.id = id
        self.createdTime = createdTime
        self.tenantId = tenantId
        self.name = name
        self.description = description
        self.isDefault = isDefault
        self.firmwareId = firmwareId
        self.softwareId = softwareId
        self.provisioning = provisioning
        self.settings = settings
    }

    /// The profile's package of a type, if any.
    public func packageId(of type: OtaPackageType) -> OtaPackageId? {
        type == .firmware ? self.firmwareId : self.softwareId
    }
}

/// How a device proves who it is.
public struct DeviceCredentials: Sendable, Hashable {
    /// Kinds of credentials, named as in ThingsBoard.
    public enum Kind: String, Sendable, Hashable {
        /// A secret text that identifies the device by itself.
        case accessToken = "ACCESS_TOKEN"
        /// Client identifier, user name and password of MQTT.
        case mqttBasic = "MQTT_BASIC"
        /// A client certificate.
        case x509Certificate = "X509_CERTIFICATE"
    }

    /// Unique identifier.
    public var id: DeviceCredentialsId
    /// When they were created.
    public var createdTime: Timestamp
    /// Whose they are.
    ///
    /// A device has exactly one set.
    public var deviceId: DeviceId
    /// What kind they are.
    public var kind: Kind
    /// What they are looked up by; for an access token the token itself.
    ///
    /// Unique.
    @ExactText public var credentialsId: String
    /// More for kinds that need it; for MQTT basic a JSON text.
    public var credentialsValue: String?

    /// Describes credentials that are not saved yet.
    public init(
        id: DeviceCredentialsId = .random(),
        createdTime: Timestamp = .now,
        deviceId: DeviceId,
        kind: Kind = .accessToken,
        credentialsId: String,
        credentialsValue: String? = nil
    ) {
        self.id = id
        self.createdTime = createdTime
        self.deviceId = deviceId
        self.kind = kind
        self.credentialsId = credentialsId
        self.credentialsValue = credentialsValue
    }
}

/// Who keeps an attribute.
public enum AttributeScope: String, Sendable, Hashable, CaseIterable {
    /// Reported by the device.
    case client = "CLIENT_SCOPE"
    /// Set by the platform for the device to see.
    case shared = "SHARED_SCOPE"
    /// Set by the platform, not seen by the device.
    case server = "SERVER_SCOPE"
}

/// One attribute with the time it was last written.
public struct AttributeEntry: Sendable, Hashable {
    /// The name.
    @ExactText public var key: String
    /// The value; never `null`.
    public var value: JSON
    /// When it was last written.
    public var lastUpdate: Timestamp

    /// Makes an entry.
    public init(key: String, value: JSON, lastUpdate: Timestamp) {
        self.key = key
        self.value = value
        self.lastUpdate = lastUpdate
    }
}

/// One value of a time series.
public struct TimeseriesEntry: Sendable, Hashable {
    /// The name of the series.
    @ExactText public var key: String
    /// When.
    public var timestamp: Timestamp
    /// The value; never `null`.
    public var value: JSON

    /// Makes an entry.
    public init(key: String, timestamp: Timestamp, value: JSON) {
        self.key = key
        self.timestamp = timestamp
        self.value = value
    }
}
