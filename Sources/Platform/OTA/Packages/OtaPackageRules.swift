public import NodeKit

/// The rules of packages, with the sentences that ThingsBoard's REST API answers when one is broken.
///
/// Clients and people know the sentences, so they are kept word for word. All are ``NodeError/Code/badRequest``.
public enum OtaPackageRules {
    /// The most characters of title, version, tag, URL, file name and content type.
    public static let textLengthMax = 255
    /// The most characters of a checksum.
    public static let checksumLengthMax = 1020

    /// Checks what a package says about itself, before it is looked at beside others.
    public static func check(_ package: OtaPackage) throws(NodeError) {
        guard !package.title.isEmpty else { throw broken("OtaPackage title should be specified!") }
        guard !package.version.isEmpty else { throw broken("OtaPackage version should be specified!") }
        try Self.checkLength(package.title, of: "title")
        try Self.checkLength(package.version, of: "version")
        try Self.checkLength(package.tag, of: "tag")
        try Self.checkLength(package.url, of: "url")
        try Self.checkLength(package.fileName, of: "file name")
        try Self.checkLength(package.contentType, of: "contentType")
        try Self.checkLength(package.checksum, of: "checksum", max: Self.checksumLengthMax)
        if let url = package.url, url.allSatisfy(\.isWhitespace) {
            throw broken("Ota package URL should be specified!")
        }
    }

    /// Checks that a saved package stays what it is: only ``OtaPackage/additionalInfo`` may change, and what describes the
    /// bytes may be set once.
    public static func checkChange(from old: OtaPackage, to new: OtaPackage) throws(NodeError) {
        guard old.type == new.type else { throw broken("Updating type is prohibited!") }
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

    /// Checks what comes with the bytes of a package before they are stored.
    public static func checkUpload(fileName: String?, contentType: String?, size: Int64) throws(NodeError) {
        guard let fileName, !fileName.isEmpty else { throw broken("OtaPackage file name should be specified!") }
        guard let contentType, !contentType.isEmpty else {
            throw broken("OtaPackage content type should be specified!")
        }
        try Self.checkLength(fileName, of: "file name")
        try Self.checkLength(contentType, of: "contentType")
        guard size > 0 else { throw broken("OtaPackage data should be specified!") }
    }

    /// Checks that a device or a profile may have a package assigned.
    ///
    /// - Parameters:
    ///   - package: The package with the identifier that is to be assigned; `nil` if there is none.
    ///   - type: Which of the two assignments it is.
    ///   - tenantId: The owner of the device or profile.
    ///   - deviceProfileId: The profile, or the device's.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func checkAssignment(
        of package: OtaPackage?,
        as type: OtaPackageType,
        tenantId: TenantId,
        deviceProfileId: DeviceProfileId
    ) throws(NodeError) {
        let word = type.rawValue.lowercased()
        guard let package else { throw broken("Can't assign non-existent \(word)!") }
        guard package.tenantId == tenantId else { throw broken("Can't assign \(word) from different tenant!") }
        guard package.type == type else { throw broken("Can't assign \(word) with type: \(package.type.rawValue)") }
        guard package.hasData else { throw broken("Can't assign \(word) with empty data!") }
        guard package.deviceProfileId == deviceProfileId else {
            throw broken("Can't assign \(word) with different deviceProfile!")
        }
    }

    /// There is no profile with the identifier that a package names.
    public static var profileMissing: NodeError { broken("OtaPackage is referencing to non-existent device profile!") }
    /// Another package has this title and version.
    public static var duplicate: NodeError { broken("OtaPackage with such title and version already exists!") }
    /// The bytes do not have the checksum that was told.
    public static var wrongFile: NodeError { broken("Wrong otaPackage file!") }
    /// Bytes were sent for a package that devices fetch from elsewhere.
    public static var uploadToURL: NodeError { broken("File can't be saved if URL present!") }

    /// The tenant's packages would have more bytes together than it may have.
    public static func tooManyBytes(max: Int64) -> NodeError {
        broken("Ota packages total size exceeds the maximum of \(max) bytes")
    }

    /// A package that devices refer to cannot be removed.
    public static func usedByDevices(_ type: OtaPackageType) -> NodeError {
        broken("The \(Self.inUseWord(type)) referenced by the devices cannot be deleted!")
    }

    /// A package that its profile refers to cannot be removed.
    public static func usedByProfile(_ type: OtaPackageType) -> NodeError {
        broken("The \(Self.inUseWord(type)) referenced by the device profile cannot be deleted!")
    }

    private static func inUseWord(_ type: OtaPackageType) -> String { type == .firmware ? "otaPackage" : "software" }

    private static func checkLength(_ text: String?, of name: String, max: Int = Self.textLengthMax) throws(NodeError) {
        // Unicode scalars are what the database counts as characters.
        guard let text, text.utf8.count > max, text.unicodeScalars.count > max else { return }
        throw broken("\(name) length must be equal or less than \(max)")
    }

    private static func broken(_ sentence: String) -> NodeError { NodeError(.badRequest, sentence) }
    private static func prohibited(_ what: String) -> NodeError { broken("Updating otaPackage \(what) is prohibited!") }
}
