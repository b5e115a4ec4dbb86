import NodeKit
import OTA
import Testing

@testable import Store

@Suite("Assignments to a whole fleet")
struct MassAssignmentTests {
    /// A profile with two packages and more devices than one transaction takes.
    private struct Fleet {
        let fixture: StoreFixture
        let profile: DeviceProfile
        let first: OtaPackage
        let second: OtaPackage
        let devices: [Device]

        var store: SQLiteStore { self.fixture.store }
        init(_ fixture: StoreFixture, count: Int) async throws {
            self.fixture = fixture
            let profile = try await fixture.profile()
            self.profile = profile
            self.first = try await fixture.package("fw", "1", in: profile.id)
            self.second = try await fixture.package("fw", "2", in: profile.id)
            self.devices = try await withThrowingTaskGroup(of: (Int, Device).self) { group in
                for number in 0..<count {
                    group.addTask { (number, try await fixture.device("d\(number)", in: profile.id)) }
                }
                return try await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
            }
        }

        /// The devices in the order in which they have their turns.
        func inOrder() async throws -> [Device] {
            let numbers = try await self.store.read { db in
                try db.rows("SELECT no, id FROM device").reduce(into: [DeviceId: Int64]()) {
                    $0[$1.id("id")] = $1["no"]
                }
            }
            return self.devices.sorted { numbers[$0.id, default: 0] < numbers[$1.id, default: 0] }
        }

        func assign(_ package: OtaPackage?) async throws {
            try await self.fixture.assign(package?.id, to: self.profile.id)
        }

        /// How many devices have which history.
        func histories() async throws -> [[String]: Int] {
            var histories: [[String]: Int] = [:]
            for device in self.devices {
                let lines = try await self.store.updateHistory(of: device.id, type: .firmware)
                histories[lines.map { "\($0.state) \($0.version)" }, default: 0] += 1
            }
            return histories
        }

        func measured(_ name: String) async throws -> Double? {
            try await self.store.metrics().first { $0.name == name }?.samples.first?.value
        }
    }

    private static func with(_ count: Int, _ body: (Fleet) async throws -> Void) async throws {
        try await StoreFixture.with { fixture in try await body(Fleet(fixture, count: count)) }
    }

    @Test("takes at most 1,000 devices in a transaction, in order, and every device gets its package once")
    func steps() async throws {
        #expect(MassAssignments.stepMax == 1000)
        try await Self.with(2100) { fleet in
            let store = fleet.store
            try await fleet.assign(fleet.first)
            func count() async throws -> Int { try await store.assignments(after: 0, limit: 9999).count }
            #expect(try await count() == 1000)
            #expect(try await fleet.measured("windlass_assigning_devices") == 1100)
            #expect(try await fleet.measured("windlass_waiting_assignments") == 2100)
            // The doctor finds nothing wrong in the middle.
            #expect(try await store.check() == [])
            #expect(try await store.carryOutMassAssignment())
            #expect(try await count() == 2000)
            #expect(try await store.carryOutMassAssignment())
            #expect(try await count() == 2100)
            #expect(store.massAssignments.areUnderWay == false)
            #expect(try await !store.carryOutMassAssignment())
            #expect(try await fleet.histories() == [["QUEUED 1"]: 2100])
            let order = try await store.assignments(after: 0, limit: 9999).map(\.device.id)
            #expect(order == (try await fleet.inOrder().map(\.id.uuid)))
        }
    }

    @Test("goes on by itself while the store runs, and after a restart where it was")
    func restart() async throws {
        try await StoreFixture.withFolder { folder in
            let log = CapturedLog()
            func open() async throws -> SQLiteStore {
                try await SQLiteStore.open(directory: "\(folder)/data", sessions: DeviceSessions(), logger: log.logger)
            }
            let store = try await open()
            let profile = try await store.saveDeviceProfile(DeviceProfile(name: "fleet"))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<2100 {
                    group.addTask {
                        let device = Device(name: "d\(number)", deviceProfileId: profile.id)
                        _ = try await store.saveDevice(device, accessToken: nil)
                    }
                }
                try await group.waitForAll()
            }
            let package = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .software, title: "sw", version: "1", url: "http://x/1")
            )
            var saved = profile
            saved.softwareId = package.id
            _ = try await store.saveDeviceProfile(saved)
            await store.close()

            let again = try await open()
            #expect(again.massAssignments.areUnderWay)
            #expect(try await again.assignments(after: 0, limit: 9999).count == 1000)
            let run = Task { await again.run() }
            var count = 0
            var mark: UInt64?
            while count < 2100 {
                mark = await again.waitForAssignments(since: mark)
                count = try await again.assignments(after: 0, limit: 9999).count
            }
            while again.massAssignments.areUnderWay { await Task.yield() }
            run.cancel()
            await run.value
            #expect(count == 2100)
            #expect(try await again.countUpdates(UpdateFilter()) == [.queued: 2100])
            #expect(try await again.check() == [])
            await again.close()
            #expect(
                log.lines == [
                    "the package of a profile is being assigned to its devices",
                    "the package of a profile is assigned to all of its devices",
                ]
            )
        }
    }

    @Test("a device that fetches and reports before its turn has its package and its record, and keeps what it did")
    func beforeItsTurn() async throws {
        try await Self.with(1100) { fleet in
            let store = fleet.store
            try await fleet.assign(fleet.first)
            let device = try #require(try await fleet.inOrder().last)
            #expect(try await store.updateRecord(of: device.id, type: .firmware) == nil)
            let package = try #require(try await store.effectivePackage(for: device.id, type: .firmware))
            #expect(package.package.id == fleet.first.id)
            // All bytes, then a report that it is installed, without a word about its version: only served bytes prove it.
            store.served(0..<9, of: package, to: device.id)
            for state in ["DOWNLOADING", "UPDATED"] {
                let report = StateReport(type: .firmware, state: state, timestamp: fleet.fixture.clock.now)
                #expect(
                    try await store.record(report, of: device.id)
                        == .recorded(try #require(OtaUpdateState(rawValue: state)))
                )
            }
            try await store.finishMassAssignments()
            let record = try #require(try await store.updateRecord(of: device.id, type: .firmware))
            #expect(record.state == .updated)
            #expect(record.packageId == fleet.first.id)
            #expect(
                try await fleet.histories() == [["QUEUED 1"]: 1099, ["QUEUED 1", "DOWNLOADING 1", "UPDATED 1"]: 1]
            )
        }
    }

    @Test("what is done to an update before its device's turn is done to the new one")
    func beforeItsTurnByServer() async throws {
        try await Self.with(1100) { fleet in
            let store = fleet.store
            try await fleet.assign(fleet.first)
            try await store.finishMassAssignments()
            let device = try #require(try await fleet.inOrder().last)
            let old = try #require(try await store.updateRecord(of: device.id, type: .firmware))
            try await fleet.assign(fleet.second)
            // The stalled update is not the one any more.
            #expect(
                try await !store.fail(
                    device.id,
                    .firmware,
                    ifUnmovedSince: old.activeTime,
                    cause: .timedOut,
                    reason: "silent",
                    retryAt: nil
                )
            )
            #expect(try await store.updateRecord(of: device.id, type: .firmware)?.version == "2")
            #expect(try await !store.initiate(fleet.first.id, of: device.id, type: .firmware))
            #expect(try await store.initiate(fleet.second.id, of: device.id, type: .firmware))
            try await store.finishMassAssignments()
            #expect(
                try await fleet.histories() == [
                    ["QUEUED 1", "QUEUED 2"]: 1099, ["QUEUED 1", "QUEUED 2", "INITIATED 2"]: 1,
                ]
            )
        }
    }

    @Test(
        "another package while it is under way takes its place; devices that it did not reach never hear of the first"
    )
    func superseded() async throws {
        try await Self.with(1100) { fleet in
            try await fleet.assign(fleet.first)
            try await fleet.assign(fleet.second)
            try await fleet.store.finishMassAssignments()
            #expect(try await fleet.histories() == [["QUEUED 1", "QUEUED 2"]: 1000, ["QUEUED 2"]: 100])
            // And back, before the last devices had their turn: for them nothing has changed.
            try await fleet.assign(fleet.first)
            try await fleet.assign(fleet.second)
            try await fleet.store.finishMassAssignments()
            #expect(
                try await fleet.histories() == [
                    ["QUEUED 1", "QUEUED 2", "QUEUED 1", "QUEUED 2"]: 1000, ["QUEUED 2"]: 100,
                ]
            )
        }
    }

    @Test("taking the package away goes in steps as well, and the package can be deleted at once")
    func taken() async throws {
        try await Self.with(1100) { fleet in
            let store = fleet.store
            try await fleet.assign(fleet.first)
            try await store.finishMassAssignments()
            try await fleet.assign(nil)
            #expect(try await store.countUpdates(UpdateFilter()) == [.queued: 100])
            try await store.deleteOtaPackage(fleet.first.id)
            #expect(try await store.check() == [])
            let device = try #require(try await fleet.inOrder().last)
            let report = StateReport(type: .firmware, state: "DOWNLOADING", timestamp: fleet.fixture.clock.now)
            #expect(try await store.record(report, of: device.id) == .flagged(.noUpdate))
            try await store.finishMassAssignments()
            #expect(try await store.countUpdates(UpdateFilter()) == [:])
            #expect(try await store.assignments(after: 0, limit: 9999).filter { $0.packageId == nil }.count == 1100)
        }
    }

    @Test(
        "a command reaches the devices too that have not had their turn",
        arguments: [UpdateCommand.cancel, .resend(includesUpdated: false)]
    )
    func commands(command: UpdateCommand) async throws {
        try await Self.with(1100) { fleet in
            try await fleet.assign(fleet.first)
            let filter = UpdateFilter(packageId: fleet.first.id)
            #expect(try await fleet.store.count(command, on: filter) == 1100)
            #expect(try await fleet.store.carryOut(command, on: filter, by: "me") == 1100)
            #expect(try await fleet.measured("windlass_assigning_devices") == 0)
        }
    }

    @Test("devices that are changed or deleted before their turn are no trouble, and neither are new ones")
    func changedMeanwhile() async throws {
        try await Self.with(1104) { fleet in
            let store = fleet.store
            let other = try await fleet.fixture.profile("other")
            try await fleet.assign(fleet.first)
            let waiting = Array(try await fleet.inOrder().suffix(4))
            // What it is given is what it should have anyway, but it has not heard of it.
            try await fleet.fixture.assign(fleet.first.id, to: waiting[0].id)
            #expect(try await fleet.fixture.history(of: waiting[0].id) == ["QUEUED"])
            try await fleet.fixture.assign(fleet.second.id, to: waiting[1].id)
            var moved = waiting[2]
            moved.deviceProfileId = other.id
            _ = try await store.saveDevice(moved, accessToken: nil)
            try await store.deleteDevice(waiting[3].id)
            let new = try await fleet.fixture.device("new", in: fleet.profile.id)
            #expect(try await fleet.fixture.history(of: new.id) == ["QUEUED"])
            try await store.finishMassAssignments()
            #expect(try await store.countUpdates(UpdateFilter(packageId: fleet.first.id)) == [.queued: 1102])
            #expect(try await store.updateRecord(of: waiting[1].id, type: .firmware)?.version == "2")
            #expect(try await store.updateRecord(of: moved.id, type: .firmware) == nil)
            #expect(try await fleet.fixture.history(of: new.id) == ["QUEUED"])
        }
    }

    @Test("a profile that is deleted, once its devices are gone, takes its assignment along")
    func deletedProfile() async throws {
        try await Self.with(1001) { fleet in
            let store = fleet.store
            try await fleet.assign(fleet.first)
            #expect(store.massAssignments.areUnderWay)
            for device in fleet.devices { try await store.deleteDevice(device.id) }
            try await store.deleteDeviceProfile(fleet.profile.id)
            try await store.finishMassAssignments()
            #expect(store.massAssignments.areUnderWay == false)
        }
    }
}
