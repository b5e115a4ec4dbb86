import FoundationEssentials
import GRDB
import NIOCore
import NodeKit
import Synchronization

/// The bytes of packages in the database, cut into rows of one size, so that neither a read nor a write takes all of them.
///
/// A blob is INCOMING while an upload brings it, then STORED under its SHA-256. One that nobody uses is RELEASED and removed
/// bit by bit: removing 4 GiB in one transaction would keep the writer busy for seconds.
struct PackageBlobs: ByteStorage {
    /// Bytes in one row of a new blob: a device's chunk request touches one or two rows.
    static let chunkBytes = 64 * 1024
    /// Rows that are read or removed in one transaction.
    static let rowsPerStep = 64

    let database: any DatabaseWriter
    /// The one writer of the database; `nil` if no host has it open.
    let writer: GroupCommitWriter?
    private let leases = BlobLeases()

    init(_ database: any DatabaseWriter, _ writer: GroupCommitWriter? = nil) {
        self.database = database
        self.writer = writer
    }

    func begin() async throws -> any IncomingBytes {
        guard let writer = self.writer else { throw NodeError(.unavailable, "the store takes no packages now") }
        let id = try await writer.write { db, _ in
            try db.run("INSERT INTO package_blob (state, chunk_bytes) VALUES ('INCOMING', ?)", [Self.chunkBytes])
            return db.lastInsertedRowID
        }
        return IncomingBlob(id, writer)
    }

    /// The sum of the rows, some of which may be missing.
    func size(of sha256: String) async throws -> Int64? {
        try await self.database.readToEnd { db in
            guard let id = try db.integer("SELECT id FROM package_blob WHERE sha256 = ?", [sha256]) else { return nil }
            return try db.integer("SELECT sum(length(bytes)) FROM package_chunk WHERE blob = ?", [id]) ?? 0
        }
    }

    func content(of sha256: String, size: Int64) async throws -> (any Content)? {
        try await self.database.readToEnd { [leases, database] db in
            try db.row("SELECT id, chunk_bytes FROM package_blob WHERE sha256 = ?", [sha256]).map { row in
                BlobContent(
                    id: row["id"],
                    chunkBytes: row["chunk_bytes"],
                    size: size,
                    reader: database,
                    leases: leases
                )
            }
        }
    }

    func remove(_ sha256: String) async throws {
        try await self.change { db in
            try db.run("UPDATE package_blob SET state = 'RELEASED', sha256 = NULL WHERE sha256 = ?", [sha256])
        }
    }

    func inventory() async throws -> [StoredBytes] {
        try await self.database.readToEnd { db in
            // What is released is on its way out and nobody's any more.
            try db.rows("SELECT id, state, sha256 FROM package_blob WHERE state <> 'RELEASED' ORDER BY id").map { row in
                let id: Int64 = row["id"]
                let sha256: String? = row["sha256"]
                return StoredBytes(
                    label: "the blob \(id) of the database",
                    name: "\(id)",
                    kind: sha256.map(StoredBytes.Kind.named) ?? .unfinished
                )
            }
        }
    }

    func remove(_ leftover: StoredBytes) async throws {
        try await self.change { db in
            try db.run(
                "UPDATE package_blob SET state = 'RELEASED', sha256 = NULL WHERE id = ?",
                [Int64(leftover.name)]
            )
        }
    }

    private func change(_ body: @escaping @Sendable (Database) throws -> Void) async throws {
        guard let writer = self.writer else { return try await self.database.write(body) }
        try await writer.remove { db, _ in try body(db) }
    }

    /// Removes some rows of blobs that are released and that nobody reads.
    ///
    /// - Returns: Whether there may be more.
    func removeReleased() async throws -> Bool {
        let released = try await self.database.readToEnd { db in
            try Int64.fetchAll(db, sql: "SELECT id FROM package_blob WHERE state = 'RELEASED' ORDER BY id LIMIT 1000")
        }
        guard let id = released.first(where: { !self.leases.isHeld($0) }) else { return false }
        try await self.change { db in
            try db.run(
                """
                DELETE FROM package_chunk WHERE blob = ?1 AND number IN
                    (SELECT number FROM package_chunk WHERE blob = ?1 ORDER BY number LIMIT ?2)
                """,
                [id, Self.rowsPerStep]
            )
            guard db.changesCount < Self.rowsPerStep else { return }
            try db.run("DELETE FROM package_blob WHERE id = ?", [id])
        }
        return true
    }
}

/// Which blobs are being read.
final class BlobLeases: Sendable {
    private let holders = Mutex<[Int64: Int]>([:])

    func hold(_ id: Int64) { self.holders.withLock { $0[id, default: 0] += 1 } }

    func release(_ id: Int64) {
        self.holders.withLock { holders in
            guard let count = holders[id] else { return }
            holders[id] = count > 1 ? count - 1 : nil
        }
    }

    func isHeld(_ id: Int64) -> Bool { self.holders.withLock { $0[id] != nil } }
}

/// The bytes of a blob, which is not removed as long as anyone holds this.
private final class BlobContent: Content {
    let size: Int64
    private let id: Int64
    private let chunkBytes: Int64
    private let reader: any DatabaseReader
    private let leases: BlobLeases

    init(id: Int64, chunkBytes: Int64, size: Int64, reader: any DatabaseReader, leases: BlobLeases) {
        self.id = id
        self.chunkBytes = chunkBytes
        self.size = size
        self.reader = reader
        self.leases = leases
        leases.hold(id)
    }

    deinit { self.leases.release(self.id) }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        guard range.lowerBound >= 0, range.upperBound <= self.size else {
            throw NodeError(range, notWithin: self.size)
        }
        guard !range.isEmpty else { return ByteBuffer() }
        return try await self.reader.readToEnd { db in try self.read(range, db) }
    }

    private func read(_ range: Range<Int64>, _ db: Database) throws -> ByteBuffer {
        let first = range.lowerBound / self.chunkBytes
        let rows = try Row.fetchCursor(
            db.cachedStatement(
                sql: "SELECT number, bytes FROM package_chunk WHERE blob = ? AND number BETWEEN ? AND ? ORDER BY number"
            ),
            arguments: [self.id, first, (range.upperBound - 1) / self.chunkBytes]
        )
        var buffer = ByteBufferAllocator().buffer(capacity: range.count)
        var expected = first
        while let row = try rows.next() {
            let number: Int64 = row["number"]
            guard number == expected else { break }
            expected += 1
            let start = number * self.chunkBytes
            let bytes: Data = row["bytes"]
            let from = max(range.lowerBound - start, 0)
            let to = min(range.upperBound - start, Int64(bytes.count))
            guard from < to else { break }
            buffer.writeBytes(bytes[bytes.startIndex + Int(from)..<bytes.startIndex + Int(to)])
        }
        guard buffer.readableBytes == range.count else {
            throw NodeError(
                .internalError,
                "the bytes of a package are fewer than its \(self.size); upload the same file again"
            )
        }
        return buffer
    }
}

/// Bytes on their way into the database.
private final class IncomingBlob: IncomingBytes {
    /// Rows of one transaction, so bytes that an upload holds in memory; each transaction costs a sync of the disk.
    static let rowsPerWrite = 16

    private struct State {
        var waiting = ByteBuffer()
        var size: Int64 = 0
        var nextNumber: Int64 = 0
        var isDiscarded = false
    }

    private let id: Int64
    private let writer: GroupCommitWriter
    private let state = Mutex(State())

    init(_ id: Int64, _ writer: GroupCommitWriter) {
        self.id = id
        self.writer = writer
    }

    deinit {
        guard let release = self.discarding() else { return }
        self.writer.writeLater(release)
    }

    func append(_ bytes: ByteBuffer) async throws {
        let rows = self.state.withLock { state -> (first: Int64, bytes: [Data]) in
            state.size += Int64(bytes.readableBytes)
            state.waiting.writeImmutableBuffer(bytes)
            let isFull = state.waiting.readableBytes >= Self.rowsPerWrite * PackageBlobs.chunkBytes
            return Self.take(isFull ? PackageBlobs.chunkBytes : .max, from: &state)
        }
        try await self.store(rows)
    }

    func finish(as sha256: String) async throws {
        try await self.store(self.state.withLock { Self.take(1, from: &$0) })
        let size = self.state.withLock { $0.size }
        try await self.writer.write { [id] db, _ in
            try db.run(
                "UPDATE package_blob SET state = 'STORED', sha256 = ?, size = ? WHERE id = ? AND state = 'INCOMING'",
                [sha256, size, id]
            )
            guard db.changesCount == 1 else { throw NodeError(.conflict, "the upload has ended; begin another") }
        }
    }

    func discard() async {
        guard let release = self.discarding() else { return }
        // Nothing here throws but a store that is closed; then opening it again releases the blob.
        try? await self.writer.write(release)
    }

    /// What releases the blob unless it was given its name, once.
    private func discarding() -> (@Sendable (Database, inout Effects) throws -> Void)? {
        let isFirst = self.state.withLock { state in
            defer {
                state.isDiscarded = true
                state.waiting = ByteBuffer()
            }
            return !state.isDiscarded
        }
        guard isFirst else { return nil }
        return { [id] db, _ in
            try db.run("UPDATE package_blob SET state = 'RELEASED' WHERE id = ? AND state = 'INCOMING'", [id])
        }
    }

    /// Takes rows off what waits, as long as at least so many bytes do; the last row may be short.
    private static func take(_ bytesMin: Int, from state: inout State) -> (first: Int64, bytes: [Data]) {
        let first = state.nextNumber
        var rows: [Data] = []
        while state.waiting.readableBytes >= bytesMin,
            let bytes = state.waiting.readBytes(length: min(PackageBlobs.chunkBytes, state.waiting.readableBytes))
        {
            rows.append(Data(bytes))
        }
        state.waiting.discardReadBytes()
        state.nextNumber += Int64(rows.count)
        return (first, rows)
    }

    private func store(_ rows: (first: Int64, bytes: [Data])) async throws {
        guard !rows.bytes.isEmpty else { return }
        try await self.writer.write { [id] db, _ in
            for (index, bytes) in rows.bytes.enumerated() {
                try db.run(
                    "INSERT INTO package_chunk (blob, number, bytes) VALUES (?, ?, ?)",
                    [id, rows.first + Int64(index), bytes]
                )
            }
        }
    }
}
