import NIOCore
public import NodeKit
import OTA

/// Answers with the bytes of the package: whole, or one chunk of the size that the device asked for.
///
/// | Relation  | When                                                                                          |
/// |-----------|-----------------------------------------------------------------------------------------------|
/// | `Success` | The reply is the bytes; none of them if the chunk is past the end.                            |
/// | `Refused` | The reply is `bad-request` (chunk or size makes no sense) or `not-found` (bytes are elsewhere). |
/// | `Failure` | The message did not pass a `package-lookup`.                                                  |
public struct ChunkServeNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "chunk-serve",
        summary: "Answers with the bytes of the package that package-lookup found: whole, or one chunk.",
        relations: [
            RelationDescriptor(.success, "The reply is the bytes; none of them if the chunk is past the end."),
            RelationDescriptor(
                "Refused",
                "The reply is 'bad-request' (chunk or size makes no sense) or 'not-found' (the bytes are elsewhere)."
            ),
            RelationDescriptor(.failure, "The message did not pass a package-lookup."),
        ],
        attributes: [
            .integer(
                "chunk-size-bytes-max",
                default: 16 * 1024 * 1024,
                in: 1...(1 << 40),
                unit: "bytes",
                summary: "The largest chunk that a device may ask for; the whole package is always allowed."
            )
        ]
    )

    private let chunkSizeBytesMax: Int64
    private let updates: any UpdateService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.chunkSizeBytesMax = configuration.integer("chunk-size-bytes-max")
        self.updates = try services.require((any UpdateService).self)
    }

    /// Sets the reply; reads no byte, which is the ingress's business.
    public func decide(_ message: consuming Message) throws -> Emission {
        let found = try message.lookedUpPackage()
        do {
            let reply = try self.reply(to: message, with: found)
            return .route(message.replying(.content(reply)), to: .success)
        } catch {
            return .route(message.replying(.refused(error)), to: "Refused")
        }
    }

    private func reply(to message: Message, with found: EffectivePackage) throws(NodeError) -> ContentReply {
        guard let content = found.content else {
            throw NodeError(.notFound, "the bytes of the package are not stored here; fetch them from its URL")
        }
        let size = try Self.count(MessageKey.size, of: message)
        let chunk = try Self.count(MessageKey.chunk, of: message)
        let limit = max(self.chunkSizeBytesMax, content.size)
        guard size <= limit else {
            throw NodeError(.badRequest, "a chunk of \(size) bytes is more than the \(limit) allowed; ask for less")
        }
        var reply = ContentReply(
            content: ServedContent(content: content, package: found, device: message.device, updates: self.updates),
            range: 0..<content.size,
            fileName: found.package.fileName,
            contentType: found.package.contentType,
            entityTag: found.package.sha256 ?? found.package.checksum
        )
        // No size means the whole package, whatever the chunk, as ThingsBoard has it.
        guard size > 0 else { return reply }
        // The product of two numbers off the wire: it must not trap, and not wrap to an offset within the package.
        let (offset, overflows) = chunk.multipliedReportingOverflow(by: size)
        guard !overflows else { throw NodeError(.badRequest, "chunk \(chunk) of \(size) bytes is out of range") }
        let start = min(offset, content.size)
        reply.range = start..<(start + min(size, content.size - start))
        reply.chunkIndex = chunk
        reply.chunksCount = content.size / size + (content.size % size == 0 ? 0 : 1)
        return reply
    }

    /// A number of the request; 0 if it is absent.
    private static func count(_ key: String, of message: Message) throws(NodeError) -> Int64 {
        guard let number = message.metadata.integer(key) else {
            guard message.metadata[key] != nil else { return 0 }
            throw NodeError(.badRequest, "'\(key)' is not a whole number that fits 64 bits")
        }
        guard number >= 0 else { throw NodeError(.badRequest, "'\(key)' is negative: \(number)") }
        return number
    }
}

/// The bytes of a package for one device; what is read counts as served.
///
/// Counted here and not when the reply is set: a whole package is read piece by piece as the device takes it, over CoAP with a
/// request for each block.
private struct ServedContent: Content {
    let content: any Content
    let package: EffectivePackage
    let device: DeviceId
    let updates: any UpdateService

    var size: Int64 { self.content.size }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        let bytes = try await self.content.read(range)
        self.updates.served(range, of: self.package, to: self.device)
        return bytes
    }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        guard let bytes = self.content.readAtOnce(range) else { return nil }
        self.updates.served(range, of: self.package, to: self.device)
        return bytes
    }
}
