import NodeKit
import OTA
import StoreTesting
import Testing

@Suite struct AssignmentTests {
    @Test(
        "a package for a profile queues the update of every device without its own, in one step",
        arguments: EngineUnderTest.all
    )
    func profileAssignment(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package("fw", "2", tag: "fw 2", in: profile.id)
            let own = try await fixture.package("fw", "own", in: profile.id)
            let devices = try await withThrowingTaskGroup(of: Device.self) { group in
                for number in 0..<1000 {
                    group.addTask { try await fixture.device("d\(number)", in: profile.id) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let apart = try await fixture.device("apart", in: profile.id)
            try await fixture.assign(own.id, to: apart.id)
            try await store.settle(try await store.assignments(after: 0, limit: 10).map(\.id))
            #expect(try await store.countDevices(deviceProfileId: profile.id, withoutOwn: .firmware) == 1000)

            try await fixture.assign(package.id, to: profile.id)

            let assignments = try await store.assignments(after: 0, limit: 10_000)
            #expect(assignments.count == 1000)
            #expect(Set(assignments.map(\.device.id)) == Set(devices.map(\.id.uuid)))
            #expect(assignments.map(\.id) == assignments.map(\.id).sorted())
            #expect(assignments.allSatisfy { $0.packageId == package.id && $0.type == .firmware })
            #expect(assignments.allSatisfy { $0.device.type == "profile" })
            #expect(try await store.assignments(after: assignments[4].id, limit: 2) == Array(assignments[5..<7]))
            for device in devices {
                let record = try #require(try await store.updateRecord(of: device.id, type: .firmware))
                #expect(record.state == .queued)
                #expect(record.packageId == package.id)
                #expect(record.entered == [.queued: assignments[0].timestamp])
                #expect(try await fixture.history(of: device.id) == ["QUEUED"])
            }
            let time = assignments[0].timestamp
            #expect(
                try await fixture.latest(devices[0].id) == [
                    "fw_state": "QUEUED", "target_fw_tag": "fw 2", "target_fw_title": "fw",
                    "target_fw_ts": .integer(time.rawValue), "target_fw_version": "2",
                ]
            )
            #expect(try await store.latestTimeseries(of: devices[0].id, keys: nil).allSatisfy { $0.timestamp == time })
            #expect(try await fixture.history(of: apart.id) == ["QUEUED"])
            #expect(try await store.updateRecord(of: apart.id, type: .firmware)?.packageId == own.id)

            // What a device has of its own is given up: the profile's package is a new assignment.
            try await fixture.assign(nil as OtaPackageId?, to: apart.id)
            let last = try #require(try await store.assignments(after: assignments[999].id, limit: 10).first)
            #expect(last.device.id == apart.id.uuid)
            #expect(last.packageId == package.id)
            #expect(try await store.updateRecord(of: apart.id, type: .firmware)?.version == "2")
        }
    }

    @Test("the same effective package again is nothing new, however it comes about", arguments: EngineUnderTest.all)
    func sameAgain(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            var device = try await fixture.device(in: profile.id)
            try await fixture.assign(package.id, to: profile.id)
            let assignments = try await store.assignments(after: 0, limit: 10)
            #expect(assignments.count == 1)
            try await fixture.assign(package.id, to: profile.id)
            device = try await fixture.assign(package.id, to: device.id)
            device.label = "other"
            _ = try await store.saveDevice(device, accessToken: nil)
            try await fixture.assign(nil as OtaPackageId?, to: device.id)
            #expect(try await store.assignments(after: 0, limit: 10) == assignments)
            #expect(try await fixture.history(of: device.id) == ["QUEUED"])
        }
    }

    @Test(
        "no package any more is an assignment of none; an update under way has no record then, one that ended keeps it",
        arguments: EngineUnderTest.all
    )
    func unassign(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            let running = try await fixture.device("running", in: profile.id)
            let done = try await fixture.device("done", in: profile.id)
            try await fixture.assign(package.id, to: profile.id)
            let report = StateReport(
                type: .firmware,
                state: "UPDATED",
                running: ReportedVersion(title: "fw", version: "1"),
                timestamp: .now
            )
            #expect(try await store.record(report, of: done.id) == .recorded(.updated))
            try await store.settle(try await store.assignments(after: 0, limit: 10).map(\.id))
            try await fixture.assign(nil as OtaPackageId?, to: profile.id)
            let assignments = try await store.assignments(after: 0, limit: 10)
            #expect(assignments.map(\.packageId) == [nil, nil])
            #expect(try await store.updateRecord(of: running.id, type: .firmware) == nil)
            #expect(try await store.updateRecord(of: done.id, type: .firmware)?.state == .updated)
            #expect(try await fixture.history(of: running.id) == ["QUEUED"])
            #expect(try await fixture.latest(running.id)["fw_state"] == "QUEUED")
            // Nothing refers to the package any more but the record, which outlives it.
            try await store.deleteOtaPackage(package.id)
            let record = try #require(try await store.updateRecord(of: done.id, type: .firmware))
            #expect(record.packageId == nil)
            #expect(record.title == "fw")
        }
    }

    @Test("a device that is new in a profile with a package, or moves to one, gets it", arguments: EngineUnderTest.all)
    func newAndMoved(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let first = try await fixture.profile("first")
            let second = try await fixture.profile("second")
            let package = try await fixture.package("fw", "1", in: first.id)
            let other = try await fixture.package("fw", "2", in: second.id)
            try await fixture.assign(package.id, to: first.id)
            try await fixture.assign(other.id, to: second.id)
            var device = try await fixture.device(in: first.id)
            #expect(try await store.updateRecord(of: device.id, type: .firmware)?.version == "1")
            device.deviceProfileId = second.id
            device = try await store.saveDevice(device, accessToken: nil)
            #expect(try await store.updateRecord(of: device.id, type: .firmware)?.version == "2")
            #expect(try await fixture.history(of: device.id) == ["QUEUED", "QUEUED"])
            // The device was not told of the first yet, so it is told of the second only.
            #expect(try await store.assignments(after: 0, limit: 10).map(\.packageId) == [other.id])
            #expect(try await store.effectivePackage(for: device.id, type: .firmware)?.package == other)
        }
    }

    @Test(
        "a newer assignment takes the place of one that is not settled, for its type alone",
        arguments: EngineUnderTest.all
    )
    func replaced(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let first = try await fixture.package("fw", "1", in: profile.id)
            let second = try await fixture.package("fw", "2", in: profile.id)
            let software = try await fixture.package("sw", "1", type: .software, in: profile.id)
            var device = try await fixture.device(in: profile.id)
            device.softwareId = software.id
            device = try await store.saveDevice(device, accessToken: nil)
            try await fixture.assign(first.id, to: device.id)
            let before = try await store.assignments(after: 0, limit: 10)
            try await fixture.assign(second.id, to: device.id)
            let after = try await store.assignments(after: 0, limit: 10)
            #expect(before.map(\.packageId) == [software.id, first.id])
            #expect(after.map(\.packageId) == [software.id, second.id])
            #expect(after[1].id > before[1].id)
            // Settling the one that was replaced leaves the newer one.
            try await store.settle([before[1].id, before[0].id])
            #expect(try await store.assignments(after: 0, limit: 10) == [after[1]])
            #expect(try await fixture.latest(device.id)["sw_state"] == "QUEUED")
        }
    }

    @Test("a new assignment begins a fresh record", arguments: EngineUnderTest.all)
    func freshRecord(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let first = try await fixture.package("fw", "1", in: profile.id)
            let second = try await fixture.package("fw", "2", in: profile.id)
            let device = try await fixture.device(in: profile.id)
            try await fixture.assign(first.id, to: device.id)
            for state in ["DOWNLOADING", "FAILED"] {
                _ = try await store.record(
                    StateReport(type: .firmware, state: state, progress: 50, error: "no room", timestamp: .now),
                    of: device.id
                )
            }
            try await store.classify(.insufficientStorage, of: device.id, type: .firmware)
            try await fixture.assign(second.id, to: device.id)
            let record = try #require(try await store.updateRecord(of: device.id, type: .firmware))
            #expect(record.version == "2")
            #expect(record.state == .queued)
            #expect(record.attempts == 0)
            #expect(record.progress == nil)
            #expect(record.error == nil)
            #expect(record.errorClass == nil)
            #expect(Array(record.entered.keys) == [.queued])
        }
    }

    @Test(
        "what does not fit is not assigned, to a device or a profile",
        arguments: EngineUnderTest.all,
        OtaPackageType.allCases
    )
    func rules(engine: EngineUnderTest, type: OtaPackageType) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let other = try await fixture.profile("other")
            let device = try await fixture.device(in: profile.id)
            let wrongType: OtaPackageType = type == .firmware ? .software : .firmware
            let wrong = try await fixture.package("a", "1", type: wrongType, in: profile.id)
            let foreign = try await fixture.package("b", "1", type: type, in: other.id)
            let empty = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: type, title: "c", version: "1")
            )
            let word = type.rawValue.lowercased()
            for (id, sentence) in [
                (OtaPackageId.random(), "Can't assign non-existent \(word)!"),
                (wrong.id, "Can't assign \(word) with type: \(wrongType.rawValue)"),
                (empty.id, "Can't assign \(word) with empty data!"),
                (foreign.id, "Can't assign \(word) with different deviceProfile!"),
            ] {
                await expectRefusal(sentence) {
                    var device = device
                    device[type] = id
                    _ = try await store.saveDevice(device, accessToken: nil)
                }
                await expectRefusal(sentence) {
                    var profile = profile
                    if type == .firmware { profile.firmwareId = id } else { profile.softwareId = id }
                    _ = try await store.saveDeviceProfile(profile)
                }
            }
            // A package of its own does not follow a device to another profile.
            let package = try await fixture.package("d", "1", type: type, in: profile.id)
            var moved = device
            moved[type] = package.id
            moved = try await store.saveDevice(moved, accessToken: nil)
            moved.deviceProfileId = other.id
            await expectRefusal("Can't assign \(word) with different deviceProfile!") { [moved] in
                _ = try await store.saveDevice(moved, accessToken: nil)
            }
            #expect(try await store.assignments(after: 0, limit: 10).count == 1)
        }
    }

    @Test(
        "who waits for assignments goes on when there is one, and when the task is cancelled",
        arguments: EngineUnderTest.all
    )
    func waiting(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            let device = try await fixture.device(in: profile.id)
            let start = await store.waitForAssignments(since: nil)
            async let woken = store.waitForAssignments(since: start)
            try await fixture.assign(package.id, to: device.id)
            let mark = await woken
            #expect(mark > start)
            // Whoever has not looked since goes on at once.
            #expect(await store.waitForAssignments(since: start) == mark)
            let last = try #require(try await store.assignments(after: 0, limit: 1).first).id
            let waiter = Task { await store.waitForAssignments(since: mark) }
            waiter.cancel()
            #expect(await waiter.value == mark)
            // Settling wakes nobody.
            try await store.settle([last])
            let second = Task { await store.waitForAssignments(since: mark) }
            try await fixture.assign(nil as OtaPackageId?, to: device.id)
            #expect(await second.value > mark)
            #expect(try await store.assignments(after: 0, limit: 9).map(\.packageId) == [nil])
        }
    }
}
