import IngressKit
import NIOCore
import NodeKit
import OTA

/// A request for bytes of a package, read from a topic and its payload.
struct ChunkRequest: Hashable, Sendable {
    var type: OtaPackageType
    /// The identifier that the device gave the download.
    var id: Int64
    /// Zero-based.
    var chunk: Int64
    /// Bytes of a chunk; 0 means the whole package, `nil` the size that this download had last.
    var size: Int64?

    /// Reads a request; see ``DeviceProtocol/chunkSize(_:max:)`` for its payload.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` or ``NodeError/Code/tooLarge``.
    init(
        type: OtaPackageType,
        id: String,
        chunk: String,
        payload: ByteBuffer,
        chunkBytesMax: Int64
    ) throws(NodeError) {
        self.type = type
        self.id = try DeviceProtocol.number(id, MessageKey.requestId)
        self.chunk = try DeviceProtocol.number(chunk, MessageKey.chunk)
        self.size = try DeviceProtocol.chunkSize(payload, max: chunkBytesMax)
    }
}

/// What a connection remembers of its downloads, by request identifier: the package that the first request got, so that a
/// re-assignment does not mix two packages into one, and the size of chunks that was asked for last.
///
/// Remembers the ``countMax`` downloads used last.
struct Downloads {
    /// Which download.
    struct Key: Hashable, Sendable {
        var type: OtaPackageType
        var id: Int64
    }

    /// One download.
    final class Download {
        let key: Key
        /// Its messages: the package that they pin, and the size of chunks that was asked for last.
        var messages: PackageDownload
        private let responseTopics: String

        fileprivate init(key: Key) {
            self.key = key
            self.responseTopics = "v2/\(key.type.prefix)/response/\(key.id)/chunk/"
            self.messages = PackageDownload(of: key.type, over: .mqtt)
        }

        /// Where a chunk is answered.
        func responseTopic(ofChunk index: Int64) -> String { self.responseTopics + String(index) }
    }

    /// How many downloads are remembered.
    ///
    /// A device has one at a time, seldom two.
    static let countMax = 16

    /// The one used last comes last.
    private var downloads: [Download] = []

    init() {}

    var count: Int { self.downloads.count }

    /// The download with this key, as remembered or new, which is thereby the one used last.
    mutating func use(_ key: Key) -> Download {
        if let last = self.downloads.last, last.key == key { return last }
        let download: Download
        if let index = self.downloads.lastIndex(where: { $0.key == key }) {
            download = self.downloads.remove(at: index)
        } else {
            download = Download(key: key)
            if self.downloads.count == Self.countMax { self.downloads.removeFirst() }
        }
        self.downloads.append(download)
        return download
    }
}

extension DeviceProtocol {
    /// The device API over MQTT.
    static let mqtt = DeviceProtocol(transport: "mqtt")
}
