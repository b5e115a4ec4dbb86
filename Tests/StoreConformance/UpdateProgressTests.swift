import NodeKit
import OTA
import StoreTesting
import Testing

@Suite struct UpdateProgressTests {
    private static func withUpdate(
        _ engine: EngineUnderTest,
        _ body: (EngineFixture, Device, OtaPackage) async throws -> Void
    ) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            let device = try await fixture.device(in: profile.id)
            try await fixture.assign(package.id, to: device.id)
            try await body(fixture, device, package)
        }
    }

    private static func report(_ state: String?, progress: Int? = nil) -> StateReport {
        // The clock of a device may be as wrong as this.
        StateReport(
            type: .firmware,
            state: state,
            progress: progress,
            running: state == "UPDATED" ? ReportedVersion(title: "fw", version: "1") : ReportedVersion(),
            timestamp: Timestamp(milliseconds: 9)
        )
    }

    private static func record(_ fixture: EngineFixture, _ device: Device) async throws -> UpdateRecord {
        try #require(try await fixture.store.updateRecord(of: device.id, type: .firmware))
    }

    @Test(
        "an update stands still since its state or progress changed, by the host's clock",
        arguments: EngineUnderTest.all
    )
    func stalled(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, _ in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            let begun = try await Self.record(fixture, device).activeTime
            func stalled(_ state: OtaUpdateState, _ since: Timestamp) async throws -> [StalledUpdate] {
                try await store.stalledUpdates(in: state, since: since, limit: 10)
            }
            #expect(try await stalled(.downloading, Timestamp(milliseconds: begun.rawValue - 1)) == [])
            let found = try await stalled(.downloading, begun)
            #expect(found.map(\.device.name) == ["device"])
            #expect(found.map(\.device.type) == ["profile"])
            #expect(try await stalled(.queued, begun) == [])
            // The same progress again is no movement; more of it is.
            _ = try await store.record(Self.report(nil, progress: 3), of: device.id)
            let moved = try await Self.record(fixture, device).activeTime
            #expect(moved > begun)
            _ = try await store.record(Self.report("DOWNLOADING", progress: 3), of: device.id)
            #expect(try await Self.record(fixture, device).activeTime == moved)
            // Who was told of what was before is not heard any more.
            try await store.toldStalled(found[0])
            #expect(try await Self.record(fixture, device).activeTime == moved)
            let isFailed = try await store.fail(
                device.id,
                .firmware,
                ifUnmovedSince: begun,
                cause: .timedOut,
                reason: "late",
                retryAt: nil
            )
            #expect(!isFailed)
            try await store.toldStalled(try #require(try await stalled(.downloading, moved).first))
            #expect(try await stalled(.downloading, moved) == [])
        }
    }

    @Test("what the device reports after its update timed out counts", arguments: EngineUnderTest.all)
    func lateReports(engine: EngineUnderTest) async throws {
        for state in ["DOWNLOADING", "VERIFIED", "UPDATED"] {
            try await Self.withUpdate(engine) { fixture, device, package in
                let store = fixture.store
                #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
                let isFailed = try await store.fail(
                    device.id,
                    .firmware,
                    ifUnmovedSince: nil,
                    cause: .timedOut,
                    reason: "timed out",
                    retryAt: nil
                )
                #expect(isFailed)
                var record = try await Self.record(fixture, device)
                #expect(record.state == .failed && record.failureCause == .timedOut && record.error == "timed out")
                #expect(try await store.initiate(package.id, of: device.id, type: .firmware) == false)
                for early in ["QUEUED", "INITIATED", "IDLE"] {
                    let flag: ReportFlag = early == "IDLE" ? .unknownState : .outOfOrder
                    #expect(try await store.record(Self.report(early), of: device.id) == .flagged(flag))
                }
                let next = try #require(OtaUpdateState(rawValue: state))
                #expect(try await store.record(Self.report(state), of: device.id) == .recorded(next))
                record = try await Self.record(fixture, device)
                #expect(record.state == next && record.failureCause == nil && record.error == nil)
            }
        }
    }

    @Test("a retry begins when it is due, and not if its package is another by then", arguments: EngineUnderTest.all)
    func retries(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, package in
            let store = fixture.store
            let soon = Timestamp(milliseconds: 2_000_000_000_000)
            #expect(try await store.scheduleRetry(of: device.id, .firmware, at: soon) == false)
            let isFailed = try await store.fail(
                device.id,
                .firmware,
                ifUnmovedSince: nil,
                cause: .timedOut,
                reason: "late",
                retryAt: soon
            )
            #expect(isFailed)
            #expect(try await Self.record(fixture, device).retryTime == soon)
            let before = Timestamp(milliseconds: soon.rawValue - 1)
            var released = try await store.releaseRetries(until: before, limit: 10)
            #expect(released.count == 0 && released.next == soon)
            released = try await store.releaseRetries(until: soon, limit: 10)
            #expect(released.count == 1 && released.next == nil)
            let record = try await Self.record(fixture, device)
            #expect(record.state == .queued && record.attempts == 2 && record.retryTime == nil)
            #expect(try await store.assignments(after: 0, limit: 9).map(\.cause) == [.retried])
            // An own failure of the device can be tried again as well; one that it goes on with by itself need not be.
            _ = try await store.record(Self.report("FAILED"), of: device.id)
            #expect(try await store.scheduleRetry(of: device.id, .firmware, at: soon))
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            #expect(try await Self.record(fixture, device).retryTime == nil)
            // What waits for its retry is not over: it can be cancelled.
            _ = try await store.record(Self.report("FAILED"), of: device.id)
            #expect(try await store.scheduleRetry(of: device.id, .firmware, at: soon))
            #expect(try await store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
            #expect(try await store.scheduleRetry(of: device.id, .firmware, at: soon) == false)
            #expect(try await store.releaseRetries(until: soon, limit: 9).count == 0)
            // No package any more, so there is nothing to begin.
            #expect(try await store.carryOut(.retry, on: UpdateFilter(), by: "me") == 1)
            _ = try await store.record(Self.report("FAILED"), of: device.id)
            #expect(try await store.scheduleRetry(of: device.id, .firmware, at: soon))
            try await fixture.assign(nil, to: device.id)
            #expect(try await store.releaseRetries(until: soon, limit: 9).next == nil)
            #expect(try await Self.record(fixture, device).state == .failed)
        }
    }

    @Test(
        "a push that no session took is missed until one takes it or the device reports",
        arguments: EngineUnderTest.all
    )
    func missedPushes(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, package in
            let store = fixture.store
            func push() async throws {
                #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
                // Whether it was taken is stored in a later write, and writes come in order.
                _ = try await store.countUsers()
                try await store.toldStalled(
                    StalledUpdate(
                        device: Originator(id: device.id.uuid, name: "", type: ""),
                        record: try await Self.record(fixture, device)
                    )
                )
            }
            #expect(try await store.missedPushes(of: device.id) == [])
            try await push()
            let missed = try await store.missedPushes(of: device.id)
            #expect(missed.map(\.packageId) == [package.id])
            #expect(missed.map(\.cause) == [.resent])
            #expect(missed.map(\.device.type) == ["profile"])
            #expect(try await store.missedPushes(of: .random()) == [])
            let told = fixture.notifications(of: device.id)
            try await push()
            #expect(told.all.count == 1)
            #expect(try await store.missedPushes(of: device.id) == [])
        }
        try await Self.withUpdate(engine) { fixture, device, package in
            let store = fixture.store
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            #expect(try await store.missedPushes(of: device.id).count == 1)
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            #expect(try await store.missedPushes(of: device.id) == [])
        }
    }

    @Test("events are what was appended since a reader came, without what did not fit", arguments: EngineUnderTest.all)
    func events(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, package in
            let store = fixture.store
            await expectRefusal("no reader of update events is named 'chain/node'; add it first", code: .notFound) {
                _ = try await store.updateEvents(unreadBy: "chain/node", limit: 10)
            }
            try await store.addReader("chain/node")
            let start = try await store.waitForUpdateEvents(since: nil)
            #expect(try await store.updateEvents(unreadBy: "chain/node", limit: 10) == [])
            let waiting = Task { try await store.waitForUpdateEvents(since: start) }
            _ = try await store.record(Self.report("UPDATED"), of: device.id)
            #expect(try await waiting.value > start)
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            #expect(try await store.carryOut(.resend(includesUpdated: true), on: UpdateFilter(), by: "me") == 1)
            #expect(try await store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
            let events = try await store.updateEvents(unreadBy: "chain/node", limit: 10)
            #expect(events.map(\.entry.state) == ["UPDATED", "QUEUED", "FAILED"])
            #expect(events.map(\.entry.cause) == [nil, .resent, .cancelled])
            #expect(events.map(\.packageId) == [package.id, package.id, package.id])
            #expect(events.map(\.device.name) == ["device", "device", "device"])
            #expect(events.map(\.entry.error) == [nil, nil, "cancelled by me"])
            let first = try await store.updateEvents(unreadBy: "chain/node", limit: 2)
            #expect(first == Array(events[..<2]))
            try await store.noteRead(first, by: "chain/node")
            try await store.addReader("chain/node")
            #expect(try await store.updateEvents(unreadBy: "chain/node", limit: 10) == [events[2]])
            // Another one begins with what comes next.
            try await store.addReader("chain/new")
            #expect(try await store.updateEvents(unreadBy: "chain/new", limit: 10) == [])
        }
    }
}
