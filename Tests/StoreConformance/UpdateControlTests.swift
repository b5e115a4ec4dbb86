import NodeKit
import OTA
import Testing

@Suite struct UpdateControlTests {
    /// Devices of one profile with an update that is queued.
    private static func withUpdates(
        _ engine: EngineUnderTest,
        _ count: Int = 1,
        _ body: (EngineFixture, [Device], OtaPackage) async throws -> Void
    ) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.profile()
            var devices: [Device] = []
            for number in 0..<count { devices.append(try await fixture.device("device-\(number)", in: profile.id)) }
            let package = try await fixture.package(in: profile.id)
            try await fixture.assign(package.id, to: profile.id)
            try await body(fixture, devices, package)
        }
    }

    private static func report(_ fixture: EngineFixture, _ state: String, error: String? = nil, _ device: Device)
        async throws -> StateReportResult
    {
        try await fixture.store.record(
            StateReport(
                type: .firmware,
                state: state,
                error: error,
                running: state == "UPDATED" ? ReportedVersion(title: "fw", version: "1") : ReportedVersion(),
                timestamp: Timestamp(milliseconds: 9)
            ),
            of: device.id
        )
    }

    private static func record(_ fixture: EngineFixture, _ device: Device) async throws -> UpdateRecord {
        try #require(try await fixture.store.updateRecord(of: device.id, type: .firmware))
    }

    private static func carryOut(_ command: UpdateCommand, _ fixture: EngineFixture, _ filter: UpdateFilter = .init())
        async throws -> Int
    {
        try await fixture.store.carryOut(command, on: filter, by: "somebody")
    }

    /// The causes of what devices are to be told.
    private static func causes(_ fixture: EngineFixture) async throws -> [UpdateCause] {
        try await fixture.store.assignments(after: 0, limit: 10_000).map(\.cause)
    }

    @Test(
        "an update that failed is queued again as a new attempt, and its device is told",
        arguments: EngineUnderTest.all
    )
    func retry(engine: EngineUnderTest) async throws {
        try await Self.withUpdates(engine) { fixture, devices, package in
            let device = devices[0]
            #expect(try await Self.carryOut(.retry, fixture) == 0)
            _ = try await Self.report(fixture, "DOWNLOADING", device)
            #expect(try await Self.carryOut(.retry, fixture) == 0)
            _ = try await Self.report(fixture, "FAILED", error: "no route", device)
            #expect(try await Self.carryOut(.retry, fixture) == 1)
            var record = try await Self.record(fixture, device)
            #expect(record.state == .queued)
            #expect(record.attempts == 2)
            #expect(record.error == nil && record.progress == nil && record.failureCause == nil)
            #expect(try await Self.causes(fixture) == [.retried])
            #expect(
                try await fixture.history(of: device.id) == ["QUEUED", "DOWNLOADING", "FAILED", "QUEUED"]
            )
            #expect(try await fixture.latest(device.id)["fw_state"] == "QUEUED")
            // What the server queued and the device then begins is one attempt, not two.
            #expect(try await fixture.store.initiate(package.id, of: device.id, type: .firmware))
            _ = try await Self.report(fixture, "DOWNLOADING", device)
            record = try await Self.record(fixture, device)
            #expect(record.attempts == 2)
            _ = try await Self.report(fixture, "UPDATED", device)
            #expect(try await Self.carryOut(.retry, fixture) == 0)
        }
    }

    @Test(
        "what failed for a package that the device should not have any more is not tried again",
        arguments: EngineUnderTest.all
    )
    func retryOfOld(engine: EngineUnderTest) async throws {
        try await Self.withUpdates(engine) { fixture, devices, _ in
            _ = try await Self.report(fixture, "FAILED", devices[0])
            try await fixture.assign(nil, to: devices[0].deviceProfileId)
            #expect(try await Self.carryOut(.retry, fixture) == 0)
            #expect(try await Self.carryOut(.resend(includesUpdated: true), fixture) == 0)
            #expect(try await Self.record(fixture, devices[0]).state == .failed)
        }
    }

    @Test(
        "a cancelled update ends as FAILED with a reason, and late reports change nothing",
        arguments: EngineUnderTest.all
    )
    func cancel(engine: EngineUnderTest) async throws {
        try await Self.withUpdates(engine) { fixture, devices, package in
            let device = devices[0]
            _ = try await Self.report(fixture, "DOWNLOADING", device)
            #expect(try await Self.carryOut(.cancel, fixture) == 1)
            #expect(try await Self.carryOut(.cancel, fixture) == 0)
            let record = try await Self.record(fixture, device)
            #expect(record.state == .failed)
            #expect(record.failureCause == .cancelled)
            #expect(record.error == "cancelled by somebody")
            #expect(try await fixture.latest(device.id)["fw_error"] == "cancelled by somebody")
            for state in ["DOWNLOADING", "DOWNLOADED", "UPDATED", "FAILED"] {
                #expect(try await Self.report(fixture, state, device) == .flagged(.cancelled))
            }
            var after = try await Self.record(fixture, device)
            #expect(after.installed?.running == ReportedVersion(title: "fw", version: "1"))
            after.installed = nil
            #expect(after == record)
            let entries = try await fixture.store.updateHistory(of: device.id, type: .firmware)
            #expect(entries.map(\.cause) == [nil, nil, .cancelled, nil, nil, nil, nil])
            #expect(entries.suffix(4).allSatisfy { !$0.accepted })
            let told = try await fixture.store.assignments(after: 0, limit: 10)
            #expect(told.map(\.cause) == [.cancelled])
            #expect(told.map(\.packageId) == [package.id])
            // The push of before may still wait for its turn; it must not begin what was cancelled.
            #expect(try await fixture.store.initiate(package.id, of: device.id, type: .firmware) == false)
            #expect(try await Self.carryOut(.retry, fixture) == 1)
            #expect(try await fixture.store.initiate(package.id, of: device.id, type: .firmware))
            #expect(try await Self.report(fixture, "UPDATED", device) == .recorded(.updated))
            #expect(try await Self.carryOut(.cancel, fixture) == 0)
        }
    }

    @Test(
        "a resend leaves an update under way in its state, and begins an UPDATED one anew only if it is included",
        arguments: EngineUnderTest.all
    )
    func resend(engine: EngineUnderTest) async throws {
        try await Self.withUpdates(engine, 2) { fixture, devices, package in
            let store = fixture.store
            #expect(try await store.initiate(package.id, of: devices[0].id, type: .firmware))
            _ = try await Self.report(fixture, "UPDATED", devices[1])
            try await store.settle(try await store.assignments(after: 0, limit: 10).map(\.id))
            #expect(try await store.count(.resend(includesUpdated: false), on: UpdateFilter()) == 1)
            #expect(try await Self.causes(fixture) == [])
            #expect(try await Self.carryOut(.resend(includesUpdated: false), fixture) == 1)
            #expect(try await Self.record(fixture, devices[0]).state == .initiated)
            #expect(try await fixture.history(of: devices[0].id) == ["QUEUED", "INITIATED"])
            #expect(try await Self.record(fixture, devices[1]).state == .updated)
            #expect(try await Self.causes(fixture) == [.resent])
            #expect(try await store.count(.resend(includesUpdated: true), on: UpdateFilter()) == 2)
            #expect(try await Self.carryOut(.resend(includesUpdated: true), fixture) == 2)
            #expect(try await Self.record(fixture, devices[1]).state == .queued)
            #expect(try await Self.causes(fixture) == [.resent, .resent])
        }
    }

    @Test("a command reaches all devices that its filter means, batch by batch", arguments: EngineUnderTest.all)
    func bulk(engine: EngineUnderTest) async throws {
        // More than go in one transaction.
        let count = 1001
        try await Self.withUpdates(engine, count) { fixture, devices, package in
            let other = try await fixture.profile("other")
            #expect(try await Self.carryOut(.cancel, fixture, UpdateFilter(deviceProfileId: other.id)) == 0)
            #expect(try await Self.carryOut(.cancel, fixture, UpdateFilter(type: .software)) == 0)
            #expect(try await Self.carryOut(.cancel, fixture, UpdateFilter(packageId: .random())) == 0)
            #expect(try await Self.carryOut(.cancel, fixture, UpdateFilter(states: [.updated])) == 0)
            #expect(try await Self.carryOut(.cancel, fixture, UpdateFilter(tenantId: .random())) == 0)
            let three = Array(devices.prefix(3).map(\.id))
            #expect(try await Self.carryOut(.cancel, fixture, UpdateFilter(devices: three)) == 3)
            #expect(try await Self.carryOut(.cancel, fixture, UpdateFilter(packageId: package.id)) == count - 3)
            #expect(try await fixture.store.countUpdates(UpdateFilter()) == [.failed: count])
            #expect(try await Self.carryOut(.retry, fixture) == count)
            #expect(try await fixture.store.countUpdates(UpdateFilter()) == [.queued: count])
            #expect(try await Self.causes(fixture) == Array(repeating: .retried, count: count))
        }
    }

    @Test("what a command did is there when the store is opened again", arguments: EngineUnderTest.durable)
    func reopened(engine: EngineUnderTest) async throws {
        try await Self.withUpdates(engine) { fixture, devices, package in
            #expect(try await fixture.store.initiate(package.id, of: devices[0].id, type: .firmware))
            #expect(try await fixture.store.carryOut(.cancel, on: UpdateFilter(), by: "ann") == 1)
            try await fixture.reopen()
            #expect(try await Self.record(fixture, devices[0]).error == "cancelled by ann")
            #expect(try await Self.causes(fixture) == [.cancelled])
        }
    }

    @Test("updates are listed by page, filter, name and order", arguments: EngineUnderTest.all)
    func list(engine: EngineUnderTest) async throws {
        try await Self.withUpdates(engine, 5) { fixture, devices, package in
            let store = fixture.store
            _ = try await Self.report(fixture, "DOWNLOADING", devices[1])
            _ = try await Self.report(fixture, "FAILED", error: "no", devices[3])
            func names(_ filter: UpdateFilter, _ link: PageLink) async throws -> [String] {
                try await store.findUpdates(filter, page: link).data.map(\.deviceName)
            }
            let all = UpdateFilter()
            let page = try await store.findUpdates(all, page: PageLink(pageSize: 2, page: 1, ascending: true))
            #expect(page.data.map(\.deviceName) == ["device-2", "device-3"])
            #expect(page.totalElements == 5 && page.totalPages == 3 && page.hasNext)
            #expect(page.data[1].record.error == "no")
            #expect(page.data[1].deviceProfileId == devices[3].deviceProfileId)
            #expect(try await names(all, PageLink(pageSize: 10, textSearch: "-4")) == ["device-4"])
            #expect(
                try await names(UpdateFilter(states: [.downloading, .failed]), PageLink(pageSize: 9, ascending: true))
                    == ["device-1", "device-3"]
            )
            #expect(try await names(UpdateFilter(packageId: .random()), PageLink(pageSize: 9)) == [])
            let byChange = PageLink(pageSize: 2, sortProperty: "lastChange")
            #expect(try await names(UpdateFilter(packageId: package.id), byChange) == ["device-3", "device-1"])
            #expect(try await store.countUpdates(all) == [.queued: 3, .downloading: 1, .failed: 1])
            // At the limit of devices, and any number before it.
            for count in [1, 3, UpdateFilter.devicesMax] {
                let ids = [devices[2].id] + (1..<count).map { _ in DeviceId.random() }
                #expect(try await names(UpdateFilter(devices: ids), PageLink(pageSize: 9)) == ["device-2"])
            }
        }
    }
}
