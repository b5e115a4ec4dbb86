import FoundationEssentials
import GRDB
import NIOCore
import NodeKit
import Synchronization

/// The folder with the bytes of packages: each file is named after the SHA-256 of its bytes, those under way end in `.part`.
struct PackageFiles: ByteStorage {
    let directory: String
    let system: any FileSystem

    /// Where the file with this name is.
    func path(_ name: String) -> String { "\(self.directory)/\(name)" }

    func begin(_ writer: GroupCommitWriter) async throws -> any IncomingBytes {
        try await offEventLoop { try IncomingFile(self) }
    }

    func has(_ sha256: String, _ db: Database) throws -> Bool { try self.system.size(self.path(sha256)) != nil }

    func content(of sha256: String, size: Int64, _ db: Database) throws -> any Content {
        try FileContent(path: self.path(sha256), size: size, system: self.system)
    }

    func remove(_ sha256: String, _ db: Database) throws { try self.system.remove(self.path(sha256)) }

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

    /// What a name says; one that the store does not give is not touched.
    private static func kind(of name: String) -> StoredBytes.Kind {
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
    private let part: String
    private let state: Mutex<State>

    /// Makes the file; blocks.
    init(_ files: PackageFiles) throws {
        self.files = files
        self.part = files.path("\(Self.prefix)\(UUID.random().uuidString.lowercased())\(Self.suffix)")
        self.state = Mutex(State(file: try files.system.create(self.part)))
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

    func complete() async throws {
        try await offEventLoop {
            try self.state.withLock { state in
                guard let file = state.file else { return }
                try self.files.system.sync(file)
                posixClose(file)
                state.file = nil
            }
        }
    }

    func place(as sha256: String, _ db: Database) throws {
        try self.files.system.rename(self.part, to: self.files.path(sha256))
        // The name is on the disk only when the folder is (man 2 fsync).
        try self.files.system.syncDirectory(self.files.directory)
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
