import NodeKit
import OTA

extension Device {
    /// ThingsBoard's `Device`; its `type` is the profile's name.
    func json(type: String) -> JSON {
        [
            "id": self.id.json,
            "createdTime": JSON(self.createdTime),
            "tenantId": self.tenantId.json,
            "customerId": EntityShape.customerId,
            "name": .string(self.name),
            "type": .string(type),
            "label": JSON(self.label),
            "deviceProfileId": self.deviceProfileId.json,
            "firmwareId": self.firmwareId?.json ?? .null,
            "softwareId": self.softwareId?.json ?? .null,
            "externalId": nil,
            "version": nil,
            "additionalInfo": self.additionalInfo ?? .null,
            "deviceData": self.deviceData ?? EntityShape.deviceData,
        ]
    }

    /// ThingsBoard's `DeviceInfo`.
    func infoJSON(type: String) -> JSON {
        guard case .object(var object) = self.json(type: type) else { return .null }
        object["customerTitle"] = .null
        object["customerIsPublic"] = false
        object["deviceProfileName"] = .string(type)
        return .object(object)
    }

    /// The device that a body describes in full: what it does not say is not there any more.
    ///
    /// - Parameters:
    ///   - body: ThingsBoard's `Device`.
    ///   - existing: The device as it is, if it exists.
    ///   - profileId: Its profile.
    ///   - now: When it was created, if it is new.
    /// - Throws: ``APIError`` if a member is of the wrong type.
    init(from body: BodyReader, replacing existing: Device?, profileId: DeviceProfileId, now: Timestamp) throws {
        self.init(
            id: existing?.id ?? .random(),
            createdTime: existing?.createdTime ?? now,
            name: try body.string("name") ?? "",
            label: try body.string("label"),
            deviceProfileId: profileId,
            firmwareId: try body.id("firmwareId"),
            softwareId: try body.id("softwareId"),
            additionalInfo: body["additionalInfo"],
            deviceData: body["deviceData"]
        )
    }
}

extension DeviceCredentials {
    /// ThingsBoard's `DeviceCredentials`.
    var json: JSON {
        [
            "id": self.id.json,
            "createdTime": JSON(self.createdTime),
            "deviceId": self.deviceId.json,
            "credentialsType": .string(self.kind.rawValue),
            "credentialsId": .string(self.credentialsId),
            "credentialsValue": JSON(self.credentialsValue),
            "version": nil,
        ]
    }

    /// Takes over what a body says, in full.
    ///
    /// - Throws: ``APIError`` if a member is missing or of the wrong type.
    mutating func update(from body: BodyReader) throws {
        let type = try body.string("credentialsType") ?? Kind.accessToken.rawValue
        guard let kind = Kind(rawValue: type) else {
            throw APIError.badRequest("Credentials of type '\(type)' are not supported")
        }
        let id = try body.string("credentialsId") ?? ""
        // Those of MQTT basic are looked up by what is in their value.
        if id.isEmpty, kind == .accessToken { throw APIError.badRequest("Device credentials id should be specified!") }
        self.kind = kind
        self.credentialsId = id
        self.credentialsValue = try body.string("credentialsValue")
    }
}

extension DeviceProfile {
    /// Members of ThingsBoard's form that are fields of ours; all others are ``settings``.
    private static let fields: Set<String> = [
        "id", "createdTime", "tenantId", "name", "description", "default", "firmwareId", "softwareId",
    ]

    /// What members that matter to clients are if nothing was saved.
    private static let defaults: JSON.Object = [
        "type": "DEFAULT",
        "transportType": "DEFAULT",
        "provisionType": "DISABLED",
        "profileData": EntityShape.profileData,
        "provisionDeviceKey": nil,
        "image": nil,
        "defaultRuleChainId": nil,
        "defaultDashboardId": nil,
        "defaultQueueName": nil,
        "defaultEdgeRuleChainId": nil,
        "externalId": nil,
        "version": nil,
    ]

    /// ThingsBoard's `DeviceProfile`, with the members that it was saved with.
    var json: JSON {
        var object: JSON.Object = [
            "id": self.id.json,
            "createdTime": JSON(self.createdTime),
            "tenantId": self.tenantId.json,
            "name": .string(self.name),
            "description": JSON(self.description),
            "default": .bool(self.isDefault),
            "firmwareId": self.firmwareId?.json ?? .null,
            "softwareId": self.softwareId?.json ?? .null,
        ]
        for member in Self.defaults.members { object[member.name] = member.value }
        for member in self.settings.object?.members ?? [] where !Self.fields.contains(member.name) {
            if member.value.isNull, object[member.name] != nil { continue }
            object[member.name] = member.value
        }
        return .object(object)
    }

    /// ThingsBoard's `DeviceProfileInfo`.
    var infoJSON: JSON {
        let full = self.json
        return [
            "id": self.id.json,
            "name": .string(self.name),
            "image": full["image"] ?? .null,
            "defaultDashboardId": full["defaultDashboardId"] ?? .null,
            "type": full["type"] ?? "DEFAULT",
            "transportType": full["transportType"] ?? "DEFAULT",
            "tenantId": self.tenantId.json,
        ]
    }

    /// The profile that a body describes in full: what it does not say is not there any more.
    ///
    /// Which profile is the default one does not change by saving.
    ///
    /// - Throws: ``APIError`` if a member is of the wrong type, or it wants to be a second default profile.
    init(from body: BodyReader, replacing existing: DeviceProfile?, now: Timestamp) throws {
        let isDefault = existing?.isDefault ?? false
        if try body.bool("default") == true, !isDefault {
            throw APIError.badRequest("Another default device profile is present in scope of current tenant!")
        }
        self.init(
            id: existing?.id ?? .random(),
            createdTime: existing?.createdTime ?? now,
            name: try body.string("name") ?? "",
            description: try body.string("description"),
            isDefault: isDefault,
            firmwareId: try body.id("firmwareId"),
            softwareId: try body.id("softwareId"),
            settings: .object(
                JSON.Object(
                    body.object.members.lazy.filter { !Self.fields.contains($0.name) }.map { ($0.name, $0.value) }
                )
            )
        )
    }
}
