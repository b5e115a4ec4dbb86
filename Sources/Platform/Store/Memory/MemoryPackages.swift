import NIOCore
import NodeKit
import Synchronization

/// The bytes of packages in memory.
final class MemoryPackages: ByteStorage {
    private let stored = Mutex<[String: ByteBuffer]>([:])

    func begin() -> any IncomingBytes { IncomingMemory(self) }

    func size(of sha256: String) -> Int64? { self.bytes(sha256).map { Int64($0.readableBytes) } }

    func content(of sha256: String, size: Int64) -> (any Content)? { self.bytes(sha256).map(MemoryContent.init) }

    func remove(_ sha256: String) { self.stored.withLock { $0[sha256] = nil } }

    func inventory() -> [StoredBytes] {
        self.stored.withLock { $0.keys.sorted() }
            .map { StoredBytes(label: "the bytes '\($0)'", name: $0, kind: .named($0)) }
    }

    func remove(_ leftover: StoredBytes) { self.remove(leftover.name) }

    private func bytes(_ sha256: String) -> ByteBuffer? { self.stored.withLock { $0[sha256] } }

    fileprivate func place(_ bytes: ByteBuffer, as sha256: String) { self.stored.withLock { $0[sha256] = bytes } }
}

/// Bytes that come, and go with the object unless they get a name.
private final class IncomingMemory: IncomingBytes {
    private let packages: MemoryPackages
    private let bytes = Mutex(ByteBuffer())

    init(_ packages: MemoryPackages) { self.packages = packages }

    func append(_ bytes: ByteBuffer) async { self.bytes.withLock { _ = $0.writeImmutableBuffer(bytes) } }

    func finish(as sha256: String) async { self.packages.place(self.bytes.withLock { $0 }, as: sha256) }

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
            throw NodeError(range, notWithin: self.size)
        }
        return bytes
    }
}
