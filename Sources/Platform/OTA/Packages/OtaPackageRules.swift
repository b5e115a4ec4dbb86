public import NodeKit

/// The rules of packages, with the sentences that ThingsBoard's REST API answers when one is broken.
///
/// Clients and people know the sentences, so they are kept word for word. All are ``NodeError/Code/badRequest``.
public enum OtaPackageRules {
    /// The most characters of a checksum.
    public static let checksumLengthMax = 1020

    // MARK: Saving

    /// Checks what a package says about itself, before it is looked at beside others.
    public static func check(_ package: OtaPackage) throws(NodeError) {
        try EntityRules.checkGiven(package.title, "OtaPackage title", isBlankEnough: true)
        try EntityRules.checkGiven(package.version, "OtaPackage version", isBlankEnough: true)
        try EntityRules.checkLength(package.title, of: "title")
        try EntityRules.checkLength(package.version, of: "version")
        try EntityRules.checkLength(package.tag, of: "tag")
        try EntityRules.checkLength(package.url, of: "url")
        try EntityRules.checkLength(package.fileName, of: "file name")
        try EntityRules.checkLength(package.contentType, of: "contentType")
        try EntityRules.checkLength(package.checksum, of: "checksum", max: Self.checksumLengthMax)
        if let url = package.url { try Self.checkURL(url) }
    }

    /// Checks that a package that devices fetch from elsewhere says where.
    public static func checkURL(_ url: String?) throws(NodeError) {
        try EntityRules.checkGiven(url, "Ota package URL")
    }

    /// A new package as it is stored.
    ///
    /// - Parameters:
    ///   - package: The package as it is to be.
    ///   - profile: The profile that it names; `nil` if that does not exist.
    ///   - isTaken: Whether another package of the tenant has its title and version.
    /// - Returns: The package. Unless it has a URL, what describes the bytes comes with them.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func created(
        _ package: OtaPackage,
        profile: DeviceProfile?,
        isTaken: Bool
    ) throws(NodeError) -> OtaPackage {
        try Self.checkProfile(profile, of: package, tenantId: package.tenantId)
        try EntityRules.checkUnique("OtaPackage with such title and version", isTaken: isTaken)
        var created = package
        created.isSaved = true
        created.sha256 = nil
        created.hasData = package.url != nil
        if package.url == nil {
            created.fileName = nil
            created.contentType = nil
            created.dataSize = nil
        }
        return created
    }

    /// A saved package after a change, which may concern ``OtaPackage/additionalInfo`` alone.
    ///
    /// - Parameters:
    ///   - old: The package as stored.
    ///   - wanted: The package as it is to be.
    ///   - profile: The profile that this names; `nil` if that does not exist.
    /// - Returns: The package as it is stored now.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func changed(
        _ old: OtaPackage,
        to wanted: OtaPackage,
        profile: DeviceProfile?
    ) throws(NodeError) -> OtaPackage {
        try Self.checkProfile(profile, of: wanted, tenantId: old.tenantId)
        var wanted = wanted
        // The file is the store's own business, which the REST API does not show.
        wanted.sha256 = old.sha256
        try Self.checkChange(from: old, to: wanted)
        var changed = old
        changed.additionalInfo = wanted.additionalInfo
        return changed
    }

    private static func checkProfile(
        _ profile: DeviceProfile?,
        of package: OtaPackage,
        tenantId: TenantId
    ) throws(NodeError) {
        guard package.deviceProfileId != nil else { return }
        try EntityRules.checkReference(from: "OtaPackage", to: "device profile", exists: profile?.tenantId == tenantId)
    }

    /// Checks that a saved package stays what it is: only ``OtaPackage/additionalInfo`` may change, and what describes the
    /// bytes may be set once.
    public static func checkChange(from old: OtaPackage, to new: OtaPackage) throws(NodeError) {
        guard old.type == new.type else { throw EntityRules.broken("Updating type is prohibited!") }
        guard old.$title == new.$title else { throw prohibited("title") }
        guard old.$version == new.$version else { throw prohibited("version") }
        guard old.tag.exact == new.tag.exact else { throw prohibited("tag") }
        guard old.deviceProfileId == new.deviceProfileId else { throw prohibited("deviceProfile") }
        guard old.fileName == nil || old.fileName.exact == new.fileName.exact else { throw prohibited("file name") }
        // ThingsBoard uses the same sentence for the checksum and its algorithm.
        guard old.contentType == nil || old.contentType.exact == new.contentType.exact,
            old.checksumAlgorithm == nil || old.checksumAlgorithm == new.checksumAlgorithm,
            old.checksum == nil || old.checksum.exact == new.checksum.exact
        else { throw prohibited("content type") }
        guard old.dataSize == nil || old.dataSize == new.dataSize else { throw prohibited("data size") }
        guard old.url.exact == new.url.exact else { throw prohibited("URL") }
        guard old.sha256 == nil || old.sha256 == new.sha256 else { throw prohibited("data") }
    }

    /// Checks that nothing uses a package that is to be removed.
    public static func checkRemoval(
        of type: OtaPackageType,
        isUsedByDevices: Bool,
        isUsedByProfile: Bool
    ) throws(NodeError) {
        let what = type == .firmware ? "otaPackage" : "software"
        try EntityRules.checkUnused(what, by: "devices", isUsed: isUsedByDevices)
        try EntityRules.checkUnused(what, by: "device profile", isUsed: isUsedByProfile)
    }

    // MARK: Bytes

    /// Checks that a package takes bytes: one with a URL does not.
    public static func checkTakesBytes(_ package: OtaPackage) throws(NodeError) {
        guard package.url == nil else { throw EntityRules.broken("File can't be saved if URL present!") }
    }

    /// Checks what came with the bytes of a package.
    ///
    /// - Parameters:
    ///   - bytes: What is known of them.
    ///   - checksum: The checksum that the sender says they have; `nil` or empty if it says nothing.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func check(_ bytes: UploadedBytes, told checksum: String?) throws(NodeError) {
        try EntityRules.checkGiven(bytes.fileName, "OtaPackage file name", isBlankEnough: true)
        try EntityRules.checkGiven(bytes.contentType, "OtaPackage content type", isBlankEnough: true)
        try EntityRules.checkLength(bytes.fileName, of: "file name")
        try EntityRules.checkLength(bytes.contentType, of: "contentType")
        guard bytes.size > 0 else { throw EntityRules.broken("OtaPackage data should be specified!") }
        guard let checksum, !checksum.isEmpty else { return }
        guard checksum == bytes.checksum else { throw Self.wrongFile }
    }

    /// A package with its bytes.
    ///
    /// - Parameters:
    ///   - package: The package as stored. If it has these bytes already, it stays as it is.
    ///   - bytes: The bytes.
    /// - Returns: The package as it is stored with them.
    /// - Throws: ``NodeError`` if they are not the package's.
    public static func filled(_ package: OtaPackage, with bytes: UploadedBytes) throws(NodeError) -> OtaPackage {
        try Self.checkTakesBytes(package)
        // A checksum that was given when the package was made is a promise about these bytes.
        if package.sha256 == nil, package.checksumAlgorithm == bytes.algorithm, let promised = package.checksum,
            promised != bytes.checksum
        {
            throw Self.wrongFile
        }
        var filled = package
        filled.fileName = bytes.fileName
        filled.contentType = bytes.contentType
        filled.checksumAlgorithm = bytes.algorithm
        filled.checksum = bytes.checksum
        filled.sha256 = bytes.sha256
        filled.dataSize = bytes.size
        filled.hasData = true
        try Self.checkChange(from: package, to: filled)
        return filled
    }

    /// Checks that a tenant may store so many bytes more.
    ///
    /// - Parameters:
    ///   - size: How many bytes are added.
    ///   - used: How many its packages have together.
    ///   - max: How many they may have; see ``Tenant/packageBytesMax``.
    /// - Throws: ``NodeError`` if they are too many.
    public static func checkQuota(adding size: Int64, used: Int64, max: Int64) throws(NodeError) {
        // None is negative, so the difference does not overflow.
        guard size <= max - min(used, max) else {
            throw EntityRules.broken("Ota packages total size exceeds the maximum of \(max) bytes")
        }
    }

    /// The error of bytes for an upload that was finished or given up.
    public static func uploadEnded(of package: OtaPackage) -> NodeError {
        NodeError(
            .conflict,
            "the upload of the package '\(package.title) \(package.version)' has ended; begin another"
        )
    }

    private static var wrongFile: NodeError { EntityRules.broken("Wrong otaPackage file!") }

    private static func prohibited(_ what: String) -> NodeError {
        EntityRules.broken("Updating otaPackage \(what) is prohibited!")
    }
}

/// What is known of the bytes of a package that came in whole.
public struct UploadedBytes: Sendable, Hashable {
    /// The file's name, without path.
    public var fileName: String?
    /// Media type.
    public var contentType: String?
    /// How ``checksum`` is computed.
    public var algorithm: ChecksumAlgorithm
    /// The checksum that was computed, in lower-case hexadecimal.
    public var checksum: String
    /// Their SHA-256 in lower-case hexadecimal.
    public var sha256: String
    /// How many there are.
    public var size: Int64

    /// Joins what is known.
    public init(
        fileName: String?,
        contentType: String?,
        algorithm: ChecksumAlgorithm,
        checksum: String,
        sha256: String,
        size: Int64
    ) {
        self.fileName = fileName
        self.contentType = contentType
        self.algorithm = algorithm
        self.checksum = checksum
        self.sha256 = sha256
        self.size = size
    }
}

extension Tenant {
    /// How many bytes its packages may have together: its member `maxOtaPackagesInBytes`, which ThingsBoard has in the tenant's
    /// profile; `nil` for any number, as which 0 counts, too.
    public var packageBytesMax: Int64? {
        self.details["maxOtaPackagesInBytes"]?.integer.flatMap { $0 > 0 ? $0 : nil }
    }
}
