import Dispatch
import FoundationEssentials
import GRDB
import NodeKit
import OTA
import Synchronization
import Testing

@testable import Store

/// Another program that has the database locked, such as one that makes a copy of it.
@Suite struct LockTests {
    /// A connection of another program.
    private final class OtherProgram: Sendable {
        let database: DatabaseQueue

        init(_ folder: String) throws {
            var configuration = GRDB.Configuration()
            configuration.allowsUnsafeTransactions = true
            self.database = try DatabaseQueue(path: "\(folder)/windlass.sqlite", configuration: configuration)
        }

        func lock(_ kind: String) throws {
            try self.database.writeWithoutTransaction { db in try db.execute(sql: "BEGIN \(kind)") }
        }

        func unlock() throws {
            try self.database.writeWithoutTransaction { db in try db.execute(sql: "COMMIT") }
        }
    }

    private static func options(lockTimeMax: Duration) -> SQLiteStore.Options {
        var options = SQLiteStore.Options()
        options.lockTimeMax = lockTimeMax
        return options
    }

    @Test(
        "the store waits longer than another program may lock its database, and takes in what a fleet reports meanwhile",
        .bug(id: "D2.3")
    )
    func limits() {
        #expect(LockWait.timeMax > .seconds(5))
        #expect(SQLiteStore.Options().lockTimeMax == LockWait.timeMax)
        // 10,000 reports a second for 5 s, and as many again while they are stored.
        #expect(GroupCommitWriter.waitingMax >= 2 * 5 * 10_000)
        let wait = LockWait(.milliseconds(20))
        for tries in 0..<4 { #expect(wait.wait(tries: tries)) }
        #expect(!wait.wait(tries: 4))
        wait.end()
        #expect(!wait.wait(tries: 0))
    }

    @Test(
        "what devices report while another program has the database locked is stored when the lock goes, and none is refused",
        .bug(id: "D2.3"),
        arguments: ["IMMEDIATE", "EXCLUSIVE"]
    )
    func delayed(kind: String) async throws {
        // As long as it takes: that the wait is long enough in real life is the limit's to say.
        try await StoreFixture.with(options: Self.options(lockTimeMax: .seconds(600))) { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: try await fixture.profile().id)
            let other = try OtherProgram(fixture.directory)
            try other.lock(kind)
            let count = 20_000
            let reports = try (0..<count).map { number in
                let point = TelemetryPoint(
                    timestamp: Timestamp(milliseconds: Int64(number)),
                    values: ["n": .integer(Int64(number))]
                )
                return try store.beginSavingTimeseries(of: device.id, [point], at: fixture.clock.now)
            }
            async let attribute: Void = store.saveAttributes(
                of: device.id,
                scope: .client,
                ["a": 1],
                at: Timestamp(milliseconds: 1)
            )
            async let profile = store.saveDeviceProfile(DeviceProfile(name: "meanwhile"))
            // Who reads is not held up.
            #expect(try await store.findDeviceById(device.id) != nil)
            // All but those whose transaction waits for the lock.
            while store.writer.waitingCount < count - GroupCommitWriter.batchMax { await Task.yield() }
            #expect(try await store.latestTimeseries(of: device.id, keys: nil) == [])
            try other.unlock()
            for report in reports { try await report.stored() }
            try await attribute
            _ = try await profile
            let stored = try await store.read { db in try db.integer("SELECT count(*) FROM ts WHERE key = 'n'") }
            #expect(stored == Int64(count))
            try other.database.close()
        }
    }

    @Test(
        "a lock that lasts too long refuses the writes that waited for it, with the cause, and no later one",
        .bug(id: "D2.3")
    )
    func tooLong() async throws {
        try await StoreFixture.with(options: Self.options(lockTimeMax: .milliseconds(50))) { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: try await fixture.profile().id)
            let other = try OtherProgram(fixture.directory)
            try other.lock("EXCLUSIVE")
            let reports = try (0..<100).map { number in
                try store.beginSavingTimeseries(
                    of: device.id,
                    [TelemetryPoint(timestamp: Timestamp(milliseconds: Int64(number)), values: ["n": 1])],
                    at: fixture.clock.now
                )
            }
            for report in reports {
                let error = await #expect(throws: NodeError.self) { try await report.stored() }
                #expect(error?.code == .unavailable)
                #expect(error?.message.contains("another program keeps the database locked") == true)
            }
            #expect(store.writer.waitingCount == 0)
            try other.unlock()
            let point = TelemetryPoint(timestamp: Timestamp(milliseconds: 1), values: ["n": 2])
            try await store.saveTimeseries(of: device.id, [point], at: fixture.clock.now)
            let stored = try await store.read { db in try db.integer("SELECT count(*) FROM ts WHERE key = 'n'") }
            #expect(stored == 1)
            try other.database.close()
        }
    }

    @Test("of those who wait, only they are refused who waited as long as the lock may last", .bug(id: "D2.3"))
    func firstOnly() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            // Two pauses, each as long as the test makes it.
            let (pausing, proceed) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
            let wait = LockWait(LockWait.interval * 2) {
                pausing.signal()
                proceed.wait()
            }
            var configuration = GRDB.Configuration()
            configuration.busyMode = .callback { wait.wait(tries: $0) }
            let pool = try DatabasePool(path: "\(fixture.directory)/windlass.sqlite", configuration: configuration)
            let writer = GroupCommitWriter(
                database: pool,
                applier: store.applier,
                lockWait: wait,
                now: store.now
            )
            func write(_ name: String) -> PendingWrite {
                writer.begin { db, _ in
                    try db.run("INSERT INTO message_queue (queue, message) VALUES (?, '{}')", [name])
                }
            }
            let other = try OtherProgram(fixture.directory)
            try other.lock("EXCLUSIVE")
            let first = write("first")
            await Self.wait(for: pausing)
            let second = write("second")
            proceed.signal()
            await Self.wait(for: pausing)
            proceed.signal()
            await #expect(throws: NodeError.self) { try await first.stored() }
            await Self.wait(for: pausing)
            try other.unlock()
            proceed.signal()
            try await second.stored()
            let names = try await store.read { db in try String.fetchAll(db, sql: "SELECT queue FROM message_queue") }
            #expect(names == ["second"])
            await writer.close()
            try pool.close()
            try other.database.close()
        }
    }

    private static func wait(for semaphore: DispatchSemaphore) async {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                semaphore.wait()
                continuation.resume()
            }
        }
    }

    @Test("a start waits for another program, and says which file is locked if it takes too long", .bug(id: "D2.3"))
    func start() async throws {
        try await StoreFixture.withFolder { folder in
            await (try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())).close()
            let other = try OtherProgram(folder)
            try other.lock("IMMEDIATE")
            // Something is to be written at this start.
            try await other.database.writeWithoutTransaction { db in
                try db.execute(sql: "DELETE FROM device_profile")
            }
            let error = await #expect(throws: NodeError.self) {
                try await SQLiteStore.open(
                    directory: folder,
                    sessions: DeviceSessions(),
                    options: Self.options(lockTimeMax: .milliseconds(20))
                ).close()
            }
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("another program keeps the database locked") == true)
            try other.unlock()
            try other.lock("IMMEDIATE")
            async let opened = SQLiteStore.open(
                directory: folder,
                sessions: DeviceSessions(),
                options: Self.options(lockTimeMax: .seconds(600))
            )
            try other.unlock()
            let store = try await opened
            #expect(try await store.defaultDeviceProfile(of: .main).isDefault)
            await store.close()
            try other.database.close()
        }
    }
}
