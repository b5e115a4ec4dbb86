import NIOCore
import NodeKit
import OTA
import Synchronization

/// Takes the bytes of one package into a storage, and computes all checksums as they come.
///
/// Whatever ends it without success, nothing remains; also when nobody holds the upload any more.
final class PackageUpload: OtaPackageUpload {
    private struct State {
        var checksums = ChecksumSet()
        var size: Int64 = 0
        var isOpen = true
    }

    /// Bytes that came in whole and are safe under a name of their own.
    struct Complete: Sendable {
        var bytes: any IncomingBytes
        var checksums: ChecksumSet
        var size: Int64
    }

    private let store: SQLiteStore
    private let package: OtaPackage
    private let isNew: Bool
    private let bytes: any IncomingBytes
    private let state = Mutex(State())

    /// Begins to take in the bytes of a package.
    ///
    /// - Parameters:
    ///   - store: Where they go.
    ///   - package: The package.
    ///   - isNew: Whether the package is made when its bytes are there.
    /// - Throws: ``NodeError`` if there is no room.
    init(store: SQLiteStore, package: OtaPackage, isNew: Bool = false) async throws {
        self.store = store
        self.package = package
        self.isNew = isNew
        do {
            try await store.checkRoom(0, Self.failure(package))
            self.bytes = try await store.storages.begin(store.writer)
        } catch {
            throw NodeError(file: error, Self.failure(package))
        }
    }

    func write(_ bytes: ByteBuffer) async throws {
        do {
            try await self.store.checkRoom(bytes.readableBytes, Self.failure(self.package))
            // Hashing takes long for an event loop.
            try await offEventLoop { try self.count(bytes) }
            try await self.bytes.append(bytes)
        } catch {
            await self.cancel()
            throw NodeError(file: error, Self.failure(self.package))
        }
    }

    func finish(
        fileName: String?,
        contentType: String?,
        algorithm: ChecksumAlgorithm,
        checksum: String?
    ) async throws -> OtaPackage {
        do {
            let complete = try self.end()
            try OtaPackageRules.checkUpload(fileName: fileName, contentType: contentType, size: complete.size)
            if let checksum, !checksum.isEmpty, checksum != complete.checksums[algorithm] {
                throw OtaPackageRules.wrongFile
            }
            try await self.bytes.complete(as: complete.checksums[.sha256])
            let package = try await self.store.place(
                complete,
                in: self.package,
                isNew: self.isNew,
                fileName: fileName,
                contentType: contentType,
                algorithm: algorithm
            )
            await self.cancel()
            return package
        } catch {
            await self.cancel()
            throw NodeError(file: error, Self.failure(self.package))
        }
    }

    func cancel() async {
        self.state.withLock { $0.isOpen = false }
        await self.bytes.discard()
    }

    private func count(_ bytes: ByteBuffer) throws {
        try self.state.withLock { state in
            guard state.isOpen else { throw Self.ended(self.package) }
            bytes.withUnsafeReadableBytes { state.checksums.update($0) }
            state.size += Int64(bytes.readableBytes)
        }
    }

    /// Takes no more bytes from now on.
    private func end() throws -> Complete {
        try self.state.withLock { state in
            guard state.isOpen else { throw Self.ended(self.package) }
            state.isOpen = false
            return Complete(bytes: self.bytes, checksums: state.checksums, size: state.size)
        }
    }

    /// The package as errors name it.
    static func name(_ package: OtaPackage) -> String { "the package '\(package.title) \(package.version)'" }

    /// What could not be done, as errors say it.
    static func failure(_ package: OtaPackage) -> String { "could not store \(Self.name(package))" }

    private static func ended(_ package: OtaPackage) -> NodeError {
        NodeError(.conflict, "the upload of \(Self.name(package)) has ended; begin another")
    }
}
