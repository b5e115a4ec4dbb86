import FoundationEssentials
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import OTANodes

@Suite struct ActivityNodeTests {
    private let domain: NodeDomain
    private let attributes: WatchedAttributes
    private let time = ManualTime()

    init() async throws {
        self.domain = try await NodeDomain()
        self.attributes = WatchedAttributes(self.domain.store)
    }

    private func node(
        _ attributes: [String: String] = [:],
        clock: any Clock<Duration> = ContinuousClock()
    ) throws -> ActivityNode {
        var services = self.domain.domain.services(
            { $0.register(self.attributes, as: (any AttributesService).self) },
            clock: clock
        )
        services.now = { self.time.now }
        return try ActivityNode.make(attributes, services: services)
    }

    private func pass(seconds: Int64) { self.time.pass(seconds: seconds) }

    private func message(_ type: MessageType = .postTelemetryRequest, from device: Originator = .device) -> Message {
        var message = Message.of(type, [:], ["a": 1])
        message.originator = device
        message.timestamp = self.time.now
        return message
    }

    /// What the node tells now, in words.
    private func told(_ node: ActivityNode, _ answer: Outcome = .completed(nil)) async -> [String] {
        let outlet = TestOutlet { _ in answer }
        await node.tell(outlet)
        return outlet.sent.map { sent in
            guard case .json(let data) = sent.message.data else { return "no data" }
            return "\(sent.relation) \(sent.message.type) \(sent.message.originator.name) \(data)"
        }.sorted()
    }

    @Test func `a device is active from its first message until it was silent for long enough`() async throws {
        let node = try self.node()
        #expect(await self.told(node) == [])
        let (message, relation) = try await node.process(self.message()).only
        #expect(relation == .success && message.data == .json(["a": 1]))
        let active = #"Active ACTIVITY_EVENT device-1 {"active":true,"lastActivityTime":1000000}"#
        #expect(await self.told(node) == [active])
        #expect(await self.told(node) == [])
        self.pass(seconds: 200)
        _ = try await node.process(self.message())
        self.pass(seconds: 599)
        #expect(await self.told(node) == [#"Seen ACTIVITY_EVENT device-1 {"lastActivityTime":1200000}"#])
        self.pass(seconds: 1)
        let inactive =
            #"Inactive INACTIVITY_EVENT device-1 {"active":false,"inactivityAlarmTime":1800000,"lastActivityTime":1200000}"#
        #expect(await self.told(node) == [inactive])
        self.pass(seconds: 10_000)
        #expect(await self.told(node) == [])
        _ = try await node.process(self.message())
        #expect(await self.told(node).count == 1, "it is active again")
    }

    @Test func `says now and then when a device was heard of, if it was`() async throws {
        let node = try self.node(["seen-interval-seconds": "20", "inactivity-timeout-seconds": "1000"])
        let quiet = try self.node(["seen-interval-seconds": "0", "inactivity-timeout-seconds": "1000"])
        for node in [node, quiet] {
            _ = try await node.process(self.message())
            _ = await self.told(node)
        }
        var times: [Int64] = []
        for second in 1...100 {
            self.pass(seconds: 1)
            if second <= 50 { for node in [node, quiet] { _ = try await node.process(self.message()) } }
            if await self.told(node) != [] { times.append(Int64(second)) }
            #expect(await self.told(quiet) == [])
        }
        #expect(times == [20, 40, 60])
    }

    @Test func `a message that comes late does not turn back the time`() async throws {
        let node = try self.node()
        let early = self.message()
        self.pass(seconds: 100)
        for message in [self.message(), early] { _ = try await node.process(message) }
        #expect(await self.told(node).first?.contains(#""lastActivityTime":1100000"#) == true)
    }

    @Test(
        "a device becomes inactive in time when the clock was a year ahead",
        .bug(id: "D2.5"),
        arguments: [true, false]
    )
    func clockAhead(isHeardAgain: Bool) async throws {
        let node = try self.node()
        let year: Int64 = 365 * 86_400
        self.pass(seconds: year)
        _ = try await node.process(self.message())
        #expect(await self.told(node).count == 1)
        self.pass(seconds: -year)
        #expect(await self.told(node) == [])
        if isHeardAgain {
            self.pass(seconds: 300)
            _ = try await node.process(self.message())
            #expect(await self.told(node).first?.hasPrefix("Seen") == true)
        }
        self.pass(seconds: 599)
        #expect(await self.told(node) == [])
        self.pass(seconds: 1)
        let told = await self.told(node)
        #expect(told.count == 1 && told.first?.hasPrefix("Inactive") == true)
    }

    @Test func `sessions are told as they begin and end, and only a beginning is a sign of life`() async throws {
        let node = try self.node()
        let ended = try await node.process(self.message(.disconnectEvent)).routes
        #expect(ended.map(\.relation) == [.success, "Disconnected"])
        #expect(ended.last?.message.data == .json(["lastDisconnectTime": 1_000_000]))
        #expect(await self.told(node) == [])
        let begun = try await node.process(self.message(.connectEvent)).routes
        #expect(begun.map(\.relation) == [.success, "Connected"])
        #expect(begun.last?.message.data == .json(["lastConnectTime": 1_000_000]))
        #expect(begun.last?.message.type == .connectEvent)
        #expect(await self.told(node).count == 1)
    }

    @Test func `who is no device yet is not active`() async throws {
        let node = try self.node()
        _ = try await node.process(self.message(.provisionRequest, from: .unknown(name: "x")))
        #expect(await self.told(node) == [])
    }

    @Test func `what could not be told now is told again, and what can never be told is not`() async throws {
        let node = try self.node(["inactivity-timeout-seconds": "60"])
        _ = try await node.process(self.message())
        let busy = Outcome.failed(NodeError(.unavailable, "busy"))
        let active = #"Active ACTIVITY_EVENT device-1 {"active":true,"lastActivityTime":1000000}"#
        #expect(await self.told(node, busy) == [active])
        #expect(await self.told(node, busy) == [active])
        #expect(await self.told(node) == [active])
        self.pass(seconds: 60)
        for _ in 0..<2 {
            let told = await self.told(node, busy)
            #expect(told.count == 1 && told[0].hasPrefix("Inactive"))
        }
        // It is heard of before that could be told: it never was inactive.
        _ = try await node.process(self.message())
        #expect(await self.told(node) == [])
        self.pass(seconds: 60)
        #expect(await self.told(node, .failed(NodeError(.notFound, "gone"))).count == 1)
        #expect(await self.told(node) == [])
    }

    @Test(arguments: [(64, 64, 64), (64, 65, 64), (1, 65, 64), (65, 128, 128), (65, 129, 128)])
    func `no more devices are watched than are allowed, in 64 parts`(allowed: Int, sent: UInt32, watched: Int)
        async throws
    {
        let node = try self.node(["devices-max": "\(allowed)", "inactivity-timeout-seconds": "60"])
        for number in 1...sent { _ = try await node.process(self.message(from: .numbered(number))) }
        #expect(await self.told(node).count == watched)
        self.pass(seconds: 60)
        #expect(await self.told(node).count == watched)
        _ = try await node.process(self.message(from: .numbered(sent)))
        #expect(await self.told(node).count == 1, "there is room again")
    }

    @Test func `devices that were active before a restart become inactive in time`() async throws {
        let count = UInt32(ActivityNode.pageSize + 1)
        for number in 1...count {
            if number > 1 { try await self.domain.domain.add(.numbered(number)) }
            let device = DeviceId(Originator.numbered(number).id)
            try await self.domain.store.saveAttributes(of: device, scope: .server, ["active": true], at: self.time.now)
        }
        let node = try self.node(clock: LeapingClock())
        // Sent before what is stored is read: active as before, so there is nothing to tell.
        _ = try await node.process(self.message(from: .numbered(1)))
        let told = AsyncStream.makeStream(of: Relation.self)
        let outlet = RelationOutlet { told.continuation.yield($0) }
        let running = Task { try await node.run(outlet) }
        while self.attributes.readCount < 2 { await Task.yield() }
        _ = try await node.process(self.message(from: .numbered(count + 1)))
        var iterator = told.stream.makeAsyncIterator()
        #expect(await iterator.next() == "Active", "of the one that is new")
        self.pass(seconds: 600)
        for _ in 1...(count + 1) { #expect(await iterator.next() == "Inactive") }
        running.cancel()
        try await running.value
    }

    @Test func `a node that was stopped tells again when it is started again`() async throws {
        let node = try self.node()
        for number in 1...2 as ClosedRange<UInt32> {
            let told = AsyncStream.makeStream(of: Relation.self)
            let running = Task { try await node.run(RelationOutlet { told.continuation.yield($0) }) }
            _ = try await node.process(self.message(from: .numbered(number)))
            var iterator = told.stream.makeAsyncIterator()
            #expect(await iterator.next() == "Active")
            running.cancel()
            try await running.value
        }
    }
}

/// A time of day that a test sets.
private final class ManualTime: Sendable {
    private let time = Mutex(Timestamp(milliseconds: 1_000_000))

    var now: Timestamp { self.time.withLock { $0 } }

    func pass(seconds: Int64) { self.time.withLock { $0.rawValue += seconds * 1000 } }
}

/// An outlet that tells by which relations messages leave.
private struct RelationOutlet: Outlet {
    let onSent: @Sendable (Relation) -> Void

    init(_ onSent: @escaping @Sendable (Relation) -> Void) { self.onSent = onSent }

    func send(_ message: Message, by relation: Relation) async -> Outcome {
        self.onSent(relation)
        return .completed(nil)
    }

    func ready(_ listeners: [Listener]) {}
}
