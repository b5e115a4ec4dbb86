import FoundationEssentials
import GRDB
import NodeKit
import OTA
import Testing

@testable import Store

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The keys that sign logins and download links: in a file of their own, and nowhere else.
@Suite struct SigningKeyTests {
    private static let tokens: [UInt8] = Array("TOKENS-KEY-0123456789-0123456789-0123456789-0123456789-0123456789".utf8)
    private static let links: [UInt8] = Array("LINKS-KEY-0123456789-0123456789-".utf8)

    private static func open(
        _ folder: String,
        keyFile: String? = nil,
        logger: CapturedLog = CapturedLog(),
        system: any FileSystem = POSIXFileSystem()
    ) async throws -> SQLiteStore {
        var options = SQLiteStore.Options()
        options.signingKeyFile = keyFile
        return try await SQLiteStore.open(
            directory: folder,
            sessions: DeviceSessions(),
            options: options,
            logger: logger.logger,
            system: system
        )
    }

    /// Makes a database as the version before the file of keys did, and leaves the keys in its log, as a host does that is killed.
    private static func makeOld(_ folder: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let pool = try DatabasePool(path: "\(folder)/old.sqlite")
        try Schema.migrator.migrate(pool, upTo: "7")
        try pool.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
        try pool.write { db in
            try db.run("INSERT INTO secret VALUES ('management-tokens', ?)", [Data(Self.tokens)])
            try db.run("INSERT INTO secret VALUES ('download-links', ?)", [Data(Self.links)])
        }
        for suffix in ["", "-wal"] {
            try FileManager.default.copyItem(
                atPath: "\(folder)/old.sqlite\(suffix)",
                toPath: "\(folder)/windlass.sqlite\(suffix)"
            )
        }
        try pool.close()
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name.hasPrefix("old.") {
            try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
        }
    }

    /// The files of a folder whose bytes hold a key.
    private static func files(in folder: String, holding key: [UInt8]) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: folder).filter { name in
            guard let bytes = FileManager.default.contents(atPath: "\(folder)/\(name)") else { return false }
            return bytes.firstRange(of: key) != nil
        }.sorted()
    }

    private static func expectKeys(_ store: SQLiteStore) async throws {
        #expect(try await store.secret(named: "management-tokens", count: 64) == Self.tokens)
        #expect(try await store.secret(named: "download-links", count: 32) == Self.links)
    }

    @Test(
        "keys of an earlier version move from the database into their file unchanged, and no byte of them stays behind",
        .bug(id: "D2.2"),
        arguments: [false, true]
    )
    func moved(isInLog: Bool) async throws {
        try await StoreFixture.withFolder { root in
            let folder = "\(root)/data"
            try Self.makeOld(folder)
            if !isInLog {
                let pool = try DatabasePool(path: "\(folder)/windlass.sqlite")
                try await pool.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
                try pool.close()
            }
            let before = isInLog ? ["windlass.sqlite-wal"] : ["windlass.sqlite"]
            #expect(try Self.files(in: folder, holding: Self.tokens) == before)
            let store = try await Self.open(folder)
            // Not only when the host ends: it may be killed.
            #expect(try Self.files(in: folder, holding: Self.tokens) == [])
            #expect(try Self.files(in: folder, holding: Self.links) == [])
            try await Self.expectKeys(store)
            await store.close()
            #expect(DataFolder.mode(of: "\(folder)/\(SigningKeys.fileName)") == 0o600)
            let again = try await Self.open(folder)
            try await Self.expectKeys(again)
            let other = try await again.secret(named: "other", count: 20)
            #expect(other.count == 20)
            await again.close()
            #expect(try Self.files(in: folder, holding: other) == [])
        }
    }

    @Test("whichever step of moving the keys fails, the next start has them unchanged", .bug(id: "D2.2"))
    func movingFails() async throws {
        try await StoreFixture.withFolder { root in
            var failures = 0
            while true {
                let folder = "\(root)/\(failures)"
                try Self.makeOld(folder)
                let system = FaultySystem(number: EIO)
                // The first thing that is made is the file of keys, as the database is there.
                system.fail(after: failures)
                do {
                    await (try await Self.open(folder, system: system)).close()
                    break
                } catch let error as NodeError {
                    #expect(error.message.contains("could not store the signing keys"))
                }
                let store = try await Self.open(folder)
                try await Self.expectKeys(store)
                await store.close()
                #expect(try Self.files(in: folder, holding: Self.tokens) == [])
                failures += 1
            }
            // Making the file, writing, syncing, naming, syncing the folder.
            #expect(failures == 5)
        }
    }

    @Test(
        "a start that was cut off when the keys were in the file, and not yet gone here, does the rest",
        .bug(id: "D2.2")
    )
    func movedHalf() async throws {
        try await StoreFixture.withFolder { root in
            let folder = "\(root)/data"
            try Self.makeOld(folder)
            let keys = try SigningKeys(
                in: DataFolder(path: folder),
                givenFile: nil,
                system: POSIXFileSystem(),
                logger: SQLiteStore.silent
            )
            try keys.adding(["management-tokens": Self.tokens, "download-links": Self.links])
            let store = try await Self.open(folder)
            try await Self.expectKeys(store)
            #expect(try Self.files(in: folder, holding: Self.tokens) == [])
            await store.close()
        }
    }

    @Test(
        "a file of keys that cannot be read stops the start, and no key is made anew",
        .bug(id: "D2.2"),
        arguments: [
            "", "{}", "[1]", #"{"a":1}"#, #"{"a":"%"}"#, #"{"a":""}"#, "{", String(repeating: " ", count: 70_000),
        ]
    )
    func damaged(text: String) async throws {
        try await StoreFixture.withFolder { root in
            let folder = "\(root)/data"
            await (try await Self.open(folder)).close()
            let file = "\(folder)/\(SigningKeys.fileName)"
            try Data(text.utf8).write(to: URL(filePath: file))
            do {
                await (try await Self.open(folder)).close()
                Issue.record("it opened")
            } catch let error as NodeError {
                #expect(error.code == .conflict)
                #expect(error.message.contains("could not read the signing keys '\(file)'"))
                #expect(error.message.contains("everyone has to log in again"))
            }
            #expect(try Data(contentsOf: URL(filePath: file)) == Data(text.utf8))
        }
    }

    @Test(
        "of a key that is given all others are derived, the same after each start, and none is on the disk",
        .bug(id: "D2.2")
    )
    func given() async throws {
        try await StoreFixture.withFolder { root in
            let (folder, file) = ("\(root)/data", "\(root)/key")
            let key = String(repeating: "k", count: 32)
            var secrets: [[UInt8]] = []
            for end in ["", "\n", "\r\n"] {
                try Data((key + end).utf8).write(to: URL(filePath: file))
                _ = chmod(file, 0o600)
                let log = CapturedLog()
                let store = try await Self.open(folder, keyFile: file, logger: log)
                secrets.append(try await store.secret(named: "management-tokens", count: 64))
                secrets.append(try await store.secret(named: "download-links", count: 64))
                await store.close()
                #expect(log.lines == [])
            }
            #expect(Set(secrets).count == 2)
            #expect(secrets.allSatisfy { $0.count == 64 })
            #expect(!FileManager.default.fileExists(atPath: "\(folder)/\(SigningKeys.fileName)"))
            for secret in secrets { #expect(try Self.files(in: folder, holding: secret) == []) }
            _ = chmod(file, 0o644)
            let log = CapturedLog()
            await (try await Self.open(folder, keyFile: file, logger: log)).close()
            #expect(log.lines.count { $0.contains("can be read by every user") } == 1)
        }
    }

    @Test(
        "a given key that is missing, too short or too long is refused with what would do",
        .bug(id: "D2.2"),
        arguments: [
            (nil, "could not read the key"), (31, "has 31 bytes"), (32, nil), (4096, nil), (4097, "has 4097 bytes"),
        ]
            as [(Int?, String?)]
    )
    func givenLimits(count: Int?, refusal: String?) async throws {
        try await StoreFixture.withFolder { root in
            if let count { try Data(repeating: 0x41, count: count).write(to: URL(filePath: "\(root)/key")) }
            do {
                await (try await Self.open("\(root)/data", keyFile: "\(root)/key")).close()
                #expect(refusal == nil)
            } catch let error as NodeError {
                #expect(error.message.contains(refusal ?? "nothing"), "\(error.message)")
            }
        }
    }
}
