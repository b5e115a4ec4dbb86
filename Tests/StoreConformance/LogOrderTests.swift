import NodeKit
import OTA
import Testing

/// What protocols promise about order: of logs whose identifiers may become visible out of order, and of writes about one device.
@Suite struct LogOrderTests {
    @Test(
        "a reader of update events misses none while many devices report at once, and those of one device come in order",
        arguments: EngineUnderTest.all
    )
    func events(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            let devices = try await fixture.devices(32, in: profile.id)
            for device in devices { try await fixture.assign(package.id, to: device.id) }
            try await store.addReader("reader")
            let rounds = 10
            let states = (0..<rounds).flatMap { _ in ["DOWNLOADING", "FAILED"] }
            let reports = Task {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for device in devices {
                        group.addTask {
                            for state in states {
                                let report = StateReport(type: .firmware, state: state, timestamp: fixture.clock.now)
                                _ = try await store.record(report, of: device.id)
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            var seen: [DeviceId: [String]] = [:]
            var ids: Set<Int64> = []
            var mark: UInt64?
            while ids.count < devices.count * states.count {
                mark = try await store.waitForUpdateEvents(since: mark)
                while case let page = try await store.updateEvents(unreadBy: "reader", limit: 7), !page.isEmpty {
                    for event in page {
                        #expect(ids.insert(event.entry.id).inserted)
                        seen[event.entry.deviceId, default: []].append(event.entry.state)
                    }
                    try await store.noteRead(page, by: "reader")
                }
            }
            try await reports.value
            #expect(seen.count == devices.count)
            #expect(seen.values.allSatisfy { $0 == states })
            #expect(try await store.updateEvents(unreadBy: "reader", limit: 1) == [])
        }
    }

    @Test(
        "who begins at the first whenever there may be more, and passes over what they know, misses no assignment",
        arguments: EngineUnderTest.all
    )
    func assignments(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let packages = [
                try await fixture.package("fw", "1", in: profile.id),
                try await fixture.package("fw", "2", in: profile.id),
            ]
            let devices = try await fixture.devices(40, in: profile.id)
            let assigning = Task {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for device in devices {
                        group.addTask {
                            for package in packages { try await fixture.assign(package.id, to: device.id) }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            var known: Set<Int64> = []
            var last: [DeviceId: OtaPackageId?] = [:]
            var mark: UInt64?
            while last.count < devices.count || last.values.contains(packages[0].id) {
                mark = await store.waitForAssignments(since: mark)
                var end: Int64 = 0
                while case let page = try await store.assignments(after: end, limit: 7), let next = page.last?.id {
                    end = next
                    for assignment in page where known.insert(assignment.id).inserted {
                        // Those of one device come in order, though one may take the place of another before it is seen.
                        let device = DeviceId(assignment.device.id)
                        #expect(last[device] == nil || assignment.packageId == packages[1].id)
                        last[device] = assignment.packageId
                    }
                    try await store.settle(page.map(\.id))
                }
            }
            try await assigning.value
            #expect(try await store.assignments(after: 0, limit: 1) == [])
        }
    }

    @Test(
        "two writes about one device take effect in the order in which they were begun",
        arguments: EngineUnderTest.all
    )
    func writes(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: try await fixture.profile().id)
            for round in 0..<20 {
                var begun: [PendingWrite] = []
                for number in 0..<50 {
                    let values: JSON.Object = ["n": .integer(Int64(round * 50 + number))]
                    let time = Timestamp(milliseconds: 1000)
                    begun.append(
                        try store.beginSavingAttributes(of: device.id, scope: .client, values, at: time)
                    )
                    let point = TelemetryPoint(timestamp: time, values: values)
                    begun.append(try store.beginSavingTimeseries(of: device.id, [point], at: time))
                }
                // Waited for in the other order.
                for write in begun.reversed() { try await write.stored() }
                let last = JSON.integer(Int64(round * 50 + 49))
                #expect(try await store.attributes(of: device.id, scope: .client, keys: ["n"]).map(\.value) == [last])
                #expect(try await fixture.latest(device.id)["n"] == last)
            }
        }
    }
}
