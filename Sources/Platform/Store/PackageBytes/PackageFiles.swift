import FoundationEssentials
import GRDB
import NIOCore
import NodeKit
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// The folder with the bytes of packages: each file is named after the SHA-256 of its bytes, those under way end in `.part`.
struct PackageFiles: ByteStorage {
    let directory: String
    let system: any FileSystem
    var fileMode: mode_t = 0o600

    /// Where the file with this name is.
    func path(_ name: String) -> String { "\(self.directory)/\(name)" }

    func begin(_ writer: GroupCommitWriter) async throws -> any IncomingBytes {
        try await offEventLoop { try IncomingFile(self, writer) }
    }

    func has(_ sha256: String, _ db: Database) throws -> Bool { try self.system.size(self.path(sha256)) != nil }

    func content(of sha256: String, size: Int64, _ db: Database) throws -> any Content {
        try FileContent(path: self.path(sha256), size: size, system: self.system)
    }

    /// Notes that the file is not used; it is removed once that is stored.
    func release(_ sha256: String, _ db: Database) throws {
        guard try self.has(sha256, db) else { return }
        try db.run("INSERT OR IGNORE INTO unused_file (sha256) VALUES (?)", [sha256])
    }

    func remove(_ sha256: String, _ db: Database) throws { try self.system.remove(self.path(sha256)) }

    /// Returns when names that were given or taken are on the disk (man 2 fsync).
    func syncNames() throws { try self.system.syncDirectory(self.directory) }

    func forEachPiece(of sha256: String, _ body: (UnsafeRawBufferPointer) -> Void) throws {
        let file = try self.system.open(self.path(sha256))
        defer { posixClose(file) }
        var bytes = [UInt8](repeating: 0, count: 256 * 1024)
        try bytes.withUnsafeMutableBytes { bytes in
            while true {
                let count = try POSIXFileSystem.read(file, into: bytes)
                if count == 0 { return }
                body(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
            }
        }
    }

    func inventory(_ db: Database) throws -> [StoredBytes] {
        try self.system.names(in: self.directory).sorted().map { name in
            StoredBytes(label: "the file '\(name)'", name: name, kind: Self.kind(of: name))
        }
    }

    func remove(_ leftover: StoredBytes, _ db: Database) throws { try self.system.remove(self.path(leftover.name)) }

    /// The files that are packages' by their names, and of which the database knows nothing: neither a package nor that they may
    /// be there without one.
    ///
    /// - Parameter db: The database, which may be of an earlier version; `nil` if there is none.
    /// - Returns: Their names.
    /// - Throws: An error of the database or the file system.
    func unknown(_ db: Database?) throws -> [String] {
        let names = try self.system.names(in: self.directory).filter { Self.kind(of: $0) == .named($0) }
        guard !names.isEmpty, let db else { return names }
        var known: Set<String> = []
        if try db.tableExists("ota_package") {
            known = try String.fetchSet(db, sql: "SELECT DISTINCT sha256 FROM ota_package WHERE sha256 IS NOT NULL")
        }
        if try db.tableExists("unused_file") { known.formUnion(try db.unusedFiles()) }
        return names.filter { !known.contains($0) }
    }

    /// What a name says; one that the store does not give is not touched.
    static func kind(of name: String) -> StoredBytes.Kind {
        if name.hasPrefix(IncomingFile.prefix) && name.hasSuffix(IncomingFile.suffix) { return .unfinished }
        let isDigest =
            name.utf8.count == 64
            && name.utf8.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }
        return isDigest ? .named(name) : .foreign
    }
}

/// Bytes on their way into a file, which has a name of its own until they are complete.
private final class IncomingFile: IncomingBytes {
    static let prefix = "upload-"
    static let suffix = ".part"

    private struct State {
        var file: Int32?
        var hasPart = true
    }

    private let files: PackageFiles
    private let writer: GroupCommitWriter
    private let part: String
    private let state: Mutex<State>

    /// Makes the file; blocks.
    init(_ files: PackageFiles, _ writer: GroupCommitWriter) throws {
        self.files = files
        self.writer = writer
        self.part = files.path("\(Self.prefix)\(UUID.random().uuidString.lowercased())\(Self.suffix)")
        self.state = Mutex(State(file: try files.system.create(self.part, mode: files.fileMode)))
    }

    deinit { self.remove() }

    func append(_ bytes: ByteBuffer) async throws {
        try await offEventLoop {
            try self.state.withLock { state in
                guard let file = state.file else { return }
                try bytes.withUnsafeReadableBytes { try self.files.system.write($0, to: file) }
            }
        }
    }

    func complete(as sha256: String) async throws {
        try await offEventLoop {
            try self.state.withLock { state in
                guard let file = state.file else { return }
                try self.files.system.sync(file)
                posixClose(file)
                state.file = nil
            }
        }
        try await self.writer.write { [files] db, _ in
            // A file that is there is another's to judge.
            guard try !files.has(sha256, db) else { return }
            try db.run("INSERT OR IGNORE INTO unused_file (sha256) VALUES (?)", [sha256])
        }
    }

    func place(as sha256: String, _ db: Database) throws {
        try self.files.system.rename(self.part, to: self.files.path(sha256))
        try self.files.syncNames()
    }

    func discard() async {
        // Nothing here throws but a pool that is shut down; then opening the store again removes the file.
        try? await offEventLoop { self.remove() }
    }

    /// Closes and removes the file under way, once.
    private func remove() {
        self.state.withLock { state in
            if let file = state.file { posixClose(file) }
            state.file = nil
            guard state.hasPart else { return }
            state.hasPart = false
            // It is not there any more if it was given its final name.
            try? self.files.system.remove(self.part)
        }
    }
}
