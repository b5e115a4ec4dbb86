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

    /// The device that a body describes in full: what it does not say is not there any more.
    ///
    /// - Parameters:
    ///   - body: ThingsBoard's `Device`.
    ///   - existing: The device as it is, if it exists.
    ///   - tenant: Its tenant.
    ///   - profileId: Its profile.
    ///   - now: When it was created, if it is new.
    /// - Throws: ``APIError`` if a member is of the wrong type.
    init(
        from body: BodyReader,
        replacing existing: Device?,
        of tenant: TenantId,
        profileId: DeviceProfileId,
        now: Timestamp
    ) throws {
        self.init(
            id: existing?.id ?? .random(),
            createdTime: existing?.createdTime ?? now,
            tenantId: tenant,
            name: try body.string("name") ?? "",
            label: try body.string("label"),
            deviceProfileId: profileId,
            firmwareId: try body.id("firmwareId"),
            softwareId: try body.id("softwareId"),
            additionalInfo: body["additionalInfo"],
            deviceData: body["deviceData"]
        )
        self.isSaved = existing != nil
    }
}

extension DeviceInfo {
    /// ThingsBoard's `Device`.
    var deviceJSON: JSON { self.device.json(type: self.type) }

    /// ThingsBoard's `DeviceInfo`, and what the device says it runs.
    var json: JSON {
        guard case .object(var object) = self.deviceJSON else { return .null }
        object["customerTitle"] = .null
        object["customerIsPublic"] = false
        object["deviceProfileName"] = .string(self.type)
        object["active"] = .bool(self.isActive)
        object["installedFirmware"] = self.installed[.firmware]?.json ?? .null
        object["installedSoftware"] = self.installed[.software]?.json ?? .null
        return .object(object)
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
        if kind == .accessToken { try CredentialsRules.checkAccessToken(id) }
        self.kind = kind
        self.credentialsId = id
        self.credentialsValue = try body.string("credentialsValue")
    }
}
