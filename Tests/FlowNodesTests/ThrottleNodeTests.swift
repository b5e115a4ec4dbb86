import NodeKit
import NodeTesting
import Synchronization
import Testing

@testable import FlowNodes

@Suite struct ThrottleNodeTests {
    private let domain: TestDomain
    private let clock = LeapingClock()
    private let tally = Tally()

    init() throws { self.domain = try TestDomain() }

    private var queue: any MessageQueue { self.domain.store.queue(named: "test/node") }

    private func throttle(_ attributes: [String: String] = [:]) throws -> ThrottleNode {
        try ThrottleNode.make(attributes, services: self.domain.services(clock: self.clock))
    }

    /// An outlet that counts after it has the answer.
    private func outlet(_ answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) })
        -> TestOutlet
    {
        let tally = self.tally
        return TestOutlet { message in
            defer { tally.add() }
            return await answer(message)
        }
    }

    /// Runs the node until so many messages were answered.
    private func run(_ node: ThrottleNode, _ outlet: TestOutlet, until count: Int) async throws {
        let run = Task { try await node.run(outlet) }
        await self.tally.wait(for: count)
        run.cancel()
        try await run.value
    }

    private func number(_ message: Message) -> Int64? { message.metadata.integer("number") }

    @Test func `a message ends in the throttle and goes on later as it was`() async throws {
        let node = try self.throttle()
        let message = Message.of(.postTelemetryRequest, ["number": 1], ["a": 1])
        #expect(try await node.process(message).routes.isEmpty)
        let outlet = self.outlet()
        try await self.run(node, outlet, until: 1)
        let sent = try #require(outlet.sent.first)
        #expect(sent.relation == .success)
        #expect(sent.message.metadata == message.metadata)
        #expect(sent.message.data == message.data)
        #expect(try await self.queue.count() == 0)
    }

    @Test func `lets messages go in order with a pause from one to the next`() async throws {
        let clock = self.clock
        let times = Mutex<[Duration]>([])
        let node = try self.throttle()
        for number in 1...40 { _ = try await node.process(.of("T", ["number": .integer(Int64(number))])) }
        let outlet = self.outlet { _ in
            times.withLock { $0.append(clock.elapsed) }
            return .completed(nil)
        }
        try await self.run(node, outlet, until: 40)
        #expect(outlet.sent.map { self.number($0.message) } == (1...40).map { $0 })
        #expect(times.withLock { $0 } == (0..<40).map { .milliseconds(600) * $0 })
    }

    @Test(arguments: [(0, 600), (200, 600), (600, 600), (900, 900)])
    func `the time that the chain spends counts as part of the pause`(spent: Int, interval: Int) async throws {
        let clock = self.clock
        let times = Mutex<[Duration]>([])
        let node = try self.throttle()
        for _ in 1...3 { _ = try await node.process(.of()) }
        let outlet = self.outlet { _ in
            times.withLock { $0.append(clock.elapsed) }
            clock.advance(by: .milliseconds(spent))
            return .completed(nil)
        }
        try await self.run(node, outlet, until: 3)
        #expect(times.withLock { $0 } == (0..<3).map { .milliseconds(interval) * $0 })
    }

    @Test func `a lone message that comes later goes on at once`() async throws {
        let node = try self.throttle(["interval-milliseconds": "3600000"])
        let outlet = self.outlet()
        let run = Task { try await node.run(outlet) }
        #expect(await outlet.listeners().isEmpty)
        for count in 1...3 {
            _ = try await node.process(.of())
            await self.tally.wait(for: count)
        }
        run.cancel()
        try await run.value
        // No pause is longer than it must be: the next message starts the next interval.
        #expect(self.clock.elapsed <= .seconds(3 * 3600))
    }

    @Test func `messages that wait survive a restart`() async throws {
        let before = try self.throttle()
        for number in 1...3 { _ = try await before.process(.of("T", ["number": .integer(Int64(number))])) }
        let after = try self.throttle()
        let outlet = self.outlet()
        try await self.run(after, outlet, until: 3)
        #expect(outlet.sent.map { self.number($0.message) } == [1, 2, 3])
        #expect(try await self.queue.count() == 0)
    }

    @Test func `a message under way when the host stops comes again`() async throws {
        let node = try self.throttle()
        _ = try await node.process(.of())
        let stopped = self.outlet { _ in .failed(NodeError(wrapping: CancellationError())) }
        try await self.run(node, stopped, until: 1)
        #expect(try await self.queue.count() == 1)
    }

    @Test(arguments: ["0", "600"])
    func `what the chain finished while the host stops does not come again`(interval: String) async throws {
        let isAtChain = AsyncStream.makeStream(of: Void.self)
        let mayGoOn = AsyncStream.makeStream(of: Void.self)
        let node = try self.throttle(["interval-milliseconds": interval])
        _ = try await node.process(.of())
        let outlet = self.outlet { _ in
            isAtChain.continuation.finish()
            // Not in this task, which is cancelled.
            await Task { for await _ in mayGoOn.stream {} }.value
            return .completed(nil)
        }
        let run = Task { try await node.run(outlet) }
        for await _ in isAtChain.stream {}
        run.cancel()
        mayGoOn.continuation.finish()
        try await run.value
        #expect(try await self.queue.count() == 0)
    }

    @Test func `refuses more messages than may wait, and takes them again when there is room`() async throws {
        let node = try self.throttle(["waiting-max": "2", "interval-milliseconds": "0"])
        for _ in 1...2 { _ = try await node.process(.of()) }
        let error = await #expect(throws: NodeError.self) { try await node.process(.of()) }
        #expect(error?.code == .unavailable)
        #expect(error?.isRetryable == true)
        try await self.run(node, self.outlet(), until: 2)
        #expect(try await node.process(.of()).routes.isEmpty)
    }

    @Test func `counts what waited before a restart`() async throws {
        let before = try self.throttle(["waiting-max": "2"])
        for _ in 1...2 { _ = try await before.process(.of()) }
        let after = try self.throttle(["waiting-max": "2"])
        await #expect(throws: NodeError.self) { try await after.process(.of()) }
    }

    @Test func `a message that could not be stored takes no place`() async throws {
        let queues = FailingQueues()
        let node = try ThrottleNode.make(
            ["waiting-max": "1"],
            services: .testing { $0.register(queues, as: (any MessageQueues).self) }
        )
        for _ in 1...3 {
            let error = await #expect(throws: NodeError.self) { try await node.process(.of()) }
            #expect(error?.code == .storageFull)
        }
    }

    @Test(arguments: ["0", "600"])
    func `gives up what can never be handled`(interval: String) async throws {
        let node = try self.throttle(["interval-milliseconds": interval])
        for number in 1...3 { _ = try await node.process(.of("T", ["number": .integer(Int64(number))])) }
        let outlet = self.outlet { message in
            message.metadata.integer("number") == 2 ? .failed(NodeError(.badRequest, "no")) : .completed(nil)
        }
        try await self.run(node, outlet, until: 3)
        #expect(outlet.sent.map { self.number($0.message) } == [1, 2, 3])
        #expect(try await self.queue.count() == 0)
    }

    @Test(arguments: ["0", "600"])
    func `tries again what cannot be handled now, and lets other devices go on`(interval: String) async throws {
        let failures = Mutex(5)
        let node = try self.throttle(["interval-milliseconds": interval])
        for number in 1...6 {
            _ = try await node.process(.of("T", ["number": .integer(Int64(number))], from: number % 3 == 1 ? 1 : 2))
        }
        let outlet = self.outlet { message in
            guard message.metadata.integer("number") == 1 else { return .completed(nil) }
            return failures.withLock {
                $0 -= 1
                return $0 >= 0 ? .failed(NodeError(.unavailable, "busy")) : .completed(nil)
            }
        }
        try await self.run(node, outlet, until: 11)
        let sent = outlet.sent.map(\.message)
        #expect(sent.filter { $0.originator == .numbered(1) }.map(self.number) == [1, 1, 1, 1, 1, 1, 4])
        #expect(sent.filter { $0.originator == .numbered(2) }.map(self.number) == [2, 3, 5, 6])
        #expect(sent.last.flatMap(self.number) == 4)
        #expect(try await self.queue.count() == 0)
    }

    @Test func `finds messages of others behind many of a device that waits`() async throws {
        let node = try self.throttle(["interval-milliseconds": "0"])
        for _ in 1...1000 { _ = try await node.process(.of(from: 1)) }
        _ = try await node.process(.of(from: 2))
        let isThere = AsyncStream.makeStream(of: Void.self)
        let outlet = TestOutlet { message in
            guard message.originator == .numbered(2) else { return .failed(NodeError(.unavailable, "busy")) }
            isThere.continuation.finish()
            return .completed(nil)
        }
        let run = Task { try await node.run(outlet) }
        for await _ in isThere.stream {}
        run.cancel()
        try await run.value
        #expect(try await self.queue.count() >= 1000)
    }

    @Test func `without a pause lets devices go side by side and each device's messages in order`() async throws {
        struct Seen {
            var present = 0
            var most = 0
            var order: [Originator: [Int64]] = [:]
        }
        let seen = Mutex(Seen())
        let node = try self.throttle(["interval-milliseconds": "0", "in-flight-max": "4"])
        for number in 0..<2000 {
            _ = try await node.process(.of("T", ["number": .integer(Int64(number))], from: UInt8(number % 16)))
        }
        let outlet = self.outlet { message in
            seen.withLock {
                $0.present += 1
                $0.most = max($0.most, $0.present)
                $0.order[message.originator, default: []].append(message.metadata.integer("number") ?? -1)
            }
            await Task.yield()
            seen.withLock { $0.present -= 1 }
            return .completed(nil)
        }
        try await self.run(node, outlet, until: 2000)
        #expect(seen.withLock { 2...4 ~= $0.most })
        #expect(seen.withLock { $0.order.values.allSatisfy { $0 == $0.sorted() && $0.count == 125 } })
    }
}

@Suite struct RetriesTests {
    @Test func `the pause grows to half a minute`() {
        var retries = Retries<ContinuousClock.Instant>()
        let now = ContinuousClock.now
        let message = QueuedMessage(id: 1, message: .of())
        let pauses = (1...11).map { _ in
            retries.postpone(message, now: now)
            return retries.nextDue.map { now.duration(to: $0) }
        }
        #expect(
            pauses
                == [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000].map { .milliseconds($0) }
        )
        #expect(retries.isBehindAnother(QueuedMessage(id: 2, message: .of())))
        #expect(!retries.isBehindAnother(message))
        retries.finished(message)
        #expect(retries.nextDue == nil)
    }
}

/// Queues on a disk that is full.
private struct FailingQueues: MessageQueues, MessageQueue {
    func queue(named name: String) -> any MessageQueue { self }
    func append(_ message: Message) async throws { throw NodeError(.storageFull, "the disk is full") }
    func first(_ limit: Int) async throws -> [QueuedMessage] { [] }
    func remove(_ ids: [Int64]) async throws {}
    func count() async throws -> Int { 0 }
}
