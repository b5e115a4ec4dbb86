public import NodeKit
public import OTA

/// Which bytes of which package a device asks for.
public struct PackageRequest: Hashable, Sendable {
    /// Firmware or software.
    public var type: OtaPackageType
    /// The title that the package must have; `nil` for any.
    public var title: String?
    /// The version that the package must have; `nil` for any.
    public var version: String?
    /// Zero-based index of the chunk, 0…``DeviceProtocol/numberMax``.
    public var chunk: Int64
    /// Bytes of a chunk, 0…``DeviceProtocol/numberMax``; 0 for the whole package.
    public var size: Int64

    /// Asks for a chunk, or the whole package.
    @inlinable
    public init(
        type: OtaPackageType,
        title: String? = nil,
        version: String? = nil,
        chunk: Int64 = 0,
        size: Int64 = 0
    ) {
        self.type = type
        self.title = title
        self.version = version
        self.chunk = chunk
        self.size = size
    }

    /// Whether it asks for the whole package, whatever that is.
    var isPlain: Bool { self.title == nil && self.version == nil && self.chunk == 0 && self.size == 0 }

    /// Reads the parameters of a request; `nil` for those that are absent.
    ///
    /// - Parameters:
    ///   - type: Firmware or software.
    ///   - title: The title.
    ///   - version: The version.
    ///   - chunk: The index; absent or empty for 0.
    ///   - size: The size; absent or empty for 0.
    ///   - isNamed: Whether title and version are required.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest``.
    public init(
        reading type: OtaPackageType,
        title: String?,
        version: String?,
        chunk: String?,
        size: String?,
        isNamed: Bool
    ) throws(NodeError) {
        self.type = type
        self.title = isNamed ? try Self.required(title, MessageKey.title) : title
        self.version = isNamed ? try Self.required(version, MessageKey.version) : version
        self.chunk = try DeviceProtocol.numberIfAny(chunk, MessageKey.chunk)
        self.size = try DeviceProtocol.numberIfAny(size, MessageKey.size)
    }

    private static func required(_ text: String?, _ name: String) throws(NodeError) -> String {
        guard let text, !text.isEmpty else {
            throw NodeError(.badRequest, "Parameter '\(name)' can't be empty!")
        }
        return text
    }
}
