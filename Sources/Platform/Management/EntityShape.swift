import NodeKit
import OTA

/// What ThingsBoard's JSON has in common for all entities.
enum EntityShape {
    /// The identifier that stands for "no customer"; the member is never `null`.
    static let nullCustomerId = TenantId.system.description

    static let customerId: JSON = ["entityType": "CUSTOMER", "id": .string(Self.nullCustomerId)]

    /// What `deviceData` is if nothing was saved.
    static let deviceData: JSON = [
        "configuration": ["type": "DEFAULT"],
        "transportConfiguration": ["type": "DEFAULT"],
    ]

    /// What `profileData` is if nothing was saved.
    static let profileData: JSON = [
        "configuration": ["type": "DEFAULT"],
        "transportConfiguration": ["type": "DEFAULT"],
        "provisionConfiguration": ["type": "DISABLED", "provisionDeviceSecret": nil],
        "alarms": nil,
    ]
}

extension JSON {
    /// The text, or `null`.
    init(_ text: String?) { self = text.map(JSON.string) ?? .null }

    /// The time in milliseconds.
    init(_ time: Timestamp) { self = .integer(time.rawValue) }
}

extension EntityID<Device> {
    var json: JSON { ["entityType": "DEVICE", "id": .string(self.description)] }
}

extension EntityID<DeviceProfile> {
    var json: JSON { ["entityType": "DEVICE_PROFILE", "id": .string(self.description)] }
}

extension EntityID<OtaPackage> {
    var json: JSON { ["entityType": "OTA_PACKAGE", "id": .string(self.description)] }
}

extension EntityID<Tenant> {
    var json: JSON { ["entityType": "TENANT", "id": .string(self.description)] }
}

extension EntityID<User> {
    var json: JSON { ["entityType": "USER", "id": .string(self.description)] }
}

extension EntityID<DeviceCredentials> {
    var json: JSON { ["id": .string(self.description)] }
}

extension Page {
    /// The page in ThingsBoard's form.
    func json(_ shape: (Element) throws -> JSON) rethrows -> JSON {
        [
            "data": .array(try self.data.map(shape)),
            "totalPages": .integer(Int64(self.totalPages)),
            "totalElements": .integer(Int64(self.totalElements)),
            "hasNext": .bool(self.hasNext),
        ]
    }
}

extension User {
    /// ThingsBoard's `User`.
    var json: JSON {
        [
            "id": self.id.json,
            "createdTime": JSON(self.createdTime),
            "tenantId": self.tenantId.json,
            "customerId": EntityShape.customerId,
            "email": .string(self.name),
            "name": .string(self.name),
            "authority": .string(self.authority.rawValue),
            "firstName": JSON(self.firstName),
            "lastName": JSON(self.lastName),
            "phone": JSON(self.phone),
            "additionalInfo": self.information,
            "version": nil,
        ]
    }

    /// What an administrator keeps with the user, and whether the user may log in.
    private var information: JSON {
        var object: JSON.Object = [:]
        switch self.additionalInfo {
        case .object(let saved): object = saved
        case nil: break
        case let other?: return other
        }
        object[Self.enabledKey] = .bool(self.isEnabled && self.isActivated)
        return .object(object)
    }
}

extension OtaPackage {
    /// ThingsBoard's `OtaPackageInfo`.
    var json: JSON {
        [
            "id": self.id.json,
            "createdTime": JSON(self.createdTime),
            "tenantId": self.tenantId.json,
            "deviceProfileId": self.deviceProfileId?.json ?? .null,
            "type": .string(self.type.rawValue),
            "title": .string(self.title),
            "version": .string(self.version),
            "tag": JSON(self.tag),
            "url": JSON(self.url),
            "hasData": .bool(self.hasData),
            "fileName": JSON(self.fileName),
            "contentType": JSON(self.contentType),
            "checksumAlgorithm": JSON(self.checksumAlgorithm?.rawValue),
            "checksum": JSON(self.checksum),
            "dataSize": self.dataSize.map(JSON.integer) ?? .null,
            "additionalInfo": self.additionalInfo ?? .null,
            "externalId": nil,
            "name": .string(self.title),
        ]
    }

    /// Takes over what a body says; members that it does not have stay as they are, because hardly any may change.
    ///
    /// - Throws: ``APIError`` if a member is of the wrong type.
    mutating func update(from body: BodyReader) throws {
        if let id = try body.id("deviceProfileId", of: DeviceProfile.self) { self.deviceProfileId = id }
        if let type = try Self.type(in: body) { self.type = type }
        if let title = try body.string("title") { self.title = title }
        if let version = try body.string("version") { self.version = version }
        if let tag = try body.string("tag") { self.tag = tag }
        if let url = try body.string("url") { self.url = url }
        if let fileName = try body.string("fileName") { self.fileName = fileName }
        if let contentType = try body.string("contentType") { self.contentType = contentType }
        if let algorithm = try body.string("checksumAlgorithm") {
            self.checksumAlgorithm = try ChecksumAlgorithm(named: algorithm)
        }
        if let checksum = try body.string("checksum") { self.checksum = checksum }
        if let size = body["dataSize"]?.integer { self.dataSize = size }
        if body.object["additionalInfo"] != nil { self.additionalInfo = body["additionalInfo"] }
    }

    /// Gives a package that a body makes an external one its URL, if the body does not.
    ///
    /// - Throws: ``APIError`` or ``NodeError`` if there may be no such package, or there is no URL for it.
    mutating func completeURL(from body: BodyReader, external: ExternalPackages) throws {
        let usesURL = try body.bool("usesUrl") == true
        if body["id"] == nil {
            if usesURL || self.url != nil { try external.checkAllowed() }
            if usesURL, self.url == nil { self.url = try external.url(of: self) }
        }
        if usesURL { try OtaPackageRules.checkURL(self.url) }
        if self.url != nil { self.hasData = true }
    }

    /// The kind of package that a body names, if it does.
    static func type(in body: BodyReader) throws -> OtaPackageType? {
        guard let text = try body.string("type") else { return nil }
        guard let type = OtaPackageType(rawValue: text) else {
            throw APIError.badRequest("'\(text)' is no package type; it must be FIRMWARE or SOFTWARE")
        }
        return type
    }
}

extension ChecksumAlgorithm {
    /// The algorithm with this name, in capitals or not.
    ///
    /// - Throws: ``APIError`` if there is none, with those that there are.
    init(named name: String) throws {
        guard let algorithm = ChecksumAlgorithm(rawValue: name.uppercased()) else {
            let known = Self.allCases.map(\.rawValue).joined(separator: ", ")
            throw APIError.badRequest("'\(name)' is no checksum algorithm; known are \(known)")
        }
        self = algorithm
    }
}
