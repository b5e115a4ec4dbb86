import NodeKit
import Waiting

/// Where a host puts the bytes of packages that are uploaded.
///
/// What was put elsewhere before is served from there all the same.
public enum PackageStorage: String, Sendable, CaseIterable {
    /// A file for each package in the folder `packages`.
    case files
    /// The database, in rows of 64 KiB.
    case sqlite
}

/// All storages of a store: the chosen one takes what comes, and each has what it has.
struct PackageStorages: Sendable {
    /// How many names can be given or taken at the same time.
    private static let locksCount = 64

    private let files: any ByteStorage
    private let blobs: any ByteStorage
    private let choice: PackageStorage
    private let locks = (0..<Self.locksCount).map { _ in AsyncLock() }

    init(files: any ByteStorage, blobs: any ByteStorage, choice: PackageStorage) {
        self.files = files
        self.blobs = blobs
        self.choice = choice
    }

    subscript(storage: PackageStorage) -> any ByteStorage {
        switch storage {
        case .files: self.files
        case .sqlite: self.blobs
        }
    }

    /// The chosen one first.
    var all: [any ByteStorage] { self.choice == .files ? [self.files, self.blobs] : [self.blobs, self.files] }

    func begin() async throws -> any IncomingBytes { try await self[self.choice].begin() }

    /// Whether there are bytes with this SHA-256 in any storage.
    func has(_ sha256: String) async throws -> Bool {
        for storage in self.all where try await storage.size(of: sha256) != nil { return true }
        return false
    }

    func content(of sha256: String, size: Int64) async throws -> any Content {
        for storage in self.all {
            if let content = try await storage.content(of: sha256, size: size) { return content }
        }
        throw SystemError.missing
    }

    /// Removes bytes wherever they are.
    func remove(_ sha256: String) async throws {
        for storage in self.all { try await storage.remove(sha256) }
    }

    /// Removes what uploads left when the host was cut off.
    func removeUnfinished() async throws {
        for storage in self.all {
            for item in try await storage.inventory() where item.kind == .unfinished { try await storage.remove(item) }
        }
    }

    /// Runs the body while nobody else gives or takes this name.
    func withName<Value>(_ sha256: String, _ body: () async throws -> Value) async throws -> Value {
        try await self.locks[Int(sha256.hashValue.magnitude % UInt(Self.locksCount))].withLock(body)
    }
}
