import GRDB
import NIOCore
import NodeKit

/// Where the bytes of packages can be kept.
///
/// Bytes are known by their SHA-256 and never change under it. Which packages refer to them is not the storage's business.
/// What takes a `Database` is called with a connection of the store: a storage in the database works in the transaction of
/// its caller, and one elsewhere ignores it. ``IncomingBytes/place(as:_:)`` and ``remove(_:_:)`` are called by the writer's
/// thread alone, one at a time, so that nothing goes between a name and the row that refers to it; they must not take long. A
/// storage behind a network has its object in place when ``IncomingBytes/complete()`` returns, and removes one later.
protocol ByteStorage: Sendable {
    /// Begins to take in bytes that have no name yet.
    func begin(_ writer: GroupCommitWriter) async throws -> any IncomingBytes
    /// Whether bytes with this SHA-256 are here.
    func has(_ sha256: String, _ db: Database) throws -> Bool
    /// The bytes with this SHA-256, which stay readable as long as anyone holds them, also when they are removed.
    func content(of sha256: String, size: Int64, _ db: Database) throws -> any Content
    /// Removes the bytes with this SHA-256, if they are here; called outside a transaction.
    func remove(_ sha256: String, _ db: Database) throws
    /// Reads bytes from their start to their end; blocks.
    func forEachPiece(of sha256: String, _ body: (UnsafeRawBufferPointer) -> Void) throws
    /// All that is here, for whoever looks for what should not be.
    func inventory(_ db: Database) throws -> [StoredBytes]
    /// Removes something that nobody uses; called outside a transaction.
    func remove(_ leftover: StoredBytes, _ db: Database) throws
}

/// Bytes on their way into a storage.
///
/// Whatever ends it without ``place(as:_:)``, nothing remains: also when nobody holds it any more.
protocol IncomingBytes: AnyObject, Sendable {
    /// Appends bytes, in the order of the calls; returns when more can come.
    func append(_ bytes: ByteBuffer) async throws
    /// Returns when all bytes are safe. Nothing is appended after it.
    func complete() async throws
    /// Gives complete bytes their name, for good.
    func place(as sha256: String, _ db: Database) throws
    /// Removes what has no name; may be called at any time and more than once.
    func discard() async
}

/// One thing in a storage.
struct StoredBytes: Sendable, Hashable {
    enum Kind: Sendable, Hashable {
        /// Bytes with this SHA-256.
        case named(String)
        /// What an upload has brought so far.
        case unfinished
        /// Nothing that the store put there.
        case foreign
    }

    /// What people call it, such as `the file 'x'`.
    var label: String
    /// What the storage calls it.
    var name: String
    var kind: Kind
}

/// Where a host puts the bytes of packages that are uploaded.
///
/// What was put elsewhere before is served from there all the same.
public enum PackageStorage: String, Sendable, CaseIterable {
    /// A file for each package in the folder `packages`.
    case files
    /// The database, in rows of 64 KiB.
    case sqlite
}

/// All storages of a store: the chosen one for what comes, and each for what it has.
struct PackageStorages: Sendable {
    let files: PackageFiles
    let blobs: PackageBlobs
    let choice: PackageStorage

    /// The chosen one first.
    var all: [any ByteStorage] { self.choice == .files ? [self.files, self.blobs] : [self.blobs, self.files] }

    func begin(_ writer: GroupCommitWriter) async throws -> any IncomingBytes {
        switch self.choice {
        case .files: try await self.files.begin(writer)
        case .sqlite: try await self.blobs.begin(writer)
        }
    }

    /// Gives complete bytes their name; if they are there already, wherever, nothing is done.
    func place(_ bytes: any IncomingBytes, as sha256: String, _ db: Database) throws {
        for storage in self.all where try storage.has(sha256, db) { return }
        try bytes.place(as: sha256, db)
    }

    func content(of sha256: String, size: Int64, _ db: Database) throws -> any Content {
        for storage in self.all where try storage.has(sha256, db) {
            return try storage.content(of: sha256, size: size, db)
        }
        throw SystemError.missing
    }

    /// Removes bytes wherever they are.
    ///
    /// What stays behind because of an error does no harm and goes when the store is opened again.
    func remove(_ sha256: String, _ db: Database) {
        for storage in self.all { try? storage.remove(sha256, db) }
    }

    /// Removes what uploads and deletions left behind when the host was cut off, given the SHA-256 of what packages use.
    func removeLeftovers(used: Set<String>, _ db: Database) throws {
        for storage in self.all {
            for item in try storage.inventory(db) {
                switch item.kind {
                case .named(let sha256): if !used.contains(sha256) { try storage.remove(item, db) }
                case .unfinished: try storage.remove(item, db)
                case .foreign: break
                }
            }
        }
    }
}
