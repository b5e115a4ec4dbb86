import GRDB
import NIOCore
import NodeKit
import Synchronization

/// The bytes of packages in memory.
final class MemoryPackages: ByteStorage {
    private let stored = Mutex<[String: ByteBuffer]>([:])

    func begin(_ writer: GroupCommitWriter) -> any IncomingBytes { IncomingMemory(self) }

    func has(_ sha256: String, _ db: Database) -> Bool { self.bytes(sha256) != nil }

    func content(of sha256: String, size: Int64, _ db: Database) throws -> any Content {
        guard let bytes = self.bytes(sha256) else { throw SystemError.missing }
        return MemoryContent(bytes: bytes)
    }

    /// Notes that the bytes are not used; they are removed once that is stored.
    func release(_ sha256: String, _ db: Database) throws {
        guard self.has(sha256, db) else { return }
        try db.run("INSERT OR IGNORE INTO unused_file (sha256) VALUES (?)", [sha256])
    }

    func remove(_ sha256: String, _ db: Database) { self.stored.withLock { $0[sha256] = nil } }

    func forEachPiece(of sha256: String, _ body: (UnsafeRawBufferPointer) -> Void) throws {
        guard let bytes = self.bytes(sha256) else { throw SystemError.missing }
        bytes.withUnsafeReadableBytes(body)
    }

    func inventory(_ db: Database) -> [StoredBytes] {
        self.stored.withLock { $0.keys.sorted() }
            .map { StoredBytes(label: "the bytes '\($0)'", name: $0, kind: .named($0)) }
    }

    func remove(_ leftover: StoredBytes, _ db: Database) { self.remove(leftover.name, db) }

    private func bytes(_ sha256: String) -> ByteBuffer? { self.stored.withLock { $0[sha256] } }

    fileprivate func place(_ bytes: ByteBuffer, as sha256: String) { self.stored.withLock { $0[sha256] = bytes } }
}

/// Bytes that come, and go with the object unless they get a name.
private final class IncomingMemory: IncomingBytes {
    private let packages: MemoryPackages
    private let bytes = Mutex(ByteBuffer())

    init(_ packages: MemoryPackages) { self.packages = packages }

    func append(_ bytes: ByteBuffer) async { self.bytes.withLock { _ = $0.writeImmutableBuffer(bytes) } }

    func complete(as sha256: String) async {}

    func place(as sha256: String, _ db: Database) { self.packages.place(self.bytes.withLock { $0 }, as: sha256) }

    func discard() async { self.bytes.withLock { $0 = ByteBuffer() } }
}

/// Bytes that whoever holds them reads without a wait.
private struct MemoryContent: Content {
    let bytes: ByteBuffer
    var size: Int64 { Int64(self.bytes.readableBytes) }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        guard let start = Int(exactly: range.lowerBound), start >= 0 else { return nil }
        return self.bytes.getSlice(at: self.bytes.readerIndex + start, length: range.count)
    }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        guard let bytes = self.readAtOnce(range) else {
            throw NodeError(.badRequest, "bytes \(range.lowerBound)..<\(range.upperBound) are not within \(self.size)")
        }
        return bytes
    }
}
