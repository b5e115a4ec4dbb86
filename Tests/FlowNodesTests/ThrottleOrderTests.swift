import FoundationEssentials
import NodeKit
import NodeTesting
import Synchronization
import Testing

@testable import FlowNodes

/// Which of the messages that wait goes next, and when.
@Suite struct ThrottleOrderTests {

    private let domain: TestDomain
    private let start: Timestamp

    init() throws {
        self.domain = try TestDomain()
        self.start = self.domain.now()
    }

    private var queue: any MessageQueue { self.domain.store.queue(named: "test/node") }

    private func message(_ number: Int, key: String? = nil, generation: Int64 = 1, priority: Int = 0) -> Message {
        let bytes = (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
        let id = UUID(uuid: (2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, bytes[3], bytes[2], bytes[1], bytes[0]))
        var message = Message(
            originator: Originator(id: id, name: "d\(number)", type: "default"),
            type: "T",
            metadata: ["number": .integer(Int64(number)), "generation": .integer(generation)],
            timestamp: self.start
        )
        message.precedence = key.map { Precedence(key: $0, generation: generation, priority: priority) }
        return message
    }

    private func add(_ numbers: Range<Int>, key: String? = nil, priority: Int = 0) async throws {
        for number in numbers {
            try await self.queue.append(self.message(number, key: key, priority: priority), countMax: .max)
        }
    }

    /// Runs a throttle while the body lets time pass.
    private func running(
        _ attributes: [String: String] = [:],
        answering answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) },
        _ body: (Times) async throws -> Void
    ) async throws {
        let node = try ThrottleNode.make(attributes, services: self.domain.services())
        let times = Times()
        let outlet = TestOutlet { [start, now = self.domain.now] message in
            times.add(message, start.duration(to: now()))
            return await answer(message)
        }
        let run = self.domain.start { try await node.run(outlet) }
        await self.domain.idle()
        try await body(times)
        run.cancel()
        try await run.value
    }

    private static func number(_ message: Message) -> Int { Int(message.metadata.integer("number") ?? -1) }

    // MARK: Priority

    @Test("what is urgent goes with the next token before 10,000 others, which keep a quarter", .bug(id: "Q2"))
    func urgent() async throws {
        try await self.add(0..<10_000, key: "k")
        try await self.running { times in
            await self.domain.pass(.milliseconds(600 * 10 - 1))
            #expect(times.all.map { Self.number($0.message) } == Array(0..<10))
            try await self.add(20_000..<20_100, key: "k", priority: 9)
            await self.domain.pass(.milliseconds(600 * 120))
            let after = times.all[10...].map { Self.number($0.message) }
            #expect(after.count == 120)
            #expect(after[0] == 20_000, "with the next token")
            for (index, number) in after.enumerated() { #expect((number < 10_000) == (index % 4 == 3), "\(index)") }
            #expect(after.filter { $0 < 10_000 } == Array(10..<40), "in the order in which they were due")
            #expect(after.filter { $0 >= 20_000 } == Array(20_000..<20_090))
        }
    }

    @Test("what is not urgent does not wait for an urgent fleet", .bug(id: "Q2"), arguments: ["0", "600"])
    func share(interval: String) async throws {
        try await self.add(0..<1000, key: "k", priority: 9)
        try await self.add(5000..<5010, key: "k")
        try await self.running(["interval-milliseconds": interval, "in-flight-max": "1"]) { times in
            await self.domain.pass(.milliseconds(600 * 40))
            let numbers = times.all.map { Self.number($0.message) }
            #expect(numbers.prefix(40).filter { $0 >= 5000 } == Array(5000..<5010))
            for (index, number) in numbers.prefix(40).enumerated() {
                #expect((number >= 5000) == (index % 4 == 3), "\(index)")
            }
        }
    }

    // MARK: Later

    @Test("a message goes on not before the time that later says, and at most 10 s after it", .bug(id: "Q1"))
    func untilThen() async throws {
        let until = self.start.adding(.seconds(3600))
        try await self.add(0..<50)
        let answer: @Sendable (Message) async -> Outcome = { [now = self.domain.now] _ in
            now() < until ? .later(Later(until: until, code: "c", reason: "r")) : .completed(nil)
        }
        try await self.running(["interval-milliseconds": "0"], answering: answer) { times in
            await self.domain.pass(.seconds(3700))
            #expect(times.all.count == 100, "once before, and once when it is time")
            let second = times.all[50...].map(\.time)
            #expect(second.allSatisfy { .seconds(3600) <= $0 && $0 <= .seconds(3610) })
            // They do not all go at once.
            #expect(Set(second).count > 25)
            let count = try await self.queue.count()
            #expect(count == 0)
        }
    }

    @Test("a message that is to go soon is not late since another waits for a little longer", .bug(id: "Q1"))
    func alarms() async throws {
        let answer: @Sendable (Message) async -> Outcome = { [start, now = self.domain.now] message in
            let until = start.adding(.seconds(message.metadata.integer("number") == 1 ? 3600 : 3560))
            return now() < until ? .later(Later(until: until, code: "c", reason: "r")) : .completed(nil)
        }
        try await self.add(1..<2)
        try await self.running(answering: answer) { times in
            try await self.add(2..<3)
            await self.domain.pass(.seconds(3700))
            let other = times.all.filter { Self.number($0.message) == 2 }.map(\.time)
            #expect(try #require(other.last) <= .seconds(3560 + 11))
        }
    }

    @Test("how often messages are tried in vain is bounded, however many there are", .bug(id: "Q1"))
    func vainTries() async throws {
        try await self.add(0..<5000, key: "k")
        let answer: @Sendable (Message) async -> Outcome = { [now = self.domain.now] _ in
            .later(Later(until: now(), code: "c", reason: "r"))
        }
        try await self.running(["interval-milliseconds": "0"], answering: answer) { times in
            await self.domain.pass(.seconds(20))
            var counts: [Int64: Int] = [:]
            for (_, time) in times.all { counts[time.components.seconds, default: 0] += 1 }
            #expect(counts.values.max() ?? 0 <= 1000 + 32)
            // And it goes on with all of them, with none much more often than with others.
            #expect(counts.count >= 20)
            let tries = Dictionary(times.all.map { (Self.number($0.message), 1) }, uniquingKeysWith: +)
            #expect(tries.count == 5000)
            let (least, most) = (try #require(tries.values.min()), try #require(tries.values.max()))
            #expect(most - least <= 2)
        }
    }

    @Test("later and superseded take no part in the pace, with many of either", .bug(id: "Q3"))
    func tokens() async throws {
        try await self.add(0..<300)
        let answer: @Sendable (Message) async -> Outcome = { [start] message in
            switch Self.number(message) % 3 {
            case 0 where Self.number(message) < 270: .superseded
            case 1 where Self.number(message) < 270:
                .later(Later(until: start.adding(.seconds(1000)), code: "c", reason: "r"))
            case _ where Self.number(message) < 270: .superseded
            default: .completed(nil)
            }
        }
        try await self.running(answering: answer) { times in
            await self.domain.pass(.seconds(100))
            let sent = times.all.filter { Self.number($0.message) >= 270 }
            #expect(sent.map(\.time) == (0..<30).map { .milliseconds(600) * $0 })
            #expect(times.all.count == 300)
        }
    }

    @Test("what was superseded is swept in small transactions, and nothing waits for that", .bug(id: "Q2"))
    func sweep() async throws {
        // Their devices do not exist.
        try await self.add(0..<5000, key: "FIRMWARE")
        try await self.add(9000..<9001)
        let watched = WatchedQueue(self.queue)
        let node = try ThrottleNode.make(
            services: self.domain.services { $0.register(watched, as: (any MessageQueues).self) }
        )
        let outlet = TestOutlet()
        let run = self.domain.start { try await node.run(outlet) }
        await self.domain.pass(.seconds(1))
        #expect(outlet.sent.map { Self.number($0.message) } == [9000])
        #expect(try await self.queue.count() == 0)
        #expect(watched.settled.max() ?? 0 <= 512)
        #expect(watched.settled.reduce(0, +) == 5001)
        run.cancel()
        try await run.value
    }

    // MARK: Devices

    @Test("many messages of one device hold up no other", .bug(id: "Q3"))
    func flood() async throws {
        for _ in 0..<500 { try await self.queue.append(self.message(1), countMax: .max) }
        try await self.running { times in
            await self.domain.pass(.milliseconds(599))
            try await self.add(2..<12)
            await self.domain.pass(.milliseconds(600 * 12))
            let others = times.all.map { Self.number($0.message) }.filter { $0 != 1 }
            #expect(others == Array(2..<12))
        }
    }

    @Test("a device's messages keep their order, also if one of them is tried again", .bug(id: "Q3"))
    func order() async throws {
        for generation in 1...6 as ClosedRange<Int64> {
            for device in 1...3 {
                try await self.queue.append(self.message(device, generation: generation), countMax: .max)
            }
        }
        let tries = Mutex<[String: Int]>([:])
        let answer: @Sendable (Message) async -> Outcome = { [now = self.domain.now] message in
            let place = "\(Self.number(message))/\(message.metadata.integer("generation") ?? 0)"
            switch tries.withLock({ tries in
                tries[place, default: 0] += 1
                return tries[place, default: 0]
            }) {
            case 1: return .failed(NodeError(.unavailable, "no"))
            case 2: return .later(Later(until: now().adding(.seconds(5)), code: "c", reason: "r"))
            default: return .completed(nil)
            }
        }
        try await self.running(["interval-milliseconds": "0"], answering: answer) { times in
            await self.domain.pass(.seconds(100))
            for device in 1...3 {
                let order = times.all.filter { Self.number($0.message) == device }
                    .compactMap { $0.message.metadata.integer("generation") }
                #expect(order == (1...6).flatMap { [$0, $0, $0] })
            }
            let count = try await self.queue.count()
            #expect(count == 0)
        }
    }

    @Test("of a device's messages the newest of each key goes, and all without one", .bug(id: "Q2"))
    func keys() async throws {
        try await self.domain.add(self.message(1).originator)
        for generation in 1...5 as ClosedRange<Int64> {
            for key in ["FIRMWARE", "SOFTWARE", nil] {
                var message = self.message(1, key: key, generation: generation)
                message.metadata["key"] = .string(key ?? "event")
                try await self.queue.append(message, countMax: .max)
            }
        }
        try await self.running(["interval-milliseconds": "0"]) { times in
            await self.domain.pass(.seconds(1))
            var seen: [String: [Int64]] = [:]
            for (message, _) in times.all {
                seen[message.metadata.string("key") ?? "", default: []].append(
                    message.metadata.integer("generation") ?? 0
                )
            }
            #expect(seen == ["FIRMWARE": [5], "SOFTWARE": [5], "event": [1, 2, 3, 4, 5]])
        }
    }
}

/// A queue that notes how many messages are settled at once.
private final class WatchedQueue: MessageQueues, MessageQueue {
    private let queue: any MessageQueue
    private let counts = Mutex<[Int]>([])

    init(_ queue: any MessageQueue) { self.queue = queue }

    var settled: [Int] { self.counts.withLock { $0 } }

    func queue(named name: String) -> any MessageQueue { self }
    func waitingQueues() async throws -> [WaitingQueue] { [] }
    func move(from name: String, to other: String) async throws -> Int { 0 }
    func drop(_ name: String) async throws -> Int { 0 }
    func append(_ message: Message, countMax: Int) async throws {
        try await self.queue.append(message, countMax: countMax)
    }
    func due(at now: Timestamp, limit: Int, without held: Set<Int64>) async throws -> DueMessages {
        try await self.queue.due(at: now, limit: limit, without: held)
    }
    func settle(_ messages: [SettledMessage]) async throws {
        self.counts.withLock { $0.append(messages.count) }
        try await self.queue.settle(messages)
    }
    func postpone(_ messages: [PostponedMessage]) async throws { try await self.queue.postpone(messages) }
    func arrivals(since mark: UInt64?) async -> UInt64 { await self.queue.arrivals(since: mark) }
    func count() async throws -> Int { try await self.queue.count() }
}
