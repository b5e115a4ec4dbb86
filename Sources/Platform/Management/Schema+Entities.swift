import NodeKit
import OTA

/// The shapes of entities in answers, and of what is sent to save them.
extension Schema {
    static let error = Schema(
        "Error",
        Self.object([
            "status": Self.integer(in: 400...599), "message": Self.string, "errorCode": Self.integer(in: 2...46),
            "timestamp": Self.time,
        ])
    )

    static let device = Schema("Device", Self.object(Self.deviceMembers))

    /// A path that answers the one or the other.
    static let deviceOrPage = Schema(
        "DeviceOrPage",
        ["anyOf": [Self.device.reference, Self.device.page.reference]],
        parts: [Self.device, Self.device.page]
    )

    static let deviceInfo = Schema(
        "DeviceInfo",
        Self.object(
            .object(
                JSON.Object(
                    (Self.deviceMembers.object?.members ?? []).map { ($0.name, $0.value) } + [
                        ("customerTitle", Self.optionalString), ("customerIsPublic", Self.boolean),
                        ("deviceProfileName", Self.string), ("active", Self.boolean),
                        ("installedFirmware", Self.optional(Self.installed)),
                        ("installedSoftware", Self.optional(Self.installed)),
                    ]
                )
            )
        )
    )

    private static let deviceMembers: JSON = [
        "id": Self.id("DEVICE"), "createdTime": Self.time, "tenantId": Self.id("TENANT"),
        "customerId": Self.id("CUSTOMER"),
        "name": Self.text(1...255), "type": Self.string, "label": Self.optionalString,
        "deviceProfileId": Self.id("DEVICE_PROFILE"), "firmwareId": Self.optional(Self.id("OTA_PACKAGE")),
        "softwareId": Self.optional(Self.id("OTA_PACKAGE")), "externalId": ["type": "null"],
        "version": ["type": "null"],
        "additionalInfo": Self.anything, "deviceData": Self.anything,
    ]

    /// What is left out is not there any more when an existing device is saved.
    static let savedDevice = Schema(
        "SavedDevice",
        Self.object(
            ["name": Self.text(1...255)],
            optional: [
                "id": Self.optional(Self.reference("DEVICE")), "type": Self.optionalString,
                "label": Self.optional(["type": "string", "maxLength": 255]),
                "deviceProfileId": Self.optional(Self.reference("DEVICE_PROFILE")),
                "firmwareId": Self.optional(Self.reference("OTA_PACKAGE")),
                "softwareId": Self.optional(Self.reference("OTA_PACKAGE")), "additionalInfo": Self.optionalObject,
                "deviceData": Self.optionalObject,
            ]
        )
    )

    static let deviceWithCredentials = Schema(
        "DeviceWithCredentials",
        Self.object(["device": Self.savedDevice.reference, "credentials": Self.savedCredentialsOfDevice]),
        parts: [Self.savedDevice]
    )

    private static let savedCredentialsOfDevice = Self.object(
        [
            "credentialsType": Self.choice(of: ["ACCESS_TOKEN", "MQTT_BASIC", "X509_CERTIFICATE"])
        ],
        optional: ["credentialsId": Self.optionalString, "credentialsValue": Self.optionalString]
    )

    static let credentials = Schema(
        "DeviceCredentials",
        Self.object([
            "id": Self.object(["id": Self.uuid]), "createdTime": Self.time, "deviceId": Self.id("DEVICE"),
            "credentialsType": Self.choice(of: ["ACCESS_TOKEN", "MQTT_BASIC", "X509_CERTIFICATE"]),
            "credentialsId": Self.string, "credentialsValue": Self.optionalString, "version": ["type": "null"],
        ])
    )

    static let savedCredentials = Schema(
        "SavedDeviceCredentials",
        Self.object(
            ["deviceId": Self.reference("DEVICE")],
            optional: [
                "credentialsType": Self.choice(of: ["ACCESS_TOKEN", "MQTT_BASIC", "X509_CERTIFICATE"]),
                "credentialsId": Self.optionalString, "credentialsValue": Self.optionalString,
            ]
        )
    )

    static let deviceType = Schema(
        "DeviceType",
        Self.object(["tenantId": Self.id("TENANT"), "entityType": ["const": "DEVICE"], "type": Self.string])
    )

    static let deviceProfile = Schema(
        "DeviceProfile",
        Self.object([
            "id": Self.id("DEVICE_PROFILE"), "createdTime": Self.time, "tenantId": Self.id("TENANT"),
            "name": Self.text(1...255), "description": Self.optionalString, "default": Self.boolean,
            "firmwareId": Self.optional(Self.id("OTA_PACKAGE")), "softwareId": Self.optional(Self.id("OTA_PACKAGE")),
            "type": Self.anything, "transportType": Self.anything, "provisionType": Self.provisionTypes,
            "profileData": Self.anything, "provisionDeviceKey": Self.optionalString,
        ])
    )

    private static let provisionTypes = Self.choice(of: ProfileProvisioning.Kind.allCases.map(\.rawValue))

    /// Members that are not named here are kept and answered as they are.
    static let savedDeviceProfile = Schema(
        "SavedDeviceProfile",
        Self.object(
            ["name": Self.text(1...255)],
            optional: [
                "id": Self.optional(Self.reference("DEVICE_PROFILE")), "description": Self.optionalString,
                "firmwareId": Self.optional(Self.reference("OTA_PACKAGE")),
                "softwareId": Self.optional(Self.reference("OTA_PACKAGE")), "type": ["const": "DEFAULT"],
                "transportType": Self.choice(of: ["DEFAULT", "MQTT", "COAP"]), "provisionType": Self.provisionTypes,
                "provisionDeviceKey": Self.optionalString, "profileData": Self.optionalObject,
            ]
        )
    )

    static let deviceProfileInfo = Schema(
        "DeviceProfileInfo",
        Self.object([
            "id": Self.id("DEVICE_PROFILE"), "name": Self.text(1...255), "image": Self.anything,
            "defaultDashboardId": Self.anything, "type": Self.anything, "transportType": Self.anything,
            "tenantId": Self.id("TENANT"),
        ])
    )

    static let profileName = Schema("EntityInfo", Self.object(["id": Self.id("DEVICE_PROFILE"), "name": Self.string]))
}

/// The shapes of packages.
extension Schema {
    private static let algorithms = Self.choice(of: ChecksumAlgorithm.allCases.map(\.rawValue))
    private static let types = Self.choice(of: OtaPackageType.allCases.map(\.rawValue))

    private static let packageMembers: JSON = [
        "id": Self.id("OTA_PACKAGE"), "createdTime": Self.time, "tenantId": Self.id("TENANT"),
        "deviceProfileId": Self.optional(Self.id("DEVICE_PROFILE")), "type": Self.types, "title": Self.text(1...255),
        "version": Self.text(1...255), "tag": Self.optionalString, "url": Self.optionalString, "hasData": Self.boolean,
        "fileName": Self.optionalString, "contentType": Self.optionalString,
        "checksumAlgorithm": Self.optional(Self.algorithms), "checksum": Self.optionalString,
        "dataSize": Self.optionalInteger, "additionalInfo": Self.anything, "externalId": ["type": "null"],
        "name": Self.string,
    ]

    static let packageInfo = Schema("OtaPackageInfo", Self.object(Self.packageMembers))

    static let package = Schema(
        "OtaPackage",
        Self.object(
            Self.packageMembers.adding("data", ["type": ["string", "null"], "contentEncoding": "base64"])
        )
    )

    /// What is left out stays as it is when an existing package is saved.
    static let savedPackage = Schema(
        "SavedOtaPackageInfo",
        Self.object(
            [:],
            optional: [
                "id": Self.optional(Self.reference("OTA_PACKAGE")),
                "deviceProfileId": Self.optional(Self.reference("DEVICE_PROFILE")), "type": Self.types,
                "title": Self.text(1...255), "version": Self.text(1...255),
                "tag": Self.optional(["type": "string", "maxLength": 255]), "usesUrl": Self.boolean,
                "url": Self.optional(Self.text(1...255)), "checksumAlgorithm": Self.optional(Self.algorithms),
                "checksum": Self.optional(["type": "string", "maxLength": 1020]), "additionalInfo": Self.optionalObject,
            ]
        )
    )

    /// The fields of the package come before the file; `checksum` and `checksumAlgorithm` may follow it.
    static let packageForm = Schema(
        "OtaPackageForm",
        Self.object(
            ["title": Self.text(1...255), "version": Self.text(1...255), "type": Self.types],
            optional: [
                "deviceProfileId": Self.uuid, "tag": Self.string, "usesUrl": Self.choice(of: ["true", "false"]),
                "url": Self.string, "additionalInfo": Self.string, "checksumAlgorithm": Self.algorithms,
                "checksum": Self.string, "file": Self.file,
            ]
        )
    )

    /// The algorithm and the checksum may stand in the query instead.
    static let fileForm = Schema(
        "FileForm",
        Self.object(["file": Self.file], optional: ["checksumAlgorithm": Self.algorithms, "checksum": Self.string])
    )

    private static let file: JSON = ["type": "string", "format": "binary"]
}

/// The shapes of how far a device is with an update.
extension Schema {
    private static let recordMembers: JSON = [
        "deviceId": Self.id("DEVICE"), "type": Self.types, "state": Self.states,
        "packageId": Self.optional(Self.id("OTA_PACKAGE")), "title": Self.string, "version": Self.string,
        "entered": ["type": "object", "additionalProperties": Self.time], "lastChange": Self.time,
        "progress": ["type": ["integer", "null"], "minimum": 0, "maximum": 100],
        "attempts": Self.integer(in: 0...Int64.max), "retryTime": Self.optionalInteger,
        "failureCause": Self.optionalString, "errorClass": Self.optionalString, "error": Self.optionalString,
        "servedTime": Self.optionalInteger, "interrupted": Self.boolean, "installed": Self.optional(Self.installed),
        "priority": Self.integer(in: 0...9), "waiting": Self.optional(Self.waiting),
    ]

    /// Why a device was not notified yet.
    private static let waiting = Self.object([
        "queue": Self.optionalString, "since": Self.time, "until": Self.optionalInteger,
        "tries": Self.integer(in: 0...Int64.max), "code": Self.optionalString, "reason": Self.optionalString,
    ])

    /// What a device says it runs.
    private static let installed = Self.object([
        "title": Self.optionalString, "version": Self.optionalString, "since": Self.time, "report": Self.string,
    ])

    static let installedCounts = Schema(
        "InstalledCounts",
        Self.array(
            of: Self.object([
                "type": Self.types, "title": Self.optionalString, "version": Self.optionalString,
                "devices": Self.integer(in: 1...Int64.max),
            ])
        )
    )

    static let updateRecord = Schema("UpdateRecord", Self.object(Self.recordMembers))

    static let deviceUpdate = Schema(
        "DeviceUpdate",
        Self.object(
            Self.recordMembers.adding("deviceName", Self.string).adding("deviceProfileId", Self.id("DEVICE_PROFILE"))
        )
    )

    static let updateHistoryEntry = Schema(
        "UpdateHistoryEntry",
        Self.object([
            "id": Self.integer(in: 1...Int64.max), "ts": Self.time, "state": Self.string, "title": Self.string,
            "version": Self.string, "accepted": Self.boolean, "cause": Self.optionalString,
            "flag": Self.optionalString, "flagReason": Self.optionalString, "error": Self.optionalString,
        ])
    )

    static let stateCounts = Schema(
        "StateCounts",
        Self.object(
            .object(JSON.Object(OtaUpdateState.allCases.map { ($0.rawValue, Self.integer(in: 0...Int64.max)) }))
        )
    )

    static let deviceCount = Schema("DeviceCount", Self.object(["devices": Self.integer(in: 0...Int64.max)]))

    /// The messages that wait in a node.
    static let queue = Schema(
        "MessageQueue",
        Self.object([
            "name": Self.string, "chain": Self.string, "node": Self.string, "hasNode": Self.boolean,
            "waiting": Self.integer(in: 0...Int64.max), "oldest": Self.optional(Self.time),
            "held": ["type": "object", "additionalProperties": Self.integer(in: 1...Int64.max)],
        ])
    )

    static let queueMove = Schema("QueueMove", Self.object(["from": Self.string, "to": Self.string]))

    static let queueDrop = Schema("QueueDrop", Self.object(["name": Self.string]))

    static let messageCount = Schema("MessageCount", Self.object(["messages": Self.integer(in: 0...Int64.max)]))

    /// Which updates a command is for; an entity query may say which devices.
    static let updateQuery = Schema(
        "UpdateQuery",
        Self.object(
            [:],
            optional: [
                "type": Self.types, "states": Self.array(of: Self.states),
                "packageId": Self.optional(Self.reference("OTA_PACKAGE")),
                "deviceProfileId": Self.optional(Self.reference("DEVICE_PROFILE")),
                "deviceIds": ["type": "array", "items": Self.uuid, "minItems": 1], "all": Self.boolean,
                "includeUpdated": Self.boolean, "entityFilter": Self.entityFilter,
            ]
        )
    )

    private static let states = Self.choice(of: OtaUpdateState.allCases.map(\.rawValue))
}
