import FoundationEssentials
import NodeKit
import NodeTesting
import OTA
import Store
import Synchronization
import Testing

@testable import OTANodes

@Suite struct MissedPushesNodeTests {
    @Test func `a device that returns is notified of what it missed, and only of that`() async throws {
        try await Fleet.run { fleet in
            let push = try AttributePushNode.make(services: fleet.services)
            let node = try MissedPushesNode.make(services: fleet.services)
            let assignments = try await fleet.store.assignments(after: 0, limit: 1)
            #expect(try await push.process(Message(try #require(assignments.first))).only.relation == .success)
            #expect(try await fleet.record().state == .initiated)
            try await fleet.store.settle(assignments.map(\.id))
            let outlet = TestOutlet { message in
                guard let emission = try? await push.process(message), emission.only.relation == .success else {
                    return .failed(NodeError("test", "not pushed"))
                }
                return .completed(nil)
            }
            let told = Mutex<[DeviceNotification]>([])
            let assigned = try AssignmentsNode.make(services: fleet.services)
            let run = Task { try await node.run(TestOutlet()) }
            let handingOn = Task { try await assigned.run(outlet) }
            defer {
                run.cancel()
                handingOn.cancel()
            }
            _ = await outlet.listeners()
            let id = fleet.device.id.uuid
            // A listener for calls is not notified of attributes.
            let calls = fleet.sessions.subscribeSelectively(id, interests: .calls) { _ in false }
            let attributes = fleet.sessions.subscribeSelectively(id, interests: .attributes) { notification in
                told.withLock { $0.append(notification) }
                return true
            }
            try await eventually { told.withLock { !$0.isEmpty } }
            try await eventually { try await fleet.store.missedPushes(of: fleet.device.id).isEmpty }
            fleet.sessions.unsubscribe(attributes)
            fleet.sessions.unsubscribe(calls)
            let again = fleet.sessions.subscribeSelectively(id, interests: .attributes) { _ in true }
            fleet.sessions.unsubscribe(again)
            run.cancel()
            handingOn.cancel()
            try await run.value
            try await handingOn.value
            #expect(outlet.sent.map(\.message.type) == [.packageAssigned])
            #expect(outlet.sent.first?.message.metadata.string("cause") == "RESENT")
            guard case .attributesUpdated(let values)? = told.withLock({ $0.first }) else {
                throw NodeError("test", "no push")
            }
            #expect(values["fw_title"] == "fw" && values["fw_url"] == "http://x")
        }
    }

    @Test(
        "a device that listens for its attributes and asks for them is notified once",
        .bug(id: "T2"),
        arguments: [["listen", "ask"], ["ask", "listen"], ["listen", "ask", "listen"], ["listen", "info"]]
    )
    func once(steps: [String]) async throws {
        try await Returning.run { device in
            for step in steps {
                switch step {
                case "listen": device.listen()
                case "ask": try await device.ask()
                default: try await device.askForPackage()
                }
            }
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .seconds(1))
            try await eventually { try await !device.misses() }
            #expect(device.outlet.sent.isEmpty)
        }
    }

    @Test("a reply that lacks part of what a device needs does not take the place of its push", .bug(id: "T2"))
    func partial() async throws {
        try await Returning.run { device in
            device.listen()
            try await device.ask("fw_title,fw_version")
            try await device.ask("fw_url")
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .seconds(1))
            try await eventually { try await !device.misses() }
            #expect(device.outlet.sent.map(\.message.type) == [.packageAssigned])
        }
    }

    @Test("a reply about an earlier package does not take the place of the push of the present one", .bug(id: "T2"))
    func earlier() async throws {
        try await Returning.run { device in
            device.listen()
            device.fleet.sessions.replied(
                to: device.id,
                ["fw_title": "fw", "fw_version": "0", "fw_url": "http://x"]
            )
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .seconds(1))
            try await eventually { device.outlet.sent.count == 1 }
        }
    }

    @Test("a device that does not ask gets one push after the quiet time, however often it listened", .bug(id: "T2"))
    func quiet() async throws {
        try await Returning.run { device in
            for _ in 0..<3 { device.listen() }
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .milliseconds(999))
            device.listen()
            for _ in 0..<20 { _ = try await device.misses() }
            #expect(device.outlet.sent.isEmpty)
            device.clock.advance(by: .milliseconds(1))
            try await eventually { try await !device.misses() }
            #expect(device.outlet.sent.count == 1)
        }
    }

    @Test(
        "the quiet time of a device begins when it listens, whatever it asked for before",
        .bug(id: "T2")
    )
    func beginsWithListener() async throws {
        try await Returning.run { device in
            // An offer of the package before this one.
            device.fleet.sessions.replied(
                to: device.id,
                ["fw_title": "fw", "fw_version": "0", "fw_url": "http://x"]
            )
            device.clock.advance(by: .milliseconds(900))
            device.listen()
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .milliseconds(300))
            try await device.ask()
            device.clock.advance(by: .milliseconds(700))
            try await eventually { try await !device.misses() }
            #expect(device.outlet.sent.isEmpty)
        }
    }

    @Test("a reply to a device that does not listen counts at once, each time that it missed a push", .bug(id: "T2"))
    func polling() async throws {
        try await Returning.run { device in
            try await device.ask()
            try await eventually { try await !device.misses() }
            try await device.ask()
            let filter = UpdateFilter(devices: [DeviceId(device.id)])
            #expect(try await device.fleet.store.carryOut(.resend(includesUpdated: false), on: filter, by: "test") == 1)
            try await eventually { try await device.misses() }
            try await device.ask()
            try await eventually { try await !device.misses() }
            // What the command had sent.
            #expect(device.outlet.sent.count == 1)
        }
    }

    @Test("without a quiet time a push is sent at once", .bug(id: "T2"))
    func atOnce() async throws {
        try await Returning.run(["quiet-milliseconds": "0"]) { device in
            device.listen()
            try await eventually { try await !device.misses() }
            #expect(device.outlet.sent.count == 1)
        }
    }

    @Test("a device that leaves during the quiet time gets its push at once when it returns", .bug(id: "T2"))
    func hasty() async throws {
        // One at a time, so that the node waits for the next one only when it is done with the first.
        try await Returning.run(["in-flight-max": "1"]) { device in
            device.fleet.sessions.unsubscribe(device.listen())
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .seconds(1))
            // The end of the wait shows in what the node does next.
            let other = DeviceId.random().uuid
            _ = device.fleet.sessions.subscribeSelectively(other, interests: .attributes) { _ in true }
            await device.clock.sleeper(for: .seconds(1))
            #expect(try await device.misses())
            device.listen()
            try await eventually { try await !device.misses() }
            #expect(device.outlet.sent.count == 1)
        }
    }

    @Test("a device that leaves after the reply is notified again when it returns", .bug(id: "T2"))
    func leftAfterReply() async throws {
        // One at a time, so that the node waits for the next one only when it is done with the first.
        try await Returning.run(["in-flight-max": "1"]) { device in
            let session = device.listen()
            try await device.ask()
            device.fleet.sessions.unsubscribe(session)
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .seconds(1))
            _ = device.fleet.sessions.subscribeSelectively(DeviceId.random().uuid, interests: .attributes) { _ in true }
            await device.clock.sleeper(for: .seconds(1))
            #expect(try await device.misses())
            device.listen()
            device.clock.advance(by: .seconds(1))
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .seconds(1))
            try await eventually { try await !device.misses() }
            #expect(device.outlet.sent.count == 1)
        }
    }

    @Test("devices that wait, and one that the chain is busy with, do not hold up others", .bug(id: "T2"))
    func sideBySide() async throws {
        try await Returning.run(["in-flight-max": "2"], devices: 3, isFirstStuck: true) { device in
            device.listen()
            await device.clock.sleeper(for: .seconds(1))
            device.clock.advance(by: .seconds(1))
            try await eventually { device.outlet.sent.count == 1 }
            for other in device.others {
                device.listen(other)
                await device.clock.sleeper(for: .seconds(1))
                device.clock.advance(by: .seconds(1))
                try await eventually { try await !device.misses(other) }
            }
            #expect(device.outlet.sent.count == 3)
        }
    }
}

/// Devices that missed the push of their package, of which the first returns.
private struct Returning: Sendable {
    let fleet: Fleet
    let clock: ManualClock
    let outlet: TestOutlet
    let others: [UUID]
    let push: AttributePushNode
    private let replies: AttributesReplyNode
    private let info: PackageInfoNode

    var id: UUID { self.fleet.device.id.uuid }

    static func run(
        _ attributes: [String: String] = [:],
        devices count: Int = 1,
        isFirstStuck: Bool = false,
        _ body: (Returning) async throws -> Void
    ) async throws {
        try await Fleet.run { fleet in
            var others: [UUID] = []
            for number in 1..<count {
                var other = Device(name: "d\(number)", deviceProfileId: fleet.device.deviceProfileId)
                other.firmwareId = fleet.package.id
                others.append(try await fleet.store.saveDevice(other, accessToken: nil).id.uuid)
            }
            let push = try AttributePushNode.make(services: fleet.services)
            for assignment in try await fleet.store.assignments(after: 0, limit: count) {
                #expect(try await push.process(Message(assignment)).only.relation == .success)
                try await fleet.store.settle([assignment.id])
            }
            let first = fleet.device.id.uuid
            let outlet = TestOutlet { message in
                if isFirstStuck, message.originator.id == first { try? await Task.sleep(for: .seconds(3600)) }
                guard (try? await push.process(message))?.only.relation == .success else {
                    return .failed(NodeError("test", "not pushed"))
                }
                return .completed(nil)
            }
            let services = fleet.domain.services()
            guard let clock = services.clock as? ManualClock else { throw NodeError("test", "no clock") }
            let node = try MissedPushesNode.make(attributes, services: services)
            let assigned = try AssignmentsNode.make(services: services)
            let missed = TestOutlet()
            let run = Task { try await node.run(missed) }
            let handingOn = Task { try await assigned.run(outlet) }
            defer {
                run.cancel()
                handingOn.cancel()
            }
            _ = await missed.listeners()
            _ = await outlet.listeners()
            try await body(
                Returning(
                    fleet: fleet,
                    clock: clock,
                    outlet: outlet,
                    others: others,
                    push: push,
                    replies: try AttributesReplyNode.make(services: services),
                    info: try PackageInfoNode.make(services: services)
                )
            )
            run.cancel()
            handingOn.cancel()
            try await run.value
            try await handingOn.value
            #expect(missed.sent.isEmpty)
        }
    }

    @discardableResult
    func listen(_ device: UUID? = nil) -> DeviceSessions.Subscription {
        self.fleet.sessions.subscribeSelectively(device ?? self.id, interests: .attributes) { _ in true }
    }

    private var originator: Originator { Originator(id: self.id, name: "d", type: "p") }

    func ask(_ keys: String? = nil) async throws {
        var message = Message(originator: self.originator, type: .getAttributesRequest, timestamp: self.fleet.now)
        message.metadata[MessageKey.sharedKeys] = keys.map(JSON.string)
        #expect(try await self.replies.process(message).only.message.reply != nil)
    }

    func askForPackage() async throws {
        var message = Message(originator: self.originator, type: .packageInfoRequest, timestamp: self.fleet.now)
        let package = try await self.fleet.store.package(self.fleet.package.id)
        message.attach(try #require(package))
        #expect(try self.info.decide(message).only.message.reply != nil)
    }

    func misses(_ device: UUID? = nil) async throws -> Bool {
        try await !self.fleet.store.missedPushes(of: DeviceId(device ?? self.id)).isEmpty
    }
}
