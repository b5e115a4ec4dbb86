public import FoundationEssentials

/// The identifier of an entity, typed by the kind of entity.
public struct EntityID<Entity>: Hashable, Sendable, CustomStringConvertible {
    /// The identifier itself.
    public let uuid: UUID

    /// Makes an identifier of an existing UUID.
    public init(_ uuid: UUID) { self.uuid = uuid }

    /// Reads an identifier written as a UUID; `nil` if it is none.
    public init?(_ text: String) {
        guard let uuid = UUID(uuidString: text) else { return nil }
        self.uuid = uuid
    }

    /// Makes a new random identifier.
    public static func random() -> Self { Self(UUID()) }

    /// The UUID in lower-case hexadecimal with dashes, as ThingsBoard writes it.
    public var description: String { self.uuid.uuidString.lowercased() }
}

/// Identifies the owner of all other entities.
public typealias TenantId = EntityID<Tenant>
/// Identifies a device.
public typealias DeviceId = EntityID<Device>
/// Identifies a device profile.
public typealias DeviceProfileId = EntityID<DeviceProfile>
/// Identifies a package.
public typealias OtaPackageId = EntityID<OtaPackage>
/// Identifies a set of credentials.
public typealias DeviceCredentialsId = EntityID<DeviceCredentials>
/// Identifies a key of a person's.
public typealias ApiKeyId = EntityID<ApiKey>
/// Identifies a person who may log in.
public typealias UserId = EntityID<User>

extension EntityID<Tenant> {
    /// The first tenant, the same in every installation: it is there from the start and cannot be removed.
    public static let main = TenantId(UUID(uuid: (0xF1, 0x4A, 0x55, 0xD0, 0, 0, 0x11, 0xEF, 0x80, 0, 0, 0, 0, 0, 0, 1)))

    /// What stands for a tenant where there is none, the same as in ThingsBoard: system administrators belong to the host.
    public static let system = TenantId(
        UUID(uuid: (0x13, 0x81, 0x40, 0, 0x1D, 0xD2, 0x11, 0xB2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80))
    )
}
