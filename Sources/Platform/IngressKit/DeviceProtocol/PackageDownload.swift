public import NodeKit
public import OTA

/// The messages of one download whose chunks a device asks for one after another, over a transport that keeps its sessions.
///
/// Makes each message in place: the one about the chunk before is mostly gone by then, so that none takes memory of its own.
public struct PackageDownload: Sendable {
    /// The package that all chunks come from; `nil` while none is assigned, and until then whatever is assigned by then.
    public var packageId: OtaPackageId? {
        didSet { self.metadata[MessageKey.packageId] = self.packageId.map { .string($0.description) } }
    }
    /// Bytes of a chunk; 0 is the whole package.
    public var size: Int64 = 0 {
        didSet {
            // Nearly always what it was; to set it would copy the metadata.
            if self.size != oldValue { self.metadata[MessageKey.size] = .integer(self.size) }
        }
    }
    private var metadata: Metadata

    /// Begins a download.
    public init(of type: OtaPackageType, over deviceProtocol: DeviceProtocol) {
        self.metadata = deviceProtocol.metadata(ofWhole: type)
    }

    /// The message that asks for a chunk.
    public mutating func message(chunk index: Int64, from sender: DeviceProtocol.Sender) -> Message {
        self.metadata[MessageKey.chunk] = .integer(index)
        return Message(
            originator: sender.device,
            type: .packageChunkRequest,
            metadata: self.metadata,
            timestamp: sender.time,
            session: sender.session
        )
    }
}
