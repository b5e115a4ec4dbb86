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
            self.bytes = try await store.storages.begin()
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
            let (checksums, size) = try self.end()
            let complete = UploadedBytes(
                fileName: fileName,
                contentType: contentType,
                algorithm: algorithm,
                checksum: checksums[algorithm],
                sha256: checksums[.sha256],
                size: size
            )
            try OtaPackageRules.check(complete, told: checksum)
            let package = try await self.store.place(self.bytes, complete, in: self.package, isNew: self.isNew)
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
            guard state.isOpen else { throw OtaPackageRules.uploadEnded(of: self.package) }
            bytes.withUnsafeReadableBytes { state.checksums.update($0) }
            state.size += Int64(bytes.readableBytes)
        }
    }

    /// Takes no more bytes from now on.
    private func end() throws -> (checksums: ChecksumSet, size: Int64) {
        try self.state.withLock { state in
            guard state.isOpen else { throw OtaPackageRules.uploadEnded(of: self.package) }
            state.isOpen = false
            return (state.checksums, state.size)
        }
    }

    /// What could not be done, as errors say it.
    static func failure(_ package: OtaPackage) -> String {
        "could not store the package '\(package.title) \(package.version)'"
    }
}
