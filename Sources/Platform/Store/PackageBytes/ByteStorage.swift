import GRDB
import NIOCore
import NodeKit

/// Where the bytes of packages can be kept.
///
/// Bytes are known by their SHA-256 and never change under it. Which packages refer to them is not the storage's business.
/// What takes a `Database` is called with a connection of the store: a storage in the database works in the transaction of
/// its caller, and one elsewhere ignores it. ``IncomingBytes/place(as:_:)``, ``release(_:_:)`` and ``remove(_:_:)`` are called by
/// the writer's thread alone, one at a time, so that nothing goes between a name and the row that refers to it; they must not take
/// long. A storage behind a network has its object in place when ``IncomingBytes/complete(as:)`` returns, and removes one later.
protocol ByteStorage: Sendable {
    /// Begins to take in bytes that have no name yet.
    func begin(_ writer: GroupCommitWriter) async throws -> any IncomingBytes
    /// Whether bytes with this SHA-256 are here.
    func has(_ sha256: String, _ db: Database) throws -> Bool
    /// The bytes with this SHA-256, which stay readable as long as anyone holds them, also when they are removed.
    func content(of sha256: String, size: Int64, _ db: Database) throws -> any Content
    /// Gives up bytes in the transaction that takes their last package, so that they go even if the host is cut off right after.
    func release(_ sha256: String, _ db: Database) throws
    /// Removes the bytes with this SHA-256, if they are here; called outside a transaction.
    func remove(_ sha256: String, _ db: Database) throws
    /// Reads bytes from their start to their end; blocks.
    func forEachPiece(of sha256: String, _ body: (UnsafeRawBufferPointer) -> Void) throws
    /// All that is here, for whoever looks for what should not be.
    func inventory(_ db: Database) throws -> [StoredBytes]
    /// Removes something that nobody uses; called outside a transaction.
    func remove(_ leftover: StoredBytes, _ db: Database) throws
    /// Returns when names that were given or taken are safe.
    func syncNames() throws
}

extension ByteStorage {
    func syncNames() {}
}

/// Bytes on their way into a storage.
///
/// Whatever ends it without ``place(as:_:)``, nothing remains: also when nobody holds it any more.
protocol IncomingBytes: AnyObject, Sendable {
    /// Appends bytes, in the order of the calls; returns when more can come.
    func append(_ bytes: ByteBuffer) async throws
    /// Returns when all bytes are safe, and the storage knows the name that they are about to get: should the host be cut off
    /// between that and their row, they are known as unused. Nothing is appended after it.
    func complete(as sha256: String) async throws
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
    let files: any ByteStorage
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

    /// Gives complete bytes their name, in the transaction that stores their row; if they are there already, wherever, they stay.
    func place(_ bytes: any IncomingBytes, as sha256: String, _ db: Database) throws {
        if try !self.all.contains(where: { try $0.has(sha256, db) }) { try bytes.place(as: sha256, db) }
        try db.run("DELETE FROM unused_file WHERE sha256 = ?", [sha256])
    }

    func content(of sha256: String, size: Int64, _ db: Database) throws -> any Content {
        for storage in self.all where try storage.has(sha256, db) {
            return try storage.content(of: sha256, size: size, db)
        }
        throw SystemError.missing
    }

    /// Gives up those of these bytes that no package uses any more, in the transaction that took their packages.
    func release(_ sha256s: [String], _ db: Database) throws {
        for sha256 in sha256s where try !db.exists("SELECT 1 FROM ota_package WHERE sha256 = ?", [sha256]) {
            for storage in self.all { try storage.release(sha256, db) }
        }
    }

    /// Removes bytes wherever they are; called outside a transaction.
    func remove(_ sha256: String, _ db: Database) {
        for storage in self.all { try? storage.remove(sha256, db) }
    }

    /// Removes files that were given up, or whose upload did not get as far as its row; called outside a transaction.
    ///
    /// Nothing else is removed, whatever the rows say: a file without a row may be of a database that is elsewhere at present. What
    /// stays behind because of an error is tried again when the store is opened.
    ///
    /// - Parameters:
    ///   - sha256s: Which of them to look at; `nil` for all.
    ///   - db: The connection of the writer.
    func removeUnusedFiles(_ sha256s: [String]?, _ db: Database) {
        guard let known = try? db.unusedFiles(sha256s), !known.isEmpty else { return }
        let settled = known.filter { sha256 in
            guard let isUsed = try? db.exists("SELECT 1 FROM ota_package WHERE sha256 = ?", [sha256]) else {
                return false
            }
            guard !isUsed, (try? self.files.has(sha256, db)) != false else { return true }
            return (try? self.files.remove(sha256, db)) != nil
        }
        guard (try? self.files.syncNames()) != nil else { return }
        try? db.run(
            "DELETE FROM unused_file WHERE sha256 IN (SELECT value FROM json_each(?))",
            [JSON.array(settled.map(JSON.string)).description]
        )
    }

    /// Removes what uploads left when the host was cut off.
    func removeUnfinished(_ db: Database) throws {
        for storage in self.all {
            for item in try storage.inventory(db) where item.kind == .unfinished { try storage.remove(item, db) }
        }
        self.removeUnusedFiles(nil, db)
    }
}

extension Database {
    /// The SHA-256 of files that may be there without a package, those named or all; see ``Schema/version9``.
    func unusedFiles(_ sha256s: [String]? = nil) throws -> [String] {
        guard let sha256s else { return try String.fetchAll(self, sql: "SELECT sha256 FROM unused_file") }
        return try String.fetchAll(
            self,
            sql: "SELECT sha256 FROM unused_file WHERE sha256 IN (SELECT value FROM json_each(?))",
            arguments: [JSON.array(sha256s.map(JSON.string)).description]
        )
    }
}
