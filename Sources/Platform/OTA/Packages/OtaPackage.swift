public import NodeKit

/// The two kinds of packages, each with its own assignment, keys and update record.
public enum OtaPackageType: String, Sendable, Hashable, CaseIterable {
    /// Device firmware.
    case firmware = "FIRMWARE"
    /// Application software.
    case software = "SOFTWARE"

    /// What the names of its attributes and telemetry start with: `fw` or `sw`.
    public var prefix: String { self == .firmware ? "fw" : "sw" }

    /// The name of the time series with the states of its update: `fw_state` or `sw_state`.
    public var stateKey: String { self == .firmware ? "fw_state" : "sw_state" }

    /// The name of the time series with what is known about failures: `fw_error` or `sw_error`.
    public var errorKey: String { self == .firmware ? "fw_error" : "sw_error" }
}

/// How a checksum is computed.
public enum ChecksumAlgorithm: String, Sendable, Hashable, CaseIterable {
    /// MD5, 128 bits.
    case md5 = "MD5"
    /// SHA-256.
    case sha256 = "SHA256"
    /// SHA-384.
    case sha384 = "SHA384"
    /// SHA-512.
    case sha512 = "SHA512"
    /// CRC-32, written in little-endian byte order.
    case crc32 = "CRC32"
    /// MurmurHash3, 32 bits, seed 0, written in little-endian byte order.
    case murmur3x32 = "MURMUR3_32"
    /// MurmurHash3 x64, 128 bits, seed 0, both halves written in little-endian byte order.
    case murmur3x128 = "MURMUR3_128"
}

/// What is known about a package; its bytes are read through ``OtaPackageService/content(of:)``.
///
/// Title, version, type and all that describes the bytes never change once set; only ``additionalInfo`` may.
public struct OtaPackage: Sendable, Hashable {
    /// Unique identifier.
    public var id: OtaPackageId
    /// When it was created.
    public var createdTime: Timestamp
    /// Who owns it.
    public var tenantId: TenantId
    /// The profile whose devices it is for.
    public var deviceProfileId: DeviceProfileId?
    /// Firmware or software.
    public var type: OtaPackageType
    /// Title, at most 255 characters.
    ///
    /// Title and version together are unique among the packages of a tenant.
    @ExactText public var title: String
    /// Version, at most 255 characters.
    @ExactText public var version: String
    /// Tag for people and devices, at most 255 characters.
    public var tag: String?
    /// Where devices fetch it, if it is not stored here; at most 255 characters.
    public var url: String?
    /// Whether it can be assigned: its bytes are stored, or it has a URL.
    public var hasData: Bool
    /// The uploaded file's name, without path.
    public var fileName: String?
    /// Media type, such as `application/octet-stream`.
    public var contentType: String?
    /// How ``checksum`` is computed.
    public var checksumAlgorithm: ChecksumAlgorithm?
    /// Checksum in lower-case hexadecimal.
    public var checksum: String?
    /// SHA-256 of stored bytes in lower-case hexadecimal, whatever ``checksumAlgorithm`` is; names the file with the bytes.
    public var sha256: String?
    /// Size in bytes.
    public var dataSize: Int64?
    /// Anything an administrator wants to keep with it.
    public var additionalInfo: JSON?
    /// Whether the store has it; set by the store.
    ///
    /// Saving one that the store does not have creates it, and never replaces one with the same identifier.
    public var isSaved = false

    /// Describes a package that is not saved yet.
    public init(
        id: OtaPackageId = .random(),
        createdTime: Timestamp = .now,
        tenantId: TenantId = .main,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType,
        title: String,
        version: String,
        tag: String? = nil,
        url: String? = nil
    ) {
        self.id = id
        self.createdTime = createdTime
        self.tenantId = tenantId
        self.deviceProfileId = deviceProfileId
        self.type = type
        self.title = title
        self.version = version
        self.tag = tag
        self.url = url
        self.hasData = url != nil
    }
}

/// The package that a device should have, found by its own assignment or its profile's, with its bytes.
///
/// Travels with a message from `package-lookup` on and provides `fw_title`, `fw_version`, `fw_tag`, `fw_size`,
/// `fw_checksum`, `fw_checksum_algorithm` and `fw_url` (`sw_…` for software), and `packageType`, as variables.
public final class EffectivePackage: MessageAttachment {
    /// What is known about it.
    public let package: OtaPackage
    /// Its bytes; `nil` if it is fetched from ``OtaPackage/url``.
    public let content: (any Content)?

    /// Joins a package and its bytes.
    public init(package: OtaPackage, content: (any Content)?) {
        self.package = package
        self.content = content
    }

    /// The value of a variable named after a shared attribute.
    public func value(forVariable name: String) -> JSON? {
        if name == "packageType" { return .string(self.package.type.rawValue) }
        guard name.hasPrefix(self.package.type.prefix) else { return nil }
        return self.package.sharedAttributes[name]
    }
}

extension OtaPackage {
    /// The shared attributes that tell a device about the package, in the order that devices get them: title, version, tag,
    /// then size, checksum algorithm and checksum, or the URL with those of them that are known.
    public var sharedAttributes: JSON.Object {
        let prefix = self.type.prefix
        var values: JSON.Object = [:]
        values["\(prefix)_title"] = .string(self.title)
        values["\(prefix)_version"] = .string(self.version)
        values["\(prefix)_tag"] = self.tag.map(JSON.string)
        values["\(prefix)_url"] = self.url.map(JSON.string)
        values["\(prefix)_size"] = self.dataSize.map(JSON.integer)
        values["\(prefix)_checksum_algorithm"] = (self.checksumAlgorithm?.rawValue).map(JSON.string)
        values["\(prefix)_checksum"] = self.checksum.map(JSON.string)
        return values
    }
}

extension OtaPackage {
    /// The time series of a device that say that it is to have the package, in the order of their names.
    ///
    /// - Parameters:
    ///   - state: The state that its update begins in.
    ///   - time: When the package was assigned.
    /// - Returns: The values.
    public func assignmentSeries(in state: OtaUpdateState, at time: Timestamp) -> JSON.Object {
        let prefix = self.type.prefix
        var values: JSON.Object = [self.type.stateKey: .string(state.rawValue)]
        values["target_\(prefix)_tag"] = self.tag.map(JSON.string)
        values["target_\(prefix)_title"] = .string(self.title)
        values["target_\(prefix)_ts"] = .integer(time.rawValue)
        values["target_\(prefix)_version"] = .string(self.version)
        return values
    }
}

extension OtaPackage {
    /// Whether these shared attributes are an offer of this package; see ``OtaPackageType/offer(in:)``.
    public func isOffered(by values: JSON.Object) -> Bool {
        let own = self.sharedAttributes
        return self.type.offerNames(hasURL: self.url != nil).allSatisfy { own[$0] != nil && values[$0] == own[$0] }
    }
}

extension OtaPackageType {
    /// The names of the shared attributes without which a device cannot fetch and check a package.
    fileprivate func offerNames(hasURL: Bool) -> [String] {
        let names = ["title", "version"] + (hasURL ? ["url"] : ["size", "checksum", "checksum_algorithm"])
        return names.map { "\(self.prefix)_\($0)" }
    }

    /// The shared attributes among these that offer a device a package of this type: title and version with size, checksum and
    /// checksum algorithm, or with a URL; `nil` if one is missing, as the device then has to ask again.
    public func offer(in values: JSON.Object) -> JSON.Object? {
        let isOffer = [false, true].contains { self.offerNames(hasURL: $0).allSatisfy { values[$0] != nil } }
        guard isOffer else { return nil }
        return JSON.Object(self.sharedAttributeNames.compactMap { name in values[name].map { (name, $0) } })
    }

    /// The names of all shared attributes that any package of this type may set.
    public var sharedAttributeNames: [String] {
        ["title", "version", "tag", "url", "size", "checksum_algorithm", "checksum"].map { "\(self.prefix)_\($0)" }
    }
}

extension OtaPackageType {
    /// What the names of the requirement's own shared attributes start with: `targetFw` or `targetSw`.
    public var targetPrefix: String { self == .firmware ? "targetFw" : "targetSw" }

    /// The names of all shared attributes that a push may set, with whatever options.
    public var pushedAttributeNames: [String] {
        self.sharedAttributeNames + ["Version", "Url", "Checksum"].map { "\(self.targetPrefix)\($0)" }
    }
}
