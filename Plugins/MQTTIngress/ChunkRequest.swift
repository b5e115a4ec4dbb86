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

    /// Reads a request.
    ///
    /// The payload is a decimal integer, one in quotes, `{"chunkSize":n}`, or empty.
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
        guard let id = DeviceTopic.number(id) else { throw Self.notANumber("request id", id) }
        self.id = id
        guard let chunk = DeviceTopic.number(chunk) else { throw Self.notANumber("chunk", chunk) }
        self.chunk = chunk
        self.size = try Self.size(payload, chunkBytesMax: chunkBytesMax)
    }

    /// The longest payload that can be a size.
    static let payloadBytesMax = 256

    private static func size(_ payload: ByteBuffer, chunkBytesMax: Int64) throws(NodeError) -> Int64? {
        if payload.readableBytes == 0 { return nil }
        if let size = Self.digits(payload) {
            guard size <= chunkBytesMax else { throw Self.tooLarge(String(size), chunkBytesMax) }
            return size
        }
        let wrong = NodeError(
            .badRequest,
            "the chunk size is not understood; send a whole number of bytes, {\"chunkSize\":n}, or nothing"
        )
        guard payload.readableBytes <= Self.payloadBytesMax else { throw wrong }
        // Leading zeros are no JSON, but digits all the same.
        let digits = Int64(String(buffer: payload)).map(JSON.integer)
        guard let json = digits ?? (try? JSON(parsing: payload)) else { throw wrong }
        let size: Int64
        switch json["chunkSize"] ?? json {
        case .integer(let value): size = value
        // An integer beyond 64 bits is a string to the JSON reader: digits that are no number are a number too large.
        case .string(let text):
            guard let value = Int64(text) else {
                guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
                else {
                    throw wrong
                }
                throw Self.tooLarge(text, chunkBytesMax)
            }
            size = value
        default: throw wrong
        }
        guard size >= 0 else { throw NodeError(.badRequest, "the chunk size \(size) is negative") }
        guard size <= chunkBytesMax else { throw Self.tooLarge(String(size), chunkBytesMax) }
        return size
    }

    /// The number that most devices write: digits alone, fewer than could overflow; `nil` if it is anything else.
    private static func digits(_ payload: ByteBuffer) -> Int64? {
        guard payload.readableBytes <= 18 else { return nil }
        return payload.withUnsafeReadableBytes { bytes in
            var value: Int64 = 0
            for byte in bytes {
                guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
                value = value * 10 + Int64(byte - UInt8(ascii: "0"))
            }
            return value
        }
    }

    private static func tooLarge(_ size: String, _ limit: Int64) -> NodeError {
        NodeError(.tooLarge, "a chunk size of \(Self.cut(size)) bytes is over the limit of \(limit)")
    }

    /// The beginning of a text, counted in Unicode scalars: a character may have any number of combining marks.
    private static func cut(_ text: String) -> String { String(text.unicodeScalars.prefix(32)) }

    private static func notANumber(_ name: String, _ text: String) -> NodeError {
        NodeError(.badRequest, "the \(name) '\(Self.cut(text))' is not a whole number from 0 to \(DeviceTopic.idMax)")
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
        /// The package; `nil` while none was assigned.
        var packageId: OtaPackageId? {
            didSet { self.metadata[MessageKey.packageId] = self.packageId.map { .string($0.description) } }
        }
        /// Bytes of a chunk; 0 is the whole package.
        var size: Int64 = 0 {
            didSet {
                // Nearly always what it was; to set it would copy the metadata.
                if self.size != oldValue { self.metadata[MessageKey.size] = .integer(self.size) }
            }
        }
        /// What the message about the chunk that was asked for last says.
        private var metadata: Metadata
        private let responseTopics: String

        fileprivate init(key: Key) {
            self.key = key
            self.responseTopics = "v2/\(key.type.prefix)/response/\(key.id)/chunk/"
            self.metadata = [
                MessageKey.transport: "mqtt", MessageKey.packageType: .string(key.type.rawValue),
                MessageKey.chunk: 0, MessageKey.size: 0,
            ]
        }

        /// What the message about a chunk says.
        func metadata(ofChunk index: Int64) -> Metadata {
            // In place, as the message about the chunk before is mostly gone by now.
            self.metadata[MessageKey.chunk] = .integer(index)
            return self.metadata
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
