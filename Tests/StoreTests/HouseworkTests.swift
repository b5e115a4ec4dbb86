import FoundationEssentials
import GRDB
import NodeKit
import OTA
import Testing

@testable import Store

/// What the store does by itself while its database cannot be written.
@Suite struct HouseworkTests {
    private static let failure = "the store could not do its own work and tries again"
    private static let success = "the store works again"

    /// Refuses to change update records until it is dropped.
    private static let refusing = """
        CREATE TRIGGER refused BEFORE UPDATE ON update_record BEGIN SELECT RAISE(ABORT, 'no room'); END
        """

    /// Runs the store's own work once.
    private static func runOnce(_ store: SQLiteStore) async {
        let running = Task { await store.run() }
        running.cancel()
        await running.value
    }

    @Test("work that fails is said once in the log until it works again, each kind apart", .bug(id: "D2.4"))
    func log() async {
        let log = CapturedLog()
        let housework = Housework(log.logger)
        let error = NodeError(.storageFull, "full")
        for _ in 0..<3 {
            let result: Int? = await housework.attempt(.progress) { throw error }
            #expect(result == nil)
        }
        await housework.attempt(.audit) { throw error }
        await housework.attempt(.clock) { throw CancellationError() }
        #expect(log.lines == [Self.failure, Self.failure])
        for _ in 0..<2 {
            let result = await housework.attempt(.progress) { 7 }
            #expect(result == 7)
        }
        await housework.attempt(.progress) { throw error }
        #expect(log.lines == [Self.failure, Self.failure, Self.success, Self.failure])
    }

    @Test("a write of the store's own that fails ends nothing, and is made up for", .bug(id: "D2.4"))
    func goesOn() async throws {
        try await StoreFixture.withFolder { folder in
            let log = CapturedLog()
            let store = try await SQLiteStore.open(
                directory: "\(folder)/data",
                sessions: DeviceSessions(),
                logger: log.logger
            )
            try await store.write { db, _ in
                try db.run(
                    "CREATE TRIGGER refused BEFORE DELETE ON audit_log BEGIN SELECT RAISE(ABORT, 'no room'); END"
                )
                try db.run(
                    """
                    INSERT INTO audit_log (id, tenant_id, created_time, action, data)
                    VALUES (randomblob(16), ?, 0, 'ADDED', '{}')
                    """,
                    [TenantId.main.uuid]
                )
            }
            let keeping = Task { await store.run() }
            while log.lines != [Self.failure] { await Task.yield() }
            keeping.cancel()
            await keeping.value
            try await store.write { db, _ in try db.run("DROP TRIGGER refused") }
            let again = Task { await store.run() }
            while log.lines != [Self.failure, Self.success] { await Task.yield() }
            again.cancel()
            await again.value
            await store.close()
        }
    }

    @Test(
        "a host starts although what was served before cannot be stored, and stores it when it can",
        .bug(id: "D2.4")
    )
    func start() async throws {
        try await StoreFixture.withFolder { folder in
            let log = CapturedLog()
            func open() async throws -> SQLiteStore {
                try await SQLiteStore.open(directory: "\(folder)/data", sessions: DeviceSessions(), logger: log.logger)
            }
            let before = try await open()
            let profile = try await before.saveDeviceProfile(DeviceProfile(name: "p"))
            let package = try await before.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "t", version: "1", url: "http://x")
            )
            let device = try await before.saveDevice(
                Device(name: "d", deviceProfileId: profile.id, firmwareId: package.id),
                accessToken: nil
            )
            try await before.write { db, _ in try db.run("UPDATE ota_package SET data_size = 100") }
            try await before.write { db, _ in try db.run(Self.refusing) }
            await before.close()
            do {
                let journal = try ServedJournal(path: DataFolder(path: "\(folder)/data").served)
                _ = journal.append(
                    ServedJournal.Entry(
                        device: device.id,
                        type: .firmware,
                        package: package.id,
                        range: 0..<50,
                        time: Timestamp(milliseconds: .max)
                    )
                )
            }
            let store = try await open()
            #expect(log.lines == [Self.failure])
            try await store.write { db, _ in try db.run("DROP TRIGGER refused") }
            await Self.runOnce(store)
            #expect(log.lines.contains(Self.success))
            #expect(try await store.updateRecord(of: device.id, type: .firmware)?.progress == 50)
            await store.close()
        }
    }
}
