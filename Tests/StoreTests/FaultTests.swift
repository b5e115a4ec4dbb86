import Dispatch
import FoundationEssentials
import GRDB
import NIOCore
import NodeKit
import OTA
import Synchronization
import Testing

@testable import Store

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@Suite struct FaultTests {
    @Test("whichever step of an upload fails, nothing remains and the next upload succeeds", arguments: [ENOSPC, EIO])
    func uploadFaults(number: Int32) async throws {
        let system = FaultySystem(number: number)
        try await StoreFixture.with(system: system) { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            )
            var failures = 0
            while true {
                system.fail(after: failures)
                do {
                    try await fixture.upload(Array("the bytes".utf8), to: package.id)
                    break
                } catch let error as NodeError {
                    #expect(error.code == (number == ENOSPC ? .storageFull : .internalError))
                    #expect(error.message.contains("'fw 1'"))
                }
                system.fail(after: nil)
                #expect(try fixture.packageFiles() == [], "after failure \(failures)")
                #expect(try await fixture.store.findOtaPackageById(package.id) == package)
                #expect(try await fixture.store.check() == [])
                failures += 1
            }
            system.fail(after: nil)
            // Making the file, writing, syncing, naming, syncing the folder.
            #expect(failures == 5)
            #expect(try await fixture.store.package(package.id)?.package.hasData == true)
        }
    }

    @Test("a write that fails undoes its own changes and no others in the same transaction", arguments: [false, true])
    func writesApart(repeatable: Bool) async throws {
        try await StoreFixture.with { fixture in
            struct Mine: Error {}
            let store = fixture.store
            let results = await withTaskGroup(of: Bool.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        do {
                            try await store.write(repeatable: repeatable) { db, _ in
                                try db.run(
                                    "INSERT INTO message_queue (queue, message) VALUES (?, '{}')",
                                    ["s\(number)"]
                                )
                                if number % 3 == 0 { throw Mine() }
                            }
                            return true
                        } catch {
                            return false
                        }
                    }
                }
                return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(results == 133)
            let count = try await store.read { db in try db.integer("SELECT count(*) FROM message_queue") }
            #expect(count == 133)
        }
    }

    /// Holds the writer back until all these writes wait for it, so that they meet in one transaction where they may.
    private static func together(
        _ store: SQLiteStore,
        _ writes: [@Sendable (Database) throws -> Void]
    ) async throws -> [NodeError?] {
        let gate = DispatchSemaphore(value: 0)
        store.writer.writeLater { _, _ in gate.wait() }
        let begun = writes.map { write in store.writer.begin { db, _ in try write(db) } }
        gate.signal()
        var errors: [NodeError?] = []
        for write in begun {
            do {
                try await write.stored()
                errors.append(nil)
            } catch {
                errors.append(NodeError(wrapping: error))
            }
        }
        return errors
    }

    @Test("writes are run once, and once more only if one among them failed half")
    func repeated() async throws {
        try await StoreFixture.with { fixture in
            let runs = Runs()
            func write(_ name: String, failing code: NodeError.Code? = nil, half: Bool = false)
                -> @Sendable (Database)
                throws -> Void
            {
                { db in
                    runs.add(name)
                    if let code, !half { throw NodeError(code, name) }
                    try db.run("INSERT INTO message_queue (queue, message) VALUES (?, '{}')", [name])
                    if let code { throw NodeError(code, name) }
                }
            }
            let first = try await Self.together(
                fixture.store,
                [write("a"), write("b", failing: .notFound), write("c")]
            )
            #expect(first.map { $0?.code } == [nil, .notFound, nil])
            #expect(runs.take() == ["a", "b", "c"])
            let second = try await Self.together(
                fixture.store,
                [write("d"), write("e", failing: .conflict, half: true), write("f")]
            )
            #expect(second.map { $0?.code } == [nil, .conflict, nil])
            #expect(runs.take() == ["d", "e", "d", "e", "f"])
            let names = try await fixture.store.read { db in
                try db.rows("SELECT queue AS name FROM message_queue ORDER BY queue").map { $0["name"] as String }
            }
            #expect(names == ["a", "c", "d", "f"])
        }
    }

    /// Notes which writes were run, in order.
    private final class Runs: Sendable {
        private let names = Mutex<[String]>([])
        func add(_ name: String) { self.names.withLock { $0.append(name) } }
        func take() -> [String] {
            self.names.withLock { names in
                defer { names = [] }
                return names
            }
        }
    }

    @Test("a folder that cannot be made, one in use, and files that are not ours are named in the error")
    func opening() async throws {
        try await StoreFixture.withFolder { folder in
            try Data("x".utf8).write(to: URL(filePath: "\(folder)/file"))
            await Self.expectOpening("\(folder)/file/data", fails: .unavailable, with: "could not make the data folder")

            let first = try await SQLiteStore.open(directory: "\(folder)/a", sessions: DeviceSessions())
            await Self.expectOpening("\(folder)/a", fails: .conflict, with: "another process has it open")
            await first.close()
            let again = try await SQLiteStore.open(directory: "\(folder)/a", sessions: DeviceSessions())
            try await again.write { db, _ in try db.run("INSERT INTO grdb_migrations VALUES ('99')") }
            await again.close()
            await again.close()
            await Self.expectOpening("\(folder)/a", fails: .conflict, with: "a newer version of Windlass made it")

            try FileManager.default.createDirectory(atPath: "\(folder)/b", withIntermediateDirectories: true)
            try Data(repeating: 0x41, count: 5000).write(to: URL(filePath: "\(folder)/b/windlass.sqlite"))
            await Self.expectOpening("\(folder)/b", fails: .conflict, with: "the file is not a database")
        }
    }

    private static func expectOpening(_ folder: String, fails code: NodeError.Code, with text: String) async {
        do {
            let store = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            Issue.record("it opened")
            await store.close()
        } catch let error as NodeError {
            #expect(error.code == code)
            #expect(error.message.contains(text), "\(error.message)")
            #expect(error.message.contains(folder))
        } catch {
            Issue.record("not a NodeError: \(error)")
        }
    }

    @Test("a closed store refuses, and does not wait for ever")
    func closed() async throws {
        try await StoreFixture.withFolder { folder in
            let store = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            await store.close()
            do {
                _ = try await store.saveDeviceProfile(DeviceProfile(name: "x"))
                Issue.record("it was saved")
            } catch let error as NodeError {
                #expect(error.code == .unavailable)
            }
            do {
                _ = try await store.findDeviceById(.random())
                Issue.record("it was read")
            } catch let error as NodeError {
                #expect(error.code == .unavailable)
            }
        }
    }

    @Test("what uploads left that were cut off is removed when the store opens, and nothing else", .bug(id: "D2.1"))
    func leftovers() async throws {
        try await StoreFixture.withFolder { folder in
            let first = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            _ = try await first.saveOtaPackage(
                OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "1", url: "http://a/b")
            )
            await first.close()
            let orphan = String(repeating: "a1", count: 32)
            for name in ["upload-1234.part", orphan, "README"] {
                try Data("x".utf8).write(to: URL(filePath: "\(folder)/packages/\(name)"))
            }
            let second = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: "\(folder)/packages").sorted() == [
                    "README", orphan,
                ]
            )
            await second.close()
        }
    }

    @Test("the check finds files that are missing, cut, changed or nobody's")
    func check() async throws {
        try await StoreFixture.withFolder { folder in
            let store = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            let package = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "1")
            )
            let upload = try await store.upload(to: package.id)
            try await upload.write(ByteBuffer(string: "bytes"))
            let sha256 = try await upload.finish(fileName: "f", contentType: "t", algorithm: .crc32, checksum: nil)
                .sha256
            let file = URL(filePath: "\(folder)/packages/\(try #require(sha256))")
            #expect(try await store.check() == [])
            try Data("BYTES".utf8).write(to: file)
            #expect(try await store.check() == ["the bytes of the package 'fw 1' do not have its checksum"])
            try Data("byte".utf8).write(to: file)
            #expect(try await store.check() == ["the package 'fw 1' has 4 bytes, not 5"])
            try FileManager.default.moveItem(atPath: file.path, toPath: "\(folder)/packages/other")
            #expect(
                try await store.check() == [
                    "the bytes of the package 'fw 1' are missing", "the file 'other' belongs to no package",
                ]
            )
            do {
                _ = try await store.package(package.id)
                Issue.record("it was opened")
            } catch let error as NodeError {
                #expect(error.code == .internalError)
            }
            await store.close()
        }
    }

    @Test("a file that is shorter than it should be is an error, not fewer bytes")
    func shortFile() async throws {
        try await StoreFixture.withFolder { folder in
            try Data("12345".utf8).write(to: URL(filePath: "\(folder)/f"))
            let content = try FileContent(path: "\(folder)/f", size: 10, system: POSIXFileSystem())
            #expect(try await String(buffer: content.read(1..<5)) == "2345")
            #expect(content.readAtOnce(1..<5).map { String(buffer: $0) } == "2345")
            await #expect(throws: NodeError.self) { _ = try await content.read(1..<6) }
            for range in [1..<6, -1..<2, 9..<11] as [Range<Int64>] { #expect(content.readAtOnce(range) == nil) }
        }
    }
}

/// Files of which the Nth operation that changes something fails.
final class FaultySystem: FileSystem {
    private let real = POSIXFileSystem()
    private let number: Int32
    private let remaining = Mutex<Int?>(nil)
    private let keepsFiles = Mutex(false)

    init(number: Int32) { self.number = number }

    /// Lets nothing be removed from now on, as if the process ended before.
    func keepFiles() { self.keepsFiles.withLock { $0 = true } }

    /// Lets this many operations succeed and the next fail; `nil` for no failure.
    func fail(after count: Int?) { self.remaining.withLock { $0 = count } }

    private func step(_ call: String) throws {
        let fails = self.remaining.withLock { remaining in
            guard let count = remaining else { return false }
            remaining = count > 0 ? count - 1 : nil
            return count == 0
        }
        if fails { throw SystemError(call: call, number: self.number) }
    }

    func create(_ path: String, mode: mode_t) throws -> Int32 {
        try self.step("create")
        return try self.real.create(path, mode: mode)
    }

    func open(_ path: String) throws -> Int32 { try self.real.open(path) }

    func write(_ bytes: UnsafeRawBufferPointer, to file: Int32) throws {
        // A disk that gets full takes a part first.
        try self.real.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(bytes.count / 2)), to: file)
        try self.step("write")
        try self.real.write(UnsafeRawBufferPointer(rebasing: bytes.dropFirst(bytes.count / 2)), to: file)
    }

    func sync(_ file: Int32) throws {
        try self.step("fsync")
        try self.real.sync(file)
    }

    func syncDirectory(_ path: String) throws {
        try self.step("fsync")
        try self.real.syncDirectory(path)
    }

    func rename(_ old: String, to new: String) throws {
        try self.step("rename")
        try self.real.rename(old, to: new)
    }

    func remove(_ path: String) throws {
        if self.keepsFiles.withLock({ $0 }) { throw SystemError(call: "unlink", number: self.number) }
        try self.real.remove(path)
    }
    func size(_ path: String) throws -> Int64? { try self.real.size(path) }
    func names(in path: String) throws -> [String] { try self.real.names(in: path) }
    func allocate(_ bytes: Int64, for file: Int32) throws { try self.real.allocate(bytes, for: file) }
    func freeBytes(in path: String) -> Int64? { self.real.freeBytes(in: path) }
}
