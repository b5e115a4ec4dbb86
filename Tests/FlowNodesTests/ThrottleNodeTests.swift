import NodeKit
import NodeTesting
import Synchronization
import Testing

@testable import FlowNodes

@Suite struct ThrottleNodeTests {
    private let domain: TestDomain
    private let start: Timestamp

    init() throws {
        self.domain = try TestDomain()
        self.start = self.domain.now()
    }

    private var queue: any MessageQueue { self.domain.store.queue(named: "test/node") }

    private func throttle(_ attributes: [String: String] = [:]) throws -> ThrottleNode {
        try ThrottleNode.make(attributes, services: self.domain.services())
    }

    /// Runs the node for so long.
    private func run(_ node: ThrottleNode, _ outlet: TestOutlet, for time: Duration = .seconds(3600)) async throws {
        let run = self.domain.start { try await node.run(outlet) }
        await self.domain.pass(time)
        run.cancel()
        try await run.value
    }

    /// An outlet that notes when each message came.
    private func timing(
        _ times: Times,
        _ answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) }
    ) -> TestOutlet {
        TestOutlet { [start, now = self.domain.now] message in
            times.add(message, start.duration(to: now()))
            return await answer(message)
        }
    }

    private func number(_ message: Message) -> Int64? { message.metadata.integer("number") }

    @Test func `a message ends in the throttle and goes on later as it was`() async throws {
        let node = try self.throttle()
        let message = Message.of(.postTelemetryRequest, ["number": 1], ["a": 1])
        #expect(try await node.process(message).routes.isEmpty)
        let outlet = TestOutlet()
        try await self.run(node, outlet)
        let sent = try #require(outlet.sent.first)
        #expect(sent.relation == .success)
        #expect(sent.message.metadata == message.metadata)
        #expect(sent.message.data == message.data)
        #expect(try await self.queue.count() == 0)
    }

    @Test func `lets messages go in order with a pause from one to the next`() async throws {
        let node = try self.throttle()
        for number in 1...40 { _ = try await node.process(.of("T", ["number": .integer(Int64(number))])) }
        let times = Times()
        try await self.run(node, self.timing(times))
        #expect(times.all.map { self.number($0.message) } == (1...40).map { $0 })
        #expect(times.all.map(\.time) == (0..<40).map { .milliseconds(600) * $0 })
    }

    @Test(arguments: [(0, 600), (200, 600), (600, 600), (900, 900)])
    func `the time that the chain spends counts as part of the pause`(spent: Int, interval: Int) async throws {
        let node = try self.throttle(["in-flight-max": "1"])
        for _ in 1...3 { _ = try await node.process(.of()) }
        let times = Times()
        let outlet = self.timing(times) { [clock = self.domain.clock] _ in
            if spent > 0 { try? await clock.sleep(for: .milliseconds(spent)) }
            return .completed(nil)
        }
        try await self.run(node, outlet)
        #expect(times.all.map(\.time) == (0..<3).map { .milliseconds(interval) * $0 })
    }

    @Test func `with a pause, too, so many messages and no more are under way`() async throws {
        let node = try self.throttle(["in-flight-max": "3"])
        for number in 1...9 { _ = try await node.process(.of(from: UInt8(number))) }
        let times = Times()
        let outlet = self.timing(times) { [clock = self.domain.clock] _ in
            try? await clock.sleep(for: .seconds(10))
            return .completed(nil)
        }
        try await self.run(node, outlet)
        let expected = [0, 600, 1200, 10_000, 10_600, 11_200, 20_000, 20_600, 21_200]
        #expect(times.all.map(\.time) == expected.map { .milliseconds($0) })
    }

    @Test func `a lone message that comes later goes on at once`() async throws {
        let node = try self.throttle(["interval-milliseconds": "3600000"])
        let times = Times()
        let outlet = self.timing(times)
        let run = self.domain.start { try await node.run(outlet) }
        for hours in 0..<3 {
            _ = try await node.process(.of())
            await self.domain.idle()
            #expect(times.all.count == hours + 1)
            await self.domain.pass(.seconds(3600))
        }
        run.cancel()
        try await run.value
    }

    @Test func `messages that wait survive a restart`() async throws {
        let before = try self.throttle()
        for number in 1...3 { _ = try await before.process(.of("T", ["number": .integer(Int64(number))])) }
        let after = try self.throttle()
        let outlet = TestOutlet()
        try await self.run(after, outlet)
        #expect(outlet.sent.map { self.number($0.message) } == [1, 2, 3])
        #expect(try await self.queue.count() == 0)
    }

    @Test func `a message under way when the host stops comes again`() async throws {
        let node = try self.throttle()
        _ = try await node.process(.of())
        let stopped = TestOutlet { _ in .failed(NodeError(wrapping: CancellationError())) }
        try await self.run(node, stopped, for: .seconds(1))
        #expect(try await self.queue.count() == 1)
    }

    @Test(arguments: ["0", "600"])
    func `what the chain finished while the host stops does not come again`(interval: String) async throws {
        let isAtChain = AsyncStream.makeStream(of: Void.self)
        let mayGoOn = AsyncStream.makeStream(of: Void.self)
        let node = try self.throttle(["interval-milliseconds": interval])
        _ = try await node.process(.of())
        let outlet = TestOutlet { _ in
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
        try await self.run(node, TestOutlet())
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
        let outlet = TestOutlet { message in
            message.metadata.integer("number") == 2 ? .failed(NodeError(.badRequest, "no")) : .completed(nil)
        }
        try await self.run(node, outlet)
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
        let outlet = TestOutlet { message in
            guard message.metadata.integer("number") == 1 else { return .completed(nil) }
            return failures.withLock {
                $0 -= 1
                return $0 >= 0 ? .failed(NodeError(.unavailable, "busy")) : .completed(nil)
            }
        }
        try await self.run(node, outlet)
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
        let outlet = TestOutlet { message in
            message.originator == .numbered(2) ? .completed(nil) : .failed(NodeError(.unavailable, "busy"))
        }
        try await self.run(node, outlet, for: .zero)
        #expect(outlet.sent.map(\.message.originator) == [.numbered(1), .numbered(2)])
        #expect(try await self.queue.count() == 1000)
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
        let outlet = TestOutlet { message in
            seen.withLock {
                $0.present += 1
                $0.most = max($0.most, $0.present)
                $0.order[message.originator, default: []].append(message.metadata.integer("number") ?? -1)
            }
            await Task.yield()
            seen.withLock { $0.present -= 1 }
            return .completed(nil)
        }
        try await self.run(node, outlet)
        #expect(seen.withLock { 2...4 ~= $0.most })
        #expect(seen.withLock { $0.order.values.allSatisfy { $0 == $0.sorted() && $0.count == 125 } })
    }
}

/// When messages came.
final class Times: Sendable {
    private let noted = Mutex<[(message: Message, time: Duration)]>([])
    var all: [(message: Message, time: Duration)] { self.noted.withLock { $0 } }
    func add(_ message: Message, _ time: Duration) { self.noted.withLock { $0.append((message, time)) } }
}

/// Queues on a disk that is full.
private struct FailingQueues: MessageQueues, MessageQueue {
    func queue(named name: String) -> any MessageQueue { self }
    func waitingQueues() async throws -> [WaitingQueue] { [] }
    func move(from name: String, to other: String) async throws -> Int { 0 }
    func drop(_ name: String) async throws -> Int { 0 }
    func append(_ message: Message, countMax: Int) async throws { throw NodeError(.storageFull, "the disk is full") }
    func due(at now: Timestamp, limit: Int, without held: Set<Int64>) async throws -> DueMessages { DueMessages() }
    func settle(_ messages: [SettledMessage]) async throws {}
    func postpone(_ messages: [PostponedMessage]) async throws {}
    func arrivals(since mark: UInt64?) async -> UInt64 { mark ?? 0 }
    func count() async throws -> Int { 0 }
}
