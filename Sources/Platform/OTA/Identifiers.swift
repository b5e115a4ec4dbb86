public import FoundationEssentials
import NodeKit

/// The identifier of an entity, typed by the kind of entity.
public struct EntityID<Entity>: Hashable, Sendable, CustomStringConvertible {
    /// The identifier itself.
    public let uuid: UUID

    /// Makes an identifier of an existing UUID.
    public init(_ uuid: UUID) { self.uuid = uuid }

    /// Reads an identifier written as a UUID; `nil` if it is none.
    public init?(_ text: String) {
        var text = text
        guard let uuid = text.withUTF8(UUID.init(text:)) else { return nil }
        self.uuid = uuid
    }

    /// Makes a new random identifier.
    public static func random() -> Self { Self(UUID.random()) }

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

extension UUID {
    /// Reads 32 hexadecimal digits with dashes behind the 8th, 12th, 16th and 20th (RFC 9562 §4).
    ///
    /// As `UUID(uuidString:)`, which asks the C library's `sscanf` and takes fifty times as long.
    fileprivate init?(text: UnsafeBufferPointer<UInt8>) {
        guard text.count == 36 else { return nil }
        var bytes: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        let isComplete = withUnsafeMutableBytes(of: &bytes) { bytes in
            var place = 0
            for index in bytes.indices {
                if index == 4 || index == 6 || index == 8 || index == 10 {
                    guard text[place] == UInt8(ascii: "-") else { return false }
                    place += 1
                }
                guard let high = Self.value(ofDigit: text[place]), let low = Self.value(ofDigit: text[place + 1]) else {
                    return false
                }
                bytes[index] = high << 4 | low
                place += 2
            }
            return true
        }
        guard isComplete else { return nil }
        self.init(uuid: bytes)
    }

    private static func value(ofDigit digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
