import NIOCore
import NodeKit
import OTA
import Synchronization

/// Takes the bytes of one package into a file under way, and computes all checksums as they come.
///
/// Whatever ends it without success, the file is removed; also when nobody holds the upload any more.
final class PackageUpload: OtaPackageUpload {
    private struct State {
        var file: Int32?
        var checksums = ChecksumSet()
        var size: Int64 = 0
        var hasPart = true
    }

    /// Bytes that came in whole and are on the disk under the name of their upload.
    struct Complete: Sendable {
        var part: String
        var checksums: ChecksumSet
        var size: Int64
    }

    private let store: SQLiteStore
    private let package: OtaPackage
    private let part: String
    private let state: Mutex<State>

    /// Makes the file under way; blocks.
    init(store: SQLiteStore, package: OtaPackage) throws {
        self.store = store
        self.package = package
        self.part = store.files.newPartPath()
        self.state = Mutex(State(file: try Self.makeFile(self.part, for: package, in: store.files)))
    }

    private static func makeFile(_ path: String, for package: OtaPackage, in files: PackageFiles) throws -> Int32 {
        do {
            return try files.system.create(path)
        } catch {
            throw NodeError(file: error, "could not store \(Self.name(package))")
        }
    }

    deinit { self.discard() }

    func write(_ bytes: ByteBuffer) async throws {
        try await offEventLoop {
            try self.attempt { try self.append(bytes) }
        }
    }

    func finish(
        fileName: String?,
        contentType: String?,
        algorithm: ChecksumAlgorithm,
        checksum: String?
    ) async throws -> OtaPackage {
        do {
            let complete = try await offEventLoop {
                try self.attempt { try self.complete(fileName: fileName, contentType: contentType) }
            }
            let package = try await self.store.place(
                complete,
                in: self.package.id,
                fileName: fileName,
                contentType: contentType,
                algorithm: algorithm,
                checksum: checksum.flatMap { $0.isEmpty ? nil : $0 }
            )
            await self.cancel()
            return package
        } catch {
            await self.cancel()
            throw NodeError(file: error, "could not store \(Self.name(self.package))")
        }
    }

    func cancel() async {
        // Nothing here throws but a pool that is shut down; then opening the store again removes the file.
        try? await offEventLoop { self.discard() }
    }

    private func append(_ bytes: ByteBuffer) throws {
        try self.state.withLock { state in
            guard let file = state.file else { throw Self.ended(self.package) }
            try bytes.withUnsafeReadableBytes { bytes in
                try self.store.files.system.write(bytes, to: file)
                state.checksums.update(bytes)
                state.size += Int64(bytes.count)
            }
        }
    }

    private func complete(fileName: String?, contentType: String?) throws -> Complete {
        try self.state.withLock { state in
            guard let file = state.file else { throw Self.ended(self.package) }
            try OtaPackageRules.checkUpload(fileName: fileName, contentType: contentType, size: state.size)
            try self.store.files.system.sync(file)
            posixClose(file)
            state.file = nil
            return Complete(part: self.part, checksums: state.checksums, size: state.size)
        }
    }

    /// Does a step; if it fails, nothing remains.
    private func attempt<Value>(_ step: () throws -> Value) throws -> Value {
        do {
            return try step()
        } catch {
            self.discard()
            throw NodeError(file: error, "could not store \(Self.name(self.package))")
        }
    }

    /// Closes and removes the file under way, once.
    private func discard() {
        self.state.withLock { state in
            if let file = state.file { posixClose(file) }
            state.file = nil
            guard state.hasPart else { return }
            state.hasPart = false
            // It is not there any more if it was given its final name.
            try? self.store.files.system.remove(self.part)
        }
    }

    /// The package as errors name it.
    static func name(_ package: OtaPackage) -> String { "the package '\(package.title) \(package.version)'" }

    private static func ended(_ package: OtaPackage) -> NodeError {
        NodeError(.conflict, "the upload of \(Self.name(package)) has ended; begin another")
    }
}
