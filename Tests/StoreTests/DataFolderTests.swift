import FoundationEssentials
import GRDB
import Logging
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

/// The folder that a store is in: what is removed from it, and who may read it.
@Suite struct DataFolderTests {
    /// A folder with the store of a host, closed.
    private struct Installation {
        let path: String

        /// Makes a store with packages, each of the bytes of its title.
        init(_ path: String, packages titles: [String]) async throws {
            self.path = path
            let store = try await self.open()
            for title in titles { _ = try await Self.upload(title, to: store) }
            await store.close()
        }

        static func upload(_ title: String, to store: SQLiteStore) async throws -> OtaPackage {
            let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: title, version: "1")
            let upload = try await store.upload(creating: package)
            try await upload.write(ByteBuffer(string: title))
            return try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
        }

        func open(
            options: SQLiteStore.Options = SQLiteStore.Options(),
            logger: Logger = SQLiteStore.silent,
            system: any FileSystem = POSIXFileSystem()
        ) async throws -> SQLiteStore {
            try await SQLiteStore.open(
                directory: self.path,
                sessions: DeviceSessions(),
                options: options,
                logger: logger,
                system: system
            )
        }

        var files: [String] {
            get throws { try FileManager.default.contentsOfDirectory(atPath: "\(self.path)/packages").sorted() }
        }

        var names: [String] {
            get throws { try FileManager.default.contentsOfDirectory(atPath: self.path).sorted() }
        }

        func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: "\(self.path)/\(name)") }

        /// Puts the database of another installation in the place of this one's.
        func takeDatabase(of other: Installation) throws {
            try self.remove("windlass.sqlite")
            try FileManager.default.copyItem(
                atPath: "\(other.path)/windlass.sqlite",
                toPath: "\(self.path)/windlass.sqlite"
            )
        }

        /// What the store says when it does not open.
        func refusal() async throws -> NodeError? {
            do {
                await (try await self.open()).close()
                return nil
            } catch let error as NodeError {
                return error
            }
        }

        func examine(repair: Bool = false) async throws -> StoreDoctor.Report {
            try await StoreDoctor(directory: self.path).examine(repair: repair)
        }
    }

    // MARK: What is removed

    @Test(
        "without its database, a folder with packages is refused with what to do, and stays as it is",
        .bug(id: "D2.1")
    )
    func missing() async throws {
        try await StoreFixture.withFolder { folder in
            let host = try await Installation("\(folder)/a", packages: ["one", "two"])
            let files = try host.files
            try host.remove("windlass.sqlite")
            let names = try host.names
            let error = try #require(try await host.refusal())
            #expect(error.code == .conflict)
            #expect(error.message.contains("put the database back that belongs to them"))
            #expect(error.message.contains("the bytes of 2 packages"))
            #expect(error.message.contains("move '\(host.path)/packages' away"))
            #expect(try host.files == files)
            await #expect(throws: NodeError.self) { _ = try await host.examine(repair: true) }
            #expect(try host.files == files)
            #expect(try host.names == names, "a database was made that would be in the way of the right one")
            // An empty file is what a full disk leaves of a database that was about to be made.
            try Data().write(to: URL(filePath: "\(host.path)/windlass.sqlite"))
            #expect(try await host.refusal()?.code == .conflict)
            #expect(try host.files == files)
            // What the sentence says helps.
            try FileManager.default.moveItem(atPath: "\(host.path)/packages", toPath: "\(folder)/away")
            #expect(try await host.refusal() == nil)
        }
    }

    @Test(
        "a database that knows no package is refused beside the packages of another, and is not changed",
        .bug(id: "D2.1")
    )
    func foreign() async throws {
        try await StoreFixture.withFolder { folder in
            let host = try await Installation("\(folder)/a", packages: ["one"])
            let other = try await Installation("\(folder)/b", packages: [])
            let files = try host.files
            // Also one of an earlier version, which stays what it is.
            try host.remove("windlass.sqlite")
            let old = try DatabasePool(path: "\(host.path)/windlass.sqlite")
            try Schema.migrator.migrate(old, upTo: "7")
            #expect(try await host.refusal()?.code == .conflict)
            let steps = try await old.read { db in
                try String.fetchAll(db, sql: "SELECT identifier FROM grdb_migrations")
            }
            #expect(steps.max() == "7")
            try old.close()
            try host.remove("windlass.sqlite")
            for name in try host.names where name.hasPrefix("windlass.sqlite-") { try host.remove(name) }
            try Data().write(to: URL(filePath: "\(host.path)/windlass.sqlite"))
            try host.takeDatabase(of: other)
            #expect(try await host.refusal()?.code == .conflict)
            #expect(try host.files == files)
            let log = FileManager.default.contents(atPath: "\(host.path)/windlass.sqlite-wal") ?? Data()
            #expect(log.isEmpty, "SQLite would take it for the log of the database that is put back")
            let report = try await host.examine(repair: true)
            #expect(report.findings.map(\.code) == [.orphan])
            #expect(report.findings.allSatisfy { $0.remedy.contains("put the database back") })
            #expect(report.repaired == [])
            #expect(try host.files == files)
        }
    }

    @Test("beside the database of another host no file is removed, neither at start nor by a repair", .bug(id: "D2.1"))
    func foreignWithPackages() async throws {
        try await StoreFixture.withFolder { folder in
            let host = try await Installation("\(folder)/a", packages: ["one", "two"])
            let other = try await Installation("\(folder)/b", packages: ["three"])
            let files = try host.files
            try host.takeDatabase(of: other)
            let log = CapturedLog()
            let store = try await host.open(logger: log.logger)
            #expect(log.lines == ["files in the folder 'packages' belong to no package; see 'windlass doctor'"])
            await store.close()
            #expect(try host.files == files)
            let report = try await host.examine(repair: true)
            #expect(report.repaired == [])
            #expect(report.findings.map(\.code) == [.bytesMissing, .orphan, .orphan])
            #expect(try host.files == files)
        }
    }

    @Test(
        "a host that was cut off between a deletion and its file starts, and the file goes",
        .bug(id: "D2.1"),
        arguments: ["package", "profile"]
    )
    func deletionCutOff(what: String) async throws {
        try await StoreFixture.withFolder { folder in
            let host = try await Installation("\(folder)/a", packages: [])
            let system = FaultySystem(number: EIO)
            let store = try await host.open(system: system)
            let profile = try await store.saveDeviceProfile(DeviceProfile(name: "p"))
            let package = OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            let upload = try await store.upload(creating: package)
            try await upload.write(ByteBuffer(string: "bytes"))
            _ = try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
            system.keepFiles()
            if what == "package" {
                try await store.deleteOtaPackage(package.id)
            } else {
                try await store.deleteDeviceProfile(profile.id)
            }
            await store.close()
            #expect(try host.files.count == 1)
            let report = try await host.examine()
            #expect(report.findings.map(\.code) == [.orphan])
            #expect(report.findings.map(\.isRepairable) == [true])
            #expect(try await host.refusal() == nil)
            #expect(try host.files == [])
            #expect(try await host.examine().findings == [])
        }
    }

    @Test("a host that was cut off between a file and its row starts, and the file goes", .bug(id: "D2.1"))
    func uploadCutOff() async throws {
        try await StoreFixture.withFolder { folder in
            let host = try await Installation("\(folder)/a", packages: [])
            let store = try await host.open()
            // As far as an upload gets before its transaction: the file has its name, and is known as unused.
            let sha256 = String(repeating: "a1", count: 32)
            let bytes = try await store.storages.begin()
            try await bytes.append(ByteBuffer(string: "bytes"))
            try await store.noteUnused(sha256)
            try await bytes.finish(as: sha256)
            await store.close()
            #expect(try host.files == [sha256])
            #expect(try await host.refusal() == nil)
            #expect(try host.files == [])
        }
    }

    @Test("an upload that fails removes no file that was there before it", .bug(id: "D2.1"))
    func failedUpload() async throws {
        try await StoreFixture.with { fixture in
            let sha256 = try await fixture.package(bytes: Array("same".utf8)).sha256
            let name = try #require(sha256)
            // A row is missing, as in a database that was put back from before.
            try await fixture.store.write { db, _ in try db.run("DELETE FROM ota_package") }
            let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: "sw", version: "1")
            let first = try await fixture.store.upload(creating: package)
            let second = try await fixture.store.upload(creating: package)
            try await first.write(ByteBuffer(string: "first"))
            try await second.write(ByteBuffer(string: "second"))
            let third = try await fixture.store.upload(creating: package)
            try await third.write(ByteBuffer(string: "same"))
            _ = try await first.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
            for upload in [second, third] {
                await expectRefusal("OtaPackage with such title and version already exists!") {
                    _ = try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
                }
            }
            #expect(try fixture.packageFiles().count == 2)
            #expect(try fixture.packageFiles().contains(name))
            try FileManager.default.removeItem(atPath: "\(fixture.directory)/packages/\(name)")
        }
    }

    // MARK: Who may read it

    /// The modes of all that is in a folder, by path within it.
    private static func modes(_ folder: String) throws -> [String: mode_t] {
        var modes: [String: mode_t] = [".": DataFolder.mode(of: folder) ?? 0]
        for name in try FileManager.default.subpathsOfDirectory(atPath: folder) {
            modes[name] = DataFolder.mode(of: "\(folder)/\(name)") ?? 0
        }
        return modes
    }

    private static func expect(_ modes: [String: mode_t], folders: mode_t, files: mode_t, keys: mode_t = 0o600) {
        for (name, mode) in modes {
            let isFolder = [".", "packages"].contains(name)
            let wanted = isFolder ? folders : name == SigningKeys.fileName ? keys : files
            #expect(mode == wanted, "\(name) is \(String(mode, radix: 8))")
        }
    }

    @Test(
        "the folder and all that is in it belong to the host's user alone, or to its group, whatever the umask is",
        .bug(id: "D2.2"),
        arguments: [0, 0o22, 0o777] as [mode_t],
        [false, true]
    )
    func umask(mask: mode_t, isGroupReadable: Bool) async throws {
        try await StoreFixture.withFolder { folder in
            // In a process of its own, as the umask is the process's.
            await #expect(processExitsWith: .success) { [folder = folder as String, mask, isGroupReadable] in
                _ = Glibc.umask(mask)
                var options = SQLiteStore.Options()
                options.isGroupReadable = isGroupReadable
                let store = try await SQLiteStore.open(
                    directory: "\(folder)/data",
                    sessions: DeviceSessions(),
                    options: options
                )
                _ = try await store.secret(named: "key", count: 32)
                _ = try await Installation.upload("fw", to: store)
                let other = OtaPackage(deviceProfileId: nil, type: .firmware, title: "part", version: "1")
                let upload = try await store.upload(creating: other)
                let modes = try Self.modes("\(folder)/data")
                try Data(modes.keys.sorted().joined(separator: "\n").utf8).write(to: URL(filePath: "\(folder)/names"))
                let isRight = modes.allSatisfy { name, mode in
                    mode
                        == ([".", "packages"].contains(name)
                            ? isGroupReadable ? 0o750 : 0o700
                            : isGroupReadable && name != SigningKeys.fileName ? 0o640 : 0o600)
                }
                await upload.cancel()
                await store.close()
                exit(isRight ? 0 : 1)
            }
            _ = chmod("\(folder)/names", 0o600)
            let names = String(decoding: try Data(contentsOf: URL(filePath: "\(folder)/names")), as: UTF8.self)
            for name in ["-wal", "-shm", ".sqlite", ".lock", ".keys", ".reserve"] {
                #expect(names.contains("windlass\(name.hasPrefix("-") ? ".sqlite" : "")\(name)"), "\(names)")
            }
            #expect(names.split(separator: "\n").count { $0.hasPrefix("packages/") } == 2)
        }
    }

    @Test("a folder that is open to others is closed to them at start, and the log says so once", .bug(id: "D2.2"))
    func mended() async throws {
        try await StoreFixture.withFolder { folder in
            let host = try await Installation("\(folder)/a", packages: ["one"])
            for (name, mode) in try Self.modes(host.path) { _ = chmod("\(host.path)/\(name)", mode | 0o044) }
            // Files that are not the store's keep their mode; the folder is closed to those who may read them.
            try Data().write(to: URL(filePath: "\(host.path)/notes"))
            _ = chmod("\(host.path)/notes", 0o644)
            // Which group new files get is the operator's choice.
            _ = chmod(host.path, 0o2755)
            let log = CapturedLog()
            await (try await host.open(logger: log.logger)).close()
            #expect(log.lines.count == 1)
            #expect(log.lines.first?.contains("the data folder was open to other users and is not any more") == true)
            var modes = try Self.modes(host.path)
            #expect(modes.removeValue(forKey: "notes") == 0o644)
            #expect(modes.removeValue(forKey: ".") == 0o2700)
            Self.expect(modes, folders: 0o700, files: 0o600)

            // The group is let in by a setting and out again without it.
            var options = SQLiteStore.Options()
            options.isGroupReadable = true
            await (try await host.open(options: options, logger: log.logger)).close()
            #expect(log.lines.count == 1)
            #expect(try Self.modes(host.path)["windlass.sqlite"] == 0o640)
            await (try await host.open(logger: log.logger)).close()
            #expect(log.lines.count == 2)
            #expect(try Self.modes(host.path)["windlass.sqlite"] == 0o600)
        }
    }
}

/// What was logged.
final class CapturedLog: Sendable {
    private struct Handler: LogHandler {
        let log: CapturedLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { self.metadata[key] }
            set { self.metadata[key] = newValue }
        }

        func log(event: LogEvent) { self.log.messages.withLock { $0.append("\(event.message)") } }
    }

    private let messages = Mutex<[String]>([])

    /// The messages so far.
    var lines: [String] { self.messages.withLock { $0 } }

    /// Who writes here.
    var logger: Logger { Logger(label: "test") { _ in Handler(log: self) } }
}
