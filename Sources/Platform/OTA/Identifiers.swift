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

/// Names a kind of entity in ``TenantId``; there is one tenant for now.
public enum Tenant {}

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
/// Identifies a person who may log in.
public typealias UserId = EntityID<User>

extension EntityID<Tenant> {
    /// The only tenant of a host, the same in every installation.
    public static let main = TenantId(UUID(uuid: (0xF1, 0x4A, 0x55, 0xD0, 0, 0, 0x11, 0xEF, 0x80, 0, 0, 0, 0, 0, 0, 1)))
}
