import FoundationEssentials
import NodeKit
import NodeTesting
import OTA
import Store
import Synchronization
import Testing

@testable import OTANodes

/// A domain with one device whose update is queued.
struct Fleet: Sendable {
    let domain: TestDomain
    let device: Device
    let package: OtaPackage

    static func run(_ body: (Fleet) async throws -> Void) async throws {
        let domain = try TestDomain(at: Timestamp(milliseconds: 0))
        let profile = try await domain.profile("p")
        let package = try await domain.package(in: profile.id, url: "http://x")
        let device = try await domain.device("d", in: profile.id, firmware: package.id)
        let fleet = Fleet(domain: domain, device: device, package: package)
        try await body(fleet)
        #expect(try await fleet.store.check() == [])
    }

    var store: SQLiteStore { self.domain.store }
    var sessions: DeviceSessions { self.domain.sessions }
    var now: Timestamp { self.domain.now() }

    func advance(_ duration: Duration) { self.domain.clock.advance(by: duration) }

    var services: NodeServices { self.domain.services(clock: LeapingClock()) }

    func record() async throws -> UpdateRecord {
        try #require(try await self.store.updateRecord(of: self.device.id, type: .firmware))
    }

    func report(_ state: String, error: String? = nil) async throws {
        _ = try await self.store.record(
            StateReport(type: .firmware, state: state, error: error, timestamp: self.now),
            of: self.device.id
        )
    }

    /// Runs an ingress node until its messages fulfil a condition.
    func run(
        _ node: some IngressNode,
        _ outlet: TestOutlet = TestOutlet(),
        until isDone: @escaping @Sendable (TestOutlet) async throws -> Bool
    ) async throws {
        let run = Task { try await node.run(outlet) }
        defer { run.cancel() }
        #expect(await outlet.listeners().isEmpty)
        try await eventually { try await isDone(outlet) }
        run.cancel()
        try await run.value
    }

    /// Where a node sends the message that tells that the update stands still.
    func stalled(
        _ attributes: [String: String],
        to node: some Node
    ) async throws -> (message: Message, relation: Relation) {
        let route = Mutex<(message: Message, relation: Relation)?>(nil)
        let outlet = TestOutlet { message in
            guard let emission = try? await node.process(message) else { return .failed(NodeError("test", "failed")) }
            route.withLock { $0 = emission.only }
            return .completed(nil)
        }
        try await self.run(try StalledNode.make(attributes, services: self.services), outlet) { _ in
            route.withLock { $0 != nil }
        }
        return try #require(route.withLock { $0 })
    }
}

/// Asks again and again until something is so.
func eventually(
    _ condition: () async throws -> Bool,
    sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    for _ in 0..<6000 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("it did not come to be within a minute", sourceLocation: sourceLocation)
}

@Suite struct UpdateControlNodeTests {
    @Test func `tells of an update that stands still for as long as its state may last, and not before`() async throws {
        try await Fleet.run { fleet in
            try await fleet.report("DOWNLOADING")
            fleet.advance(.seconds(99))
            let node = try StalledNode.make(
                ["downloading-seconds": "100", "queued-seconds": "1"],
                services: fleet.services
            )
            let outlet = TestOutlet()
            let run = Task { try await node.run(outlet) }
            defer { run.cancel() }
            _ = await outlet.listeners()
            for _ in 0..<20 { _ = try await fleet.record() }
            #expect(outlet.sent.isEmpty)
            fleet.advance(.seconds(1))
            try await eventually { !outlet.sent.isEmpty }
            let message = try #require(outlet.sent.first?.message)
            #expect(message.type == .updateStalled)
            #expect(message.originator == Originator(id: fleet.device.id.uuid, name: "d", type: "p"))
            #expect(
                message.metadata == [
                    "packageType": "FIRMWARE", "title": "fw", "version": "1", "state": "DOWNLOADING", "attempts": 1,
                    "activeTime": 0, "stalledSeconds": 100, "packageId": .string(fleet.package.id.description),
                ]
            )
            // What the chain leaves as it is comes again after the same time.
            try await eventually { try await fleet.record().activeTime == fleet.now }
            fleet.advance(.seconds(100))
            try await eventually { outlet.sent.count == 2 }
            run.cancel()
            try await run.value
        }
    }

    @Test func `tells again of what the chain could not handle now, and gives up what it never can`() async throws {
        try await Fleet.run { fleet in
            fleet.advance(.seconds(10))
            let answers = Mutex<[Outcome]>([
                .failed(NodeError(.unavailable, "busy")), .failed(NodeError(.badRequest, "no")),
            ])
            let outlet = TestOutlet { _ in answers.withLock { $0.isEmpty ? .completed(nil) : $0.removeFirst() } }
            try await fleet.run(try StalledNode.make(["queued-seconds": "10"], services: fleet.services), outlet) { _ in
                try await fleet.record().activeTime == fleet.now
            }
            #expect(outlet.sent.count == 2)
        }
    }

    @Test func `fails what stands still, with a reason, unless it moved`() async throws {
        try await Fleet.run { fleet in
            try await fleet.report("DOWNLOADING")
            fleet.advance(.seconds(100))
            let node = try FailUpdateNode.make(services: fleet.services)
            let old = Mutex<Message?>(nil)
            let outlet = TestOutlet { message in
                old.withLock { $0 = message }
                return .completed(nil)
            }
            let stalled = try StalledNode.make(["downloading-seconds": "100"], services: fleet.services)
            try await fleet.run(stalled, outlet) { _ in try await fleet.record().activeTime == fleet.now }
            // It counts anew, as somebody was told.
            let message = try #require(old.withLock { $0 })
            #expect(try await node.process(message).only.relation == "Unchanged")
            try await fleet.report("DOWNLOADED")
            fleet.advance(.seconds(50))
            let route = try await fleet.stalled(["downloaded-seconds": "50"], to: node)
            #expect(route.relation == .success)
            let reason = "timed out: nothing was heard of the update in DOWNLOADED for 50 s"
            #expect(route.message.metadata.string("updateError") == reason)
            let record = try await fleet.record()
            #expect(record.state == .failed && record.error == reason && record.failureCause == .timedOut)
        }
    }

    @Test func `ends an update for a reason of the chain's own`() async throws {
        try await Fleet.run { fleet in
            let node = try FailUpdateNode.make(["reason": "battery too low"], services: fleet.services)
            let message = Message(
                originator: Originator(id: fleet.device.id.uuid, name: "d", type: "p"),
                type: .postTelemetryRequest,
                metadata: ["packageType": "FIRMWARE"],
                timestamp: fleet.now
            )
            #expect(try await node.process(message).only.relation == .success)
            #expect(try await node.process(message).only.relation == "Unchanged")
            let record = try await fleet.record()
            #expect(record.error == "battery too low" && record.failureCause == nil)
            var bad = message
            bad.metadata = [:]
            await #expect(throws: NodeError.self) { try await node.process(bad) }
        }
    }

    @Test func `tries again after pauses that double, as often as allowed`() async throws {
        try await Fleet.run { fleet in
            let attributes = ["attempts-max": "4", "backoff-seconds": "60", "backoff-max-seconds": "200"]
            let node = try RetryUpdateNode.make(attributes, services: fleet.services)
            for (attempt, pause) in [(1, 60), (2, 120), (3, 200)] as [(Int64, Int64)] {
                fleet.advance(.seconds(10))
                let route = try await fleet.stalled(["queued-seconds": "10"], to: node)
                #expect(route.relation == .success)
                #expect(route.message.metadata.integer("attempts") == attempt)
                let due = fleet.now.adding(.seconds(pause))
                #expect(route.message.metadata.integer("retryTime") == due.rawValue)
                let failed = try await fleet.record()
                #expect(failed.state == .failed && failed.retryTime == due)
                #expect(failed.error?.hasSuffix("attempt \(attempt + 1) of 4 follows") == true)
                fleet.advance(.milliseconds(pause * 1000 - 1))
                try await fleet.run(node) { _ in true }
                #expect(try await fleet.record().state == .failed)
                fleet.advance(.milliseconds(1))
                try await fleet.run(node) { _ in try await fleet.record().state == .queued }
            }
            fleet.advance(.seconds(10))
            #expect(try await fleet.stalled(["queued-seconds": "10"], to: node).relation == "Exhausted")
            #expect(try await fleet.record().state == .queued)
        }
    }

    @Test func `tries again what the device says has failed, and nothing else`() async throws {
        try await Fleet.run { fleet in
            let node = try RetryUpdateNode.make(["backoff-seconds": "0"], services: fleet.services)
            var message = Message(
                originator: Originator(id: fleet.device.id.uuid, name: "d", type: "p"),
                type: .postTelemetryRequest,
                metadata: ["packageType": "FIRMWARE"],
                timestamp: fleet.now
            )
            #expect(try await node.process(message).only.relation == "Unchanged")
            try await fleet.report("FAILED", error: "no route")
            #expect(try await node.process(message).only.relation == .success)
            try await fleet.run(node) { _ in try await fleet.record().state == .queued }
            message.metadata = ["packageType": "SOFTWARE"]
            #expect(try await node.process(message).only.relation == "Unchanged")
        }
    }

    @Test func `tells what becomes of updates, in order, and goes on after a restart`() async throws {
        try await Fleet.run { fleet in
            let node = try UpdateEventsNode.make(services: fleet.services)
            let outlet = TestOutlet()
            try await fleet.run(node, outlet) { _ in true }
            try await fleet.report("DOWNLOADING")
            try await fleet.report("IDLE")
            try await fleet.report("FAILED", error: "no route")
            let first = TestOutlet()
            try await fleet.run(node, first) { $0.sent.count == 2 }
            #expect(first.sent.map(\.message.type.rawValue) == ["UPDATE_DOWNLOADING", "UPDATE_FAILED"])
            let message = first.sent[1].message
            #expect(
                message.metadata == [
                    "packageType": "FIRMWARE", "packageId": .string(fleet.package.id.description), "title": "fw",
                    "version": "1", "state": "FAILED", "updateError": "no route",
                ]
            )
            guard case .json(let data) = message.data else { throw NodeError("test", "no data") }
            #expect(data["deviceName"] == "d" && data["state"] == "FAILED" && data["cause"] == .null)
            try await eventually {
                try await fleet.store.updateEvents(unreadBy: "test/node", limit: 1).isEmpty
            }
            _ = try await fleet.store.carryOut(.retry, on: UpdateFilter(), by: "me")
            _ = try await fleet.store.carryOut(.cancel, on: UpdateFilter(), by: "me")
            // The chain cannot take the first one now.
            let failures = Mutex(1)
            let second = TestOutlet { _ in
                failures.withLock {
                    $0 -= 1
                    return $0 >= 0 ? .failed(NodeError(.unavailable, "busy")) : .completed(nil)
                }
            }
            try await fleet.run(node, second) { $0.sent.count == 3 }
            #expect(
                second.sent.map(\.message.type.rawValue) == ["UPDATE_QUEUED", "UPDATE_QUEUED", "UPDATE_CANCELLED"]
            )
            #expect(second.sent[0].message.metadata.string("cause") == "RETRIED")
        }
    }

    @Test func `a cancelled update takes its attributes away, unless it began again`() async throws {
        try await Fleet.run { fleet in
            let push = try AttributePushNode.make(services: fleet.services)
            func shared() async throws -> [String] {
                try await fleet.store.attributes(of: fleet.device.id, scope: .shared, keys: nil).map(\.key)
            }
            func next() async throws -> Message {
                let outlet = TestOutlet()
                try await fleet.run(try AssignmentsNode.make(services: fleet.services), outlet) { !$0.sent.isEmpty }
                return try #require(outlet.sent.first?.message)
            }
            #expect(try await push.process(try await next()).only.relation == .success)
            #expect(try await shared() == ["fw_title", "fw_url", "fw_version"])
            _ = try await fleet.store.carryOut(.cancel, on: UpdateFilter(), by: "me")
            let cancelled = try await next()
            #expect(cancelled.type == .packageUnassigned && cancelled.metadata.string("cause") == "CANCELLED")
            _ = try await fleet.store.carryOut(.retry, on: UpdateFilter(), by: "me")
            #expect(try await push.process(cancelled).only.relation == "Superseded")
            #expect(try await shared().count == 3)
            let retried = try await next()
            #expect(retried.type == .packageAssigned && retried.metadata.string("cause") == "RETRIED")
            _ = try await fleet.store.carryOut(.cancel, on: UpdateFilter(), by: "me")
            #expect(try await push.process(retried).only.relation == "Superseded")
            #expect(try await push.process(try await next()).only.relation == .success)
            #expect(try await shared() == [])
        }
    }

    @Test("the series and the history of an update have the same times", .bug(id: "D1.4"))
    func sameTimes() async throws {
        try await Fleet.run { fleet in
            fleet.advance(.seconds(1))
            let save = try SaveTelemetryNode.make(services: fleet.services)
            let track = try StateTrackingNode.make(services: fleet.services)
            for data in [["fw_state": "DOWNLOADING"], [["fw_state": "DOWNLOADED"], ["fw_state": "VERIFIED"]]] as [JSON]
            {
                let message = Message(
                    originator: Originator(id: fleet.device.id.uuid, name: "d", type: "p"),
                    type: .postTelemetryRequest,
                    data: .json(data),
                    timestamp: fleet.now
                )
                _ = try await track.process(try await save.process(message).stored.message)
            }
            let series = try await fleet.store.timeseries(
                of: fleet.device.id,
                key: "fw_state",
                from: fleet.now,
                to: fleet.now.adding(.seconds(1)),
                limit: 9,
                ascending: true
            )
            let history = try await fleet.store.updateHistory(of: fleet.device.id, type: .firmware).dropFirst()
            #expect(series.map(\.value.text) == ["DOWNLOADING", "DOWNLOADED", "VERIFIED"])
            #expect(history.map(\.state) == series.map(\.value.text))
            #expect(history.map(\.timestamp) == series.map(\.timestamp))
        }
    }
}
