public import NIOCore

/// What a peer that waits for an answer gets.
public enum Reply: Sendable {
    /// Done, nothing to send. HTTP 200, CoAP 2.04 or 2.01, MQTT PUBACK.
    case empty
    /// A JSON value.
    case json(JSON)
    /// Bytes of a package.
    case content(ContentReply)
    /// Refused; the ingress turns the code into its protocol's error.
    case refused(NodeError)
}

/// A range of some content, with what a transport may want to tell about it.
///
/// A value, in one box that copies share until one of them changes.
public struct ContentReply: Sendable {
    private struct Fields {
        var content: any Content
        var range: Range<Int64>
        var fileName: String?
        var contentType: String?
        var entityTag: String?
        var chunkIndex: Int64?
        var chunksCount: Int64?
    }

    /// `@unchecked`: the fields change only while a single reply has the box.
    private final class Box: @unchecked Sendable {
        var fields: Fields

        init(_ fields: Fields) { self.fields = fields }
    }

    private var box: Box

    private var fields: Fields {
        get { self.box.fields }
        _modify {
            if !isKnownUniquelyReferenced(&self.box) { self.box = Box(self.box.fields) }
            yield &self.box.fields
        }
    }

    /// Where the bytes come from.
    public var content: any Content {
        get { self.box.fields.content }
        set { self.fields.content = newValue }
    }
    /// The bytes to send, as zero-based offsets within `content`; may be empty.
    public var range: Range<Int64> {
        get { self.box.fields.range }
        set { self.fields.range = newValue }
    }
    /// File name to offer, without path.
    public var fileName: String? {
        get { self.box.fields.fileName }
        set { self.fields.fileName = newValue }
    }
    /// Media type, such as `application/octet-stream`.
    public var contentType: String? {
        get { self.box.fields.contentType }
        set { self.fields.contentType = newValue }
    }
    /// What identifies these bytes for ever, such as a checksum in hexadecimal; for entity tags.
    public var entityTag: String? {
        get { self.box.fields.entityTag }
        set { self.fields.entityTag = newValue }
    }
    /// Zero-based index of the chunk, if one was asked for.
    public var chunkIndex: Int64? {
        get { self.box.fields.chunkIndex }
        set { self.fields.chunkIndex = newValue }
    }
    /// How many chunks of the asked size the content has, if one was asked for.
    public var chunksCount: Int64? {
        get { self.box.fields.chunksCount }
        set { self.fields.chunksCount = newValue }
    }

    /// Makes an answer of the bytes in `range`.
    public init(
        content: any Content,
        range: Range<Int64>,
        fileName: String? = nil,
        contentType: String? = nil,
        entityTag: String? = nil,
        chunkIndex: Int64? = nil,
        chunksCount: Int64? = nil
    ) {
        self.box = Box(
            Fields(
                content: content,
                range: range,
                fileName: fileName,
                contentType: contentType,
                entityTag: entityTag,
                chunkIndex: chunkIndex,
                chunksCount: chunksCount
            )
        )
    }
}

/// Bytes that never change and may be too many to hold in memory.
public protocol Content: Sendable {
    /// How many bytes there are.
    var size: Int64 { get }

    /// Reads bytes; called from an event loop, so it must not block it.
    ///
    /// - Parameter range: Zero-based offsets, within `0..<size`. The caller keeps it small (at most a mebibyte, unless it
    ///   was asked for one larger chunk).
    /// - Returns: Exactly these bytes.
    /// - Throws: ``NodeError`` if the bytes cannot be read.
    func read(_ range: Range<Int64>) async throws -> ByteBuffer

    /// Reads bytes if they can be had without waiting.
    ///
    /// - Parameter range: As for ``read(_:)``.
    /// - Returns: Exactly these bytes; `nil` if they, or why they cannot be read, have to be waited for with ``read(_:)``.
    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer?
}

extension Content {
    /// Has nothing at once.
    public func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? { nil }

    /// Reads bytes and makes sure that they are all there: a peer that was promised so many must not get fewer.
    ///
    /// - Parameter range: As for ``read(_:)``.
    /// - Returns: Exactly these bytes.
    /// - Throws: ``NodeError`` if the bytes cannot be read, or others came.
    public func readAll(_ range: Range<Int64>) async throws -> ByteBuffer {
        let bytes = try await self.read(range)
        guard bytes.readableBytes == range.count else {
            throw NodeError(.internalError, "\(bytes.readableBytes) bytes of a content came in place of \(range.count)")
        }
        return bytes
    }
}

/// How a message's way through the chain ended.
public enum Outcome: Sendable {
    /// All branches ended well; what they stored is stored. The reply is the first one that a node set.
    case completed(Reply?)
    /// A branch ended with a failure that nothing in the chain handled.
    case failed(NodeError)
    /// It is not time yet, a node said; nothing failed. Only a node that is a queue (``NodeDescriptor/Traits/isQueue``) is told so.
    case later(Later)
    /// A newer message has made it pointless, and it did nothing.
    case superseded
    /// As ``completed(_:)``, but for a message with a ``Message/precedence`` that has come to no node which delivers it: the place
    /// where it ended, for people.
    case ended(at: String)
}
