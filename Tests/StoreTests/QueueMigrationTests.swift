import FoundationEssentials
import GRDB
import NodeKit
import NodeTesting
import OTA
import StoreTesting
import Testing

@testable import Store

@Suite struct QueueMigrationTests {
    /// A row as version 12 stored it.
    private static func row(
        _ type: String,
        _ text: String,
        of device: UUID,
        at time: Int64,
        package: UUID? = nil
    ) -> String {
        var metadata: JSON.Object = ["text": .string(text)]
        if type.hasPrefix("PACKAGE_") { metadata["packageType"] = "FIRMWARE" }
        metadata["packageId"] = (package?.uuidString).map { .string($0.lowercased()) }
        return JSON.object([
            "originator": ["id": .string(device.uuidString), "name": "d", "type": "p"],
            "type": .string(type),
            "metadata": .object(metadata),
            "timestamp": .integer(time),
        ]).description
    }

    private struct Old {
        let profile = UUID.random()
        let packages = [UUID.random(), UUID.random()]
        let devices = [UUID.random(), UUID.random()]

        /// A database of version 12 with these rows in its queue, in order.
        func make(_ path: String, _ rows: [(queue: String, message: String)]) async throws {
            let database = try DatabaseQueue(path: path)
            try Schema.migrator.migrate(database, upTo: "12")
            try await database.write { db in
                try db.execute(
                    sql:
                        "INSERT INTO device_profile (id, created_time, tenant_id, name, is_default, settings) VALUES (?, 1, ?, 'p', 1, '{}')",
                    arguments: [self.profile, TenantId.main.uuid]
                )
                for (index, package) in self.packages.enumerated() {
                    try db.execute(
                        sql: """
                            INSERT INTO ota_package (id, created_time, tenant_id, device_profile_id, type, title, version, url)
                            VALUES (?, 1, ?, ?, 'FIRMWARE', 'fw', ?, 'http://x')
                            """,
                        arguments: [package, TenantId.main.uuid, self.profile, "\(index + 1)"]
                    )
                }
                for (index, device) in self.devices.enumerated() {
                    try db.execute(
                        sql: """
                            INSERT INTO device (no, id, created_time, tenant_id, name, device_profile_id, firmware_id,
                                followed_firmware) VALUES (?, ?, 1, ?, ?, ?, ?, ?)
                            """,
                        arguments: [
                            index + 1, device, TenantId.main.uuid, "d\(index)", self.profile, self.packages[1],
                            self.packages[1],
                        ]
                    )
                    try db.execute(
                        sql: """
                            INSERT INTO update_record (device, type, package_id, title, version, state, queued_time, active_time)
                            VALUES (?, 'FIRMWARE', ?, 'fw', '2', 'QUEUED', 5, 5)
                            """,
                        arguments: [index + 1, self.packages[1]]
                    )
                }
                for (queue, message) in rows {
                    try db.execute(
                        sql: "INSERT INTO message_queue (queue, message) VALUES (?, ?)",
                        arguments: [queue, message]
                    )
                }
            }
            try database.close()
        }
    }

    private static func withOld(
        _ rows: (Old) -> [(queue: String, message: String)],
        _ body: (SQLiteStore, Old) async throws -> Void
    ) async throws {
        try await StoreFixture.withFolder { folder in
            let old = Old()
            let path = "\(folder)/data"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try await old.make("\(path)/windlass.sqlite", rows(old))
            let store = try await SQLiteStore.open(directory: path, sessions: DeviceSessions())
            do {
                try await body(store, old)
            } catch {
                await store.close()
                throw error
            }
            await store.close()
        }
    }

    /// What a queue lets go, in order, each settled before the next.
    private static func drain(_ queue: any MessageQueue) async throws -> [WaitingMessage] {
        var all: [WaitingMessage] = []
        while let next = try await queue.due(at: .now, limit: 1, without: []).messages.first {
            all.append(next)
            try await queue.settle([SettledMessage(next)])
        }
        return all
    }

    private static func text(_ message: WaitingMessage) -> String { message.message.metadata.string("text") ?? "" }

    @Test(
        "of the assignments of a device that waited in version 12 the newest goes, in the place of the oldest",
        .bug(id: "Q9")
    )
    func assignments() async throws {
        try await Self.withOld { old in
            let (a, b) = (old.devices[0], old.devices[1])
            return [
                ("c/pace", Self.row("PACKAGE_ASSIGNED", "a1", of: a, at: 100, package: old.packages[0])),
                ("c/pace", Self.row("PACKAGE_ASSIGNED", "b2", of: b, at: 150, package: old.packages[1])),
                ("c/pace", Self.row("PACKAGE_UNASSIGNED", "a0", of: a, at: 200)),
                ("c/pace", Self.row("PACKAGE_ASSIGNED", "a2", of: a, at: 300, package: old.packages[1])),
                ("c/other", Self.row("PACKAGE_ASSIGNED", "a other", of: a, at: 50, package: old.packages[1])),
            ]
        } _: { store, old in
            let queue = store.queue(named: "c/pace")
            #expect(try await queue.count() == 2)
            let hold = try await store.updateRecord(of: DeviceId(old.devices[1]), type: .firmware)?.hold
            #expect(hold?.queue == "c/pace" && hold?.since == Timestamp(milliseconds: 150))
            let messages = try await Self.drain(queue)
            #expect(messages.map(Self.text) == ["a2", "b2"])
            #expect(messages.map(\.since.rawValue) == [100, 150])
            #expect(try await Self.drain(store.queue(named: "c/other")).map(Self.text) == ["a other"])
            // And their devices are notified by them.
            for message in messages {
                let id = try #require(message.message.metadata.string(MessageKey.packageId).flatMap(OtaPackageId.init))
                #expect(id.uuid == old.packages[1])
                #expect(
                    try await store.initiate(
                        id,
                        of: DeviceId(message.message.originator.id),
                        type: .firmware,
                        attributes: ["fw_title": "fw"],
                        obsolete: [],
                        generation: try #require(message.message.precedence).generation,
                        at: .now
                    )
                )
            }
        }
    }

    @Test("what is assigned after the start takes the place of what version 12 left", .bug(id: "Q9"))
    func followedBy() async throws {
        try await Self.withOld { old in
            [("c/pace", Self.row("PACKAGE_ASSIGNED", "a2", of: old.devices[0], at: 100, package: old.packages[1]))]
        } _: { store, old in
            var device = try #require(try await store.findDeviceById(DeviceId(old.devices[0])))
            device.firmwareId = OtaPackageId(old.packages[0])
            _ = try await store.saveDevice(device, accessToken: nil)
            let queue = store.queue(named: "c/pace")
            for waiting in try await store.waitingAssignments.due(at: .now, limit: 9, without: []).messages {
                try await queue.append(waiting.message, countMax: 9)
                try await store.waitingAssignments.settle([SettledMessage(waiting)])
            }
            let messages = try await Self.drain(queue)
            #expect(messages.count == 1)
            #expect(messages.first?.since.rawValue == 100)
            let package = messages.first?.message.metadata.string(MessageKey.packageId).flatMap(OtaPackageId.init)
            #expect(package?.uuid == old.packages[0])
        }
    }

    @Test("events that waited in version 12 all go, those of each device in order", .bug(id: "Q9"))
    func events() async throws {
        try await Self.withOld { old in
            (0..<40).map { number in
                ("c/pace", Self.row("EVENT", "\(number)", of: old.devices[number % 2], at: Int64(100 + number)))
            }
        } _: { store, old in
            let messages = try await Self.drain(store.queue(named: "c/pace"))
            #expect(messages.count == 40)
            #expect(messages.allSatisfy { $0.message.precedence == nil })
            for (index, device) in old.devices.enumerated() {
                let own = messages.filter { $0.message.originator.id == device }.map(Self.text)
                #expect(own == (0..<20).map { "\(2 * $0 + index)" })
            }
        }
    }

    @Test(
        "what cannot be read is kept for the doctor, holds up nothing, and can be moved and dropped",
        .bug(id: "Q9")
    )
    func unreadable() async throws {
        try await Self.withOld { old in
            [
                ("c/pace", "{"), ("c/pace", "{}"),
                ("c/pace", Self.row("EVENT", "a", of: old.devices[0], at: 100)), ("c/pace", "null"),
            ]
        } _: { store, _ in
            let queue = store.queue(named: "c/pace")
            let waiting = try await store.waitingQueues()
            #expect(waiting.map(\.count) == [4])
            #expect(waiting.first?.oldest == nil)
            #expect(try await Self.drain(queue).map(Self.text) == ["a"])
            #expect(try await queue.count() == 3)
            #expect(try await store.move(from: "c/pace", to: "c/other") == 3)
            let other = store.queue(named: "c/other")
            #expect(try await Self.drain(other).isEmpty)
            #expect(try await other.count() == 3)
            #expect(try await store.drop("c/other") == 3)
            #expect(try await store.waitingQueues().isEmpty)
        }
    }
}
