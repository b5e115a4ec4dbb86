import NodeKit
import OTA

extension DeviceProfile {
    /// Members of ThingsBoard's form that are fields of ours; all others are ``settings``.
    private static let fields: Set<ExactText> = [
        "id", "createdTime", "tenantId", "name", "description", "default", "firmwareId", "softwareId", "provisionType",
        "provisionDeviceKey",
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
        for member in self.settings.object?.members ?? [] where !Self.fields.contains(member.name.exact) {
            if member.value.isNull, object[member.name] != nil { continue }
            object[member.name] = member.value
        }
        object["provisionType"] = .string(self.provisioning.kind.rawValue)
        object["provisionDeviceKey"] = JSON(self.provisioning.deviceKey)
        object["profileData"] = self.profileData(object["profileData"] ?? .null)
        return .object(object)
    }

    /// What was saved as `profileData`, with what it says about provisioning.
    private func profileData(_ saved: JSON) -> JSON {
        guard case .object(var data) = saved else { return saved }
        let isSilent = self.provisioning.kind == .disabled && self.provisioning.deviceSecret == nil
        guard data["provisionConfiguration"] != nil || !isSilent else { return saved }
        var configuration: JSON.Object = [
            "type": .string(self.provisioning.kind.rawValue),
            "provisionDeviceSecret": JSON(self.provisioning.deviceSecret),
        ]
        for member in data["provisionConfiguration"]?.object?.members ?? [] where configuration[member.name] == nil {
            configuration[member.name] = member.value
        }
        data["provisionConfiguration"] = .object(configuration)
        return .object(data)
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
    init(from body: BodyReader, replacing existing: DeviceProfile?, of tenant: TenantId, now: Timestamp) throws {
        let isDefault = existing?.isDefault ?? false
        if try body.bool("default") == true, !isDefault {
            throw APIError.badRequest("Another default device profile is present in scope of current tenant!")
        }
        let profileData = try body.nested("profileData")
        let configuration = try profileData?.nested("provisionConfiguration")
        var settings = JSON.Object(
            body.object.members.lazy.filter { !Self.fields.contains($0.name.exact) }.map { ($0.name, $0.value) }
        )
        if var data = profileData?.object, var rest = configuration?.object {
            for name in ["type", "provisionDeviceSecret"] { rest[name] = nil }
            data["provisionConfiguration"] = .object(rest)
            settings["profileData"] = .object(data)
        }
        if let fault = ProfileTransport.fault(in: .object(settings)) { throw APIError.badRequest(fault) }
        self.init(
            id: existing?.id ?? .random(),
            createdTime: existing?.createdTime ?? now,
            tenantId: tenant,
            name: try body.string("name") ?? "",
            description: try body.string("description"),
            isDefault: isDefault,
            firmwareId: try body.id("firmwareId"),
            softwareId: try body.id("softwareId"),
            provisioning: try ProfileProvisioning(from: body, configuration),
            settings: .object(settings)
        )
        self.isSaved = existing != nil
    }
}

extension ProfileProvisioning {
    /// What a body says about provisioning: kind and key at its top, the secret in `profileData.provisionConfiguration`.
    ///
    /// - Throws: ``APIError`` if a member is of the wrong type, or the kind is none.
    fileprivate init(from body: BodyReader, _ configuration: BodyReader?) throws {
        let text = try body.string("provisionType") ?? configuration?.string("type") ?? Kind.disabled.rawValue
        guard let kind = Kind(rawValue: text) else {
            let known = Kind.allCases.map(\.rawValue).joined(separator: ", ")
            throw APIError.badRequest("'\(text)' is no way to provision devices; known are \(known)")
        }
        self.init(
            kind: kind,
            deviceKey: try body.string("provisionDeviceKey"),
            deviceSecret: try configuration?.string("provisionDeviceSecret")
        )
    }
}
