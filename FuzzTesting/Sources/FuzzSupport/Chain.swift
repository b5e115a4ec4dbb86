import NIOCore
import NodeKit
import OTA

/// The bytes that the chain answers with, half of them in memory.
struct PackageContent: Content {
    let size: Int64 = 5000

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        precondition(range.lowerBound >= 0 && range.upperBound <= self.size, "a read outside of the package: \(range)")
        return ByteBuffer(bytes: range.map { UInt8(truncatingIfNeeded: $0 &* 31) })
    }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        precondition(range.lowerBound >= 0 && range.upperBound <= self.size, "a read outside of the package: \(range)")
        guard range.upperBound <= self.size / 2 else { return nil }
        return ByteBuffer(bytes: range.map { UInt8(truncatingIfNeeded: $0 &* 31) })
    }
}

extension Bench {
    /// What the chain says to a message: of each kind of answer at least one.
    static func answer(_ message: Message) -> Outcome {
        switch message.type {
        case .getAttributesRequest:
            return .completed(.json(["client": ["a": 1], "shared": ["fw_title": "T", "fw_version": "1"]]))
        case .packageInfoRequest:
            return .completed(.json(["fw_title": "T", "fw_version": "1", "fw_size": 5000]))
        case .packageChunkRequest:
            return Self.chunk(message)
        case .toServerRPCRequest:
            switch message.metadata.string(MessageKey.method) {
            case "time": return .completed(.json(["time": 1]))
            case "empty": return .completed(.empty)
            case "refused": return .completed(.refused(NodeError(.forbidden, "not allowed")))
            default: return .completed(nil)
            }
        case .postTelemetryRequest:
            guard case .json(let json) = message.data else { return .failed(NodeError(.badRequest, "no JSON")) }
            do {
                _ = try json.telemetryPoints()
                return .completed(nil)
            } catch {
                return .failed(error)
            }
        default:
            return .completed(nil)
        }
    }

    private static func chunk(_ message: Message) -> Outcome {
        let content = PackageContent()
        let size = message.metadata.integer(MessageKey.size) ?? 0
        let chunk = message.metadata.integer(MessageKey.chunk) ?? 0
        precondition(size >= 0 && chunk >= 0, "a chunk that cannot be: \(chunk) of \(size) bytes")
        var reply = ContentReply(content: content, range: 0..<content.size, fileName: "fw.bin", entityTag: "abc123")
        if size > 0 {
            let (start, overflows) = chunk.multipliedReportingOverflow(by: size)
            precondition(!overflows, "the place of chunk \(chunk) of \(size) bytes overflows")
            reply.range = min(start, content.size)..<min(min(start, content.size) + size, content.size)
            reply.chunkIndex = chunk
            reply.chunksCount = (content.size + size - 1) / size
        }
        return .completed(.content(reply))
    }
}
