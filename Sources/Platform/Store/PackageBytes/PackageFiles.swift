import FoundationEssentials
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

    func begin() async throws -> any IncomingBytes { try await offEventLoop { try IncomingFile(self) } }

    func size(of sha256: String) async throws -> Int64? {
        try await offEventLoop { try self.system.size(self.path(sha256)) }
    }

    func content(of sha256: String, size: Int64) async throws -> (any Content)? {
        try await offEventLoop {
            do {
                return try FileContent(path: self.path(sha256), size: size, system: self.system)
            } catch let error as SystemError where error.number == ENOENT {
                return nil
            }
        }
    }

    func remove(_ sha256: String) async throws { try await self.remove(name: sha256) }

    func inventory() async throws -> [StoredBytes] {
        try await offEventLoop {
            try self.system.names(in: self.directory).sorted().map { name in
                StoredBytes(label: "the file '\(name)'", name: name, kind: Self.kind(of: name))
            }
        }
    }

    func remove(_ leftover: StoredBytes) async throws { try await self.remove(name: leftover.name) }

    private func remove(name: String) async throws {
        try await offEventLoop {
            guard try self.system.size(self.path(name)) != nil else { return }
            try self.system.remove(self.path(name))
            try self.syncNames()
        }
    }

    /// Returns when names that were given or taken are on the disk (man 2 fsync).
    fileprivate func syncNames() throws { try self.system.syncDirectory(self.directory) }

    /// The files that are packages' by their names.
    func named() throws -> [String] {
        try self.system.names(in: self.directory).filter { Self.kind(of: $0) == .named($0) }
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
    private let part: String
    private let state: Mutex<State>

    /// Makes the file; blocks.
    init(_ files: PackageFiles) throws {
        self.files = files
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

    func finish(as sha256: String) async throws {
        try await offEventLoop {
            try self.state.withLock { state in
                guard let file = state.file else { throw NodeError(.conflict, "the upload has ended; begin another") }
                try self.files.system.sync(file)
                posixClose(file)
                state.file = nil
                try self.files.system.rename(self.part, to: self.files.path(sha256))
                state.hasPart = false
                try self.files.syncNames()
            }
        }
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
            try? self.files.system.remove(self.part)
        }
    }
}
