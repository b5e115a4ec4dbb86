public import NIOCore

/// Takes in the bytes of one package as they come.
public protocol OtaPackageUpload: Sendable {
    /// Appends bytes; returns when more can come.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/storageFull`` if the disk is full. What came so far is removed.
    func write(_ bytes: ByteBuffer) async throws

    /// Makes the bytes the package's, for good.
    ///
    /// - Parameters:
    ///   - fileName: The file's name, without path.
    ///   - contentType: Its media type.
    ///   - algorithm: How the package's checksum is computed.
    ///   - checksum: The checksum in lower-case hexadecimal to compare with; `nil` to take what was computed.
    /// - Returns: The package as it is now.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the checksum differs, the file is empty or a name is
    ///   missing. What came so far is removed.
    func finish(
        fileName: String?,
        contentType: String?,
        algorithm: ChecksumAlgorithm,
        checksum: String?
    ) async throws -> OtaPackage

    /// Gives up; nothing remains. May be called after a failure and more than once.
    func cancel() async
}
