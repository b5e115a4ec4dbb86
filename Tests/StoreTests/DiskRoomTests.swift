import FoundationEssentials
import GRDB
import NIOCore
import NodeKit
import OTA
import StoreTesting
import Synchronization
import Testing

@testable import Store

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A disk that gets full: uploads stop before it is, and what is deleted makes room.
@Suite struct DiskRoomTests {
    private static let mebibyte: Int64 = 1 << 20

    private static func options(reserve: Int64, _ storage: PackageStorage = .files) -> SQLiteStore.Options {
        var options = PackageStorageTests.options(storage)
        options.reserveBytes = reserve
        return options
    }

    @Test(
        "an upload may take what is free but for the reserve, and is refused with the first byte beyond it",
        .bug(id: "D2.4"),
        arguments: PackageStorage.allCases
    )
    func reserve(storage: PackageStorage) async throws {
        let system = SmallDisk()
        try await StoreFixture.with(system: system, options: Self.options(reserve: 8 * Self.mebibyte, storage)) {
            fixture in
            let room = try #require(fixture.store.room)
            let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "1")
            let bytes = ByteBuffer(bytes: PackageStorageTests.bytes(1000))
            let pages = try await fixture.store.read { db in
                try Int64.fetchOne(
                    db,
                    sql: "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
                )
            }
            let reusable = storage == .files ? 0 : try #require(pages)
            let taken = room.deletion.bytes + reusable
            system.free(8 * Self.mebibyte - taken + 1000)
            #expect(fixture.store.hasRoom == (reusable <= 1000))
            let upload = try await fixture.store.upload(creating: package)
            try await upload.write(bytes)
            _ = try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
            system.free(8 * Self.mebibyte - taken + 999)
            let other = OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "2")
            let second = try await fixture.store.upload(creating: other)
            let sentence = """
                could not store the package 'fw 2': \((8 * Self.mebibyte - reusable + 999) / Self.mebibyte) MiB are free in the data folder, and uploads leave 8 MiB for reports and \
                deletions; delete packages that nothing uses, make room on the disk, or set 'data.reserve.bytes' lower
                """
            await expectRefusal(sentence, code: .storageFull) { try await second.write(bytes) }
            // Before a byte is sent, if there is no room at all.
            system.free(8 * Self.mebibyte - taken - 1)
            #expect(!fixture.store.hasRoom)
            let less = sentence.replacing("8 MiB are free", with: "7 MiB are free")
            await expectRefusal(less, code: .storageFull) { _ = try await fixture.store.upload(creating: other) }
            // A report needs no reserve, and neither does a deletion.
            let device = try await fixture.device(in: try await fixture.profile().id)
            try await fixture.store.saveTimeseries(
                of: device.id,
                [TelemetryPoint(timestamp: nil, values: ["a": 1])],
                at: fixture.clock.now
            )
            try await fixture.store.deleteOtaPackage(package.id)
            #expect(try fixture.packageFiles() == [])
            while try await fixture.store.blobs.removeReleased() {}
        }
    }

    @Test(
        "in the database, what was deleted makes room for the next package, as long as there is some for the log",
        .bug(id: "D2.4")
    )
    func reuse() async throws {
        let system = SmallDisk()
        let options = Self.options(reserve: 8 * Self.mebibyte, .sqlite)
        try await StoreFixture.with(system: system, options: options) { fixture in
            let store = fixture.store
            func upload(_ title: String, _ count: Int) async throws -> OtaPackageId {
                let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: title, version: "1")
                let upload = try await store.upload(creating: package)
                try await upload.write(ByteBuffer(bytes: PackageStorageTests.bytes(count)))
                return try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil).id
            }
            let first = try await upload("first", 3_000_000)
            let half = 4 * Self.mebibyte - (try #require(store.room).deletion.bytes)
            system.free(half + 3 * Self.mebibyte)
            await #expect(throws: NodeError.self) { _ = try await upload("second", 1_000_000) }
            try await store.deleteOtaPackage(first)
            while try await store.blobs.removeReleased() {}
            let second = try await upload("second", 1_000_000)
            try await store.deleteOtaPackage(second)
            while try await store.blobs.removeReleased() {}
            system.free(half - 1)
            await #expect(throws: NodeError.self) { _ = try await upload("third", 1) }
        }
    }

    @Test("an upload is not refused if the free space of the disk is unknown", .bug(id: "D2.4"))
    func unknown() async throws {
        let system = SmallDisk()
        try await StoreFixture.with(system: system, options: Self.options(reserve: Self.mebibyte)) { fixture in
            system.free(nil)
            #expect(fixture.store.hasRoom)
            _ = try await fixture.package()
        }
    }

    @Test(
        "a deletion that finds the disk full gets the room that is kept for it, and the room is taken anew",
        .bug(id: "D2.4")
    )
    func deletion() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let file = "\(fixture.directory)/\(DeletionRoom.fileName)"
            #expect(store.room?.deletion.bytes == DeletionRoom.bytesMax)
            var status = stat()
            #expect(stat(file, &status) == 0)
            #expect(Int64(status.st_blocks) * 512 >= DeletionRoom.bytesMax, "the room is only a name")
            for error in [ResultCode.SQLITE_FULL, .SQLITE_IOERR_SHMSIZE] {
                // A full disk as SQLite reports it, until there is room.
                let runs = Mutex(0)
                try await store.remove { db, _ in
                    runs.withLock { $0 += 1 }
                    try db.run("INSERT INTO message_queue (queue, message) VALUES ('q', '{}')")
                    if FileManager.default.fileExists(atPath: file) { throw DatabaseError(resultCode: error) }
                }
                #expect(runs.withLock { $0 } == 2)
                #expect(store.room?.deletion.bytes == DeletionRoom.bytesMax)
                #expect(FileManager.default.fileExists(atPath: file))
            }
            let count = try await store.read { db in try db.integer("SELECT count(*) FROM message_queue") }
            #expect(count == 2, "what the first attempts did was undone")
            // Of what only writes, nothing gets it.
            await expectRefusal(
                "the database cannot grow: the disk is full; make room in the data folder",
                code: .storageFull
            ) {
                try await store.write { _, _ in throw DatabaseError(resultCode: .SQLITE_FULL) }
            }
            #expect(FileManager.default.fileExists(atPath: file))
            // Room that was not enough is an error like any other.
            await expectRefusal(
                "the database cannot grow: the disk is full; make room in the data folder",
                code: .storageFull
            ) {
                try await store.remove { _, _ in throw DatabaseError(resultCode: .SQLITE_FULL) }
            }
        }
    }

    @Test(
        "packages are taken from devices and profiles on a full disk, so that they can be deleted there",
        .bug(id: "D2.4"),
        arguments: [false, true]
    )
    func unassigning(isProfile: Bool) async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile().id
            let device = try await fixture.device(in: profile)
            let package = try await fixture.package(in: profile)
            func assign(_ id: OtaPackageId?) async throws {
                if isProfile {
                    try await fixture.assign(id, to: profile)
                } else {
                    try await fixture.assign(id, to: device.id)
                }
            }
            try await assign(package.id)
            let file = "\(fixture.directory)/\(DeletionRoom.fileName)"
            try await store.write { db, _ in
                let full = DatabaseFunction("no_room", argumentCount: 0) { _ in
                    if FileManager.default.fileExists(atPath: file) { throw DatabaseError(resultCode: .SQLITE_FULL) }
                    return nil
                }
                db.add(function: full)
                try db.run("CREATE TEMP TRIGGER no_room BEFORE INSERT ON main.assignment BEGIN SELECT no_room(); END")
            }
            try await assign(nil)
            try await store.deleteOtaPackage(package.id)
            #expect(try await store.updateRecord(of: device.id, type: .firmware) == nil)
            #expect(FileManager.default.fileExists(atPath: file))
        }
    }

    @Test(
        "on a small disk as much is kept for deletions as there is, and the rest when there is more",
        .bug(id: "D2.4")
    )
    func little() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/windlass-room-\(UUID.random().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let system = SmallDisk()
        let room = DeletionRoom(DataFolder(path: folder), bytes: 4 * Self.mebibyte, system: system)
        system.free(Self.mebibyte + 5)
        room.take()
        #expect(room.bytes == Self.mebibyte)
        room.take()
        #expect(room.bytes == Self.mebibyte)
        system.free(4 * Self.mebibyte)
        room.take()
        #expect(room.bytes == 4 * Self.mebibyte)
        #expect(room.give())
        #expect(room.bytes == 0)
        #expect(!room.give())
        system.free(DeletionRoom.bytesMin - 1)
        room.take()
        #expect(room.bytes == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
        let none = DeletionRoom(DataFolder(path: folder), bytes: 0, system: POSIXFileSystem())
        none.take()
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
    }

    @Test(
        "a package comes to be with its bytes: as long as they come, and if they end, there is none",
        .bug(id: "D2.4")
    )
    func together() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "1")
            func count() async throws -> Int64? {
                try await store.read { db in try db.integer("SELECT count(*) FROM ota_package") }
            }
            let first = try await store.upload(creating: package)
            try await first.write(ByteBuffer(string: "bytes"))
            #expect(try await count() == 0)
            // The same again, while the first is under way: a client that gave it up does not wait for that to be noticed.
            let second = try await store.upload(creating: package)
            try await second.write(ByteBuffer(string: "bytes"))
            let made = try await second.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
            #expect(made.id == package.id)
            #expect(made.hasData)
            #expect(try await store.findOtaPackageById(package.id) == made)
            await expectRefusal("OtaPackage with such title and version already exists!") {
                _ = try await first.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
            }
            await expectRefusal("OtaPackage with such title and version already exists!") {
                _ = try await store.upload(creating: package)
            }
            #expect(try await count() == 1)
            let elsewhere = OtaPackage(
                deviceProfileId: nil,
                type: .firmware,
                title: "e",
                version: "1",
                url: "http://a/b"
            )
            await expectRefusal("File can't be saved if URL present!") {
                _ = try await store.upload(creating: elsewhere)
            }
            let nowhere = OtaPackage(deviceProfileId: .random(), type: .firmware, title: "n", version: "1")
            await #expect(throws: NodeError.self) { _ = try await store.upload(creating: nowhere) }
        }
    }

    @Test(
        "whichever step fails of an upload that makes its package, there is no package, and the same upload succeeds",
        .bug(id: "D2.4")
    )
    func failingSteps() async throws {
        let system = FaultySystem(number: EIO)
        try await StoreFixture.with(system: system) { fixture in
            let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "1")
            var failures = 0
            while true {
                system.fail(after: failures)
                do {
                    let upload = try await fixture.store.upload(creating: package)
                    try await upload.write(ByteBuffer(string: "bytes"))
                    _ = try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
                    break
                } catch is NodeError {}
                system.fail(after: nil)
                #expect(try await fixture.store.findOtaPackageById(package.id) == nil)
                #expect(try fixture.packageFiles() == [])
                failures += 1
            }
            system.fail(after: nil)
            #expect(failures == 5)
        }
    }

    @Test("a device and its credentials are saved together or not at all", .bug(id: "D2.4"))
    func device() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            _ = try await fixture.device("taken", in: profile.id)
            var device = Device(name: "d", deviceProfileId: profile.id)
            func credentials(_ token: String) -> DeviceCredentials {
                DeviceCredentials(deviceId: device.id, credentialsId: token)
            }
            await #expect(throws: NodeError.self) {
                _ = try await store.saveDevice(device, credentials: credentials("token of taken"))
            }
            #expect(try await store.findDeviceById(device.id) == nil)
            device = try await store.saveDevice(device, credentials: credentials("first"))
            #expect(try await store.findCredentials(of: device.id)?.credentialsId == "first")
            device.label = "new"
            await #expect(throws: NodeError.self) {
                _ = try await store.saveDevice(device, credentials: credentials("token of taken"))
            }
            #expect(try await store.findDeviceById(device.id)?.label == nil)
            #expect(try await store.device(accessToken: "first") != nil)
            _ = try await store.saveDevice(device, credentials: credentials("second"))
            #expect(try await store.findDeviceById(device.id)?.label == "new")
            #expect(try await store.device(accessToken: "first") == nil)
            #expect(try await store.device(accessToken: "second")?.name == "d")
        }
    }
}

/// The files of the system, on a disk that says what a test wants.
final class SmallDisk: FileSystem {
    private let real = POSIXFileSystem()
    private let bytes = Mutex<Int64?>(1 << 40)

    /// So many bytes are free from now on; `nil` if the system does not say.
    func free(_ bytes: Int64?) { self.bytes.withLock { $0 = bytes } }

    func create(_ path: String, mode: mode_t) throws -> Int32 { try self.real.create(path, mode: mode) }
    func open(_ path: String) throws -> Int32 { try self.real.open(path) }
    func write(_ bytes: UnsafeRawBufferPointer, to file: Int32) throws { try self.real.write(bytes, to: file) }
    func sync(_ file: Int32) throws { try self.real.sync(file) }
    func syncDirectory(_ path: String) throws { try self.real.syncDirectory(path) }
    func rename(_ old: String, to new: String) throws { try self.real.rename(old, to: new) }
    func remove(_ path: String) throws { try self.real.remove(path) }
    func size(_ path: String) throws -> Int64? { try self.real.size(path) }
    func names(in path: String) throws -> [String] { try self.real.names(in: path) }
    func freeBytes(in path: String) -> Int64? { self.bytes.withLock { $0 } }

    func allocate(_ bytes: Int64, for file: Int32) throws {
        if let free = self.bytes.withLock({ $0 }), bytes > free {
            throw SystemError(call: "posix_fallocate", number: ENOSPC)
        }
        try self.real.allocate(bytes, for: file)
    }
}
