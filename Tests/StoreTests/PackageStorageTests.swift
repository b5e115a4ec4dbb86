import FoundationEssentials
import GRDB
import NIOCore
import NodeKit
import OTA
import StoreTesting
import Testing

@testable import Store

/// What holds wherever the bytes of packages are kept.
@Suite struct PackageStorageTests {
    static func options(_ storage: PackageStorage) -> SQLiteStore.Options {
        var options = SQLiteStore.Options()
        options.packageStorage = storage
        return options
    }

    /// Bytes that differ from one another, so that none can take the place of another.
    static func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13) }
    }

    @Test(
        "bytes come back whole and in any part, at and around the ends of rows",
        arguments: PackageStorage.allCases,
        [1, PackageBlobs.chunkBytes - 1, PackageBlobs.chunkBytes, PackageBlobs.chunkBytes + 1, 1_500_000]
    )
    func roundTrip(storage: PackageStorage, count: Int) async throws {
        try await StoreFixture.with(options: Self.options(storage)) { fixture in
            let bytes = Self.bytes(count)
            let package = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "1")
            )
            let upload = try await fixture.store.upload(to: package.id)
            for start in stride(from: 0, to: count, by: 99_991) {
                try await upload.write(ByteBuffer(bytes: bytes[start..<min(start + 99_991, count)]))
            }
            _ = try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
            #expect(try fixture.packageFiles().isEmpty == (storage == .sqlite))
            let content = try #require(try await fixture.store.content(of: package.id))
            let row = Int64(PackageBlobs.chunkBytes)
            let size = Int64(count)
            for start in [0, 1, row - 1, row, row + 1, size - 1, size] where (0...size).contains(start) {
                for length in [0, 1, row - 1, row, row + 1, 3 * row, size] where start + length <= size {
                    let read = try await content.read(start..<start + length)
                    #expect(read == ByteBuffer(bytes: bytes[Int(start)..<Int(start + length)]))
                }
            }
            await #expect(throws: NodeError.self) { _ = try await content.read(size..<size + 1) }
        }
    }

    @Test("what was put elsewhere before is served, kept once, and removed there", arguments: PackageStorage.allCases)
    func otherChoice(first: PackageStorage) async throws {
        let second: PackageStorage = first == .files ? .sqlite : .files
        try await StoreFixture.withFolder { folder in
            let bytes = Self.bytes(200_000)
            let (before, package) = try await Self.open(folder, first, title: "a", bytes: bytes)
            await before.close()

            // The same bytes again are not stored twice.
            let (store, same) = try await Self.open(folder, second, title: "b", bytes: bytes)
            #expect(same.sha256 == package.sha256)
            let files = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/packages")
            #expect(files.count == (first == .files ? 1 : 0))
            for id in [package.id, same.id] {
                let content = try #require(try await store.content(of: id))
                #expect(try await content.read(0..<200_000) == ByteBuffer(bytes: bytes))
            }
            #expect(try await store.check() == [])
            try await store.deleteOtaPackage(package.id)
            #expect(try await store.content(of: same.id) != nil)
            try await store.deleteOtaPackage(same.id)
            #expect(try FileManager.default.contentsOfDirectory(atPath: "\(folder)/packages") == [])
            #expect(try await Self.blobs(store, in: ["STORED", "INCOMING"]) == 0)
            #expect(try await store.check() == [])
            await store.close()
        }
    }

    @Test("whatever ends an upload without success, nothing of it is kept", arguments: PackageStorage.allCases)
    func ended(storage: PackageStorage) async throws {
        try await StoreFixture.with(options: Self.options(storage)) { fixture in
            let store = fixture.store
            let package = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "1")
            )
            var upload: (any OtaPackageUpload)? = try await store.upload(to: package.id)
            try await upload?.write(ByteBuffer(bytes: Self.bytes(2_000_000)))
            await upload?.cancel()
            await upload?.cancel()
            await expectRefusal(
                "the upload of the package 'fw 1' has ended; begin another",
                code: .conflict
            ) { [upload] in try await upload?.write(ByteBuffer(string: "x")) }

            upload = try await store.upload(to: package.id)
            try await upload?.write(ByteBuffer(bytes: Self.bytes(2_000_000)))
            await expectRefusal("Wrong otaPackage file!") { [upload] in
                _ = try await upload?.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: "00")
            }

            upload = try await store.upload(to: package.id)
            try await upload?.write(ByteBuffer(bytes: Self.bytes(2_000_000)))
            upload = nil
            // What nobody holds any more is given up by the writer's thread, which does this after it.
            try await store.write { _, _ in }
            #expect(try fixture.packageFiles() == [])
            #expect(try await Self.blobs(store, in: ["STORED", "INCOMING"]) == 0)
            while try await store.blobs.removeReleased() {}
            #expect(try await Self.blobs(store, in: ["RELEASED"]) == 0)
            #expect(try await store.read { db in try db.integer("SELECT count(*) FROM package_chunk") } == 0)
        }
    }

    @Test("a package that was deleted is readable as long as somebody reads it", arguments: PackageStorage.allCases)
    func readWhileDeleted(storage: PackageStorage) async throws {
        try await StoreFixture.with(options: Self.options(storage)) { fixture in
            let store = fixture.store
            let package = try await fixture.package(bytes: Self.bytes(300_000))
            var content = try await store.content(of: package.id)
            try await store.deleteOtaPackage(package.id)
            #expect(try await store.blobs.removeReleased() == false)
            #expect(
                try await content?.read(100_000..<300_000) == ByteBuffer(bytes: Self.bytes(300_000)[100_000...])
            )
            content = nil
            while try await store.blobs.removeReleased() {}
            #expect(try await Self.blobs(store, in: ["RELEASED"]) == 0)
        }
    }

    @Test("an upload that a crash cut off is released when the store opens, and lost bytes come back by another upload")
    func crash() async throws {
        try await StoreFixture.withFolder { folder in
            let (store, package) = try await Self.open(folder, .sqlite, title: "a", bytes: Self.bytes(100_000))
            try await store.write { db, _ in
                try db.run("INSERT INTO package_blob (state, chunk_bytes) VALUES ('INCOMING', 65536)")
                try db.run("UPDATE package_blob SET sha256 = NULL, state = 'RELEASED' WHERE sha256 IS NOT NULL")
            }
            await store.close()
            let again = try await SQLiteStore.open(
                directory: folder,
                sessions: DeviceSessions(),
                options: Self.options(.sqlite)
            )
            #expect(try await Self.blobs(again, in: ["RELEASED"]) == 2)
            #expect(try await again.check() == ["the bytes of the package 'a 1' are missing"])
            await expectRefusal(
                """
                could not open the bytes of the package '\(package.id)'; upload the same file to it again: open: No such \
                file or directory
                """,
                code: .internalError
            ) { _ = try await again.content(of: package.id) }
            try await Self.upload(Self.bytes(100_000), to: package.id, again)
            #expect(try await again.check() == [])
            #expect(try await again.content(of: package.id)?.size == 100_000)
            await again.close()
        }
    }

    private static func open(
        _ folder: String,
        _ storage: PackageStorage,
        title: String,
        bytes: [UInt8]
    ) async throws -> (SQLiteStore, OtaPackage) {
        let store = try await SQLiteStore.open(
            directory: folder,
            sessions: DeviceSessions(),
            options: Self.options(storage)
        )
        let package = try await store.saveOtaPackage(
            OtaPackage(deviceProfileId: nil, type: .firmware, title: title, version: "1")
        )
        return (store, try await Self.upload(bytes, to: package.id, store))
    }

    @discardableResult
    private static func upload(_ bytes: [UInt8], to id: OtaPackageId, _ store: SQLiteStore) async throws -> OtaPackage {
        let upload = try await store.upload(to: id)
        try await upload.write(ByteBuffer(bytes: bytes))
        return try await upload.finish(fileName: "f", contentType: "t", algorithm: .sha256, checksum: nil)
    }

    private static func blobs(_ store: SQLiteStore, in states: [String]) async throws -> Int64? {
        let list = states.map { "'\($0)'" }.joined(separator: ", ")
        return try await store.read { db in
            try db.integer("SELECT count(*) FROM package_blob WHERE state IN (\(list))")
        }
    }
}
