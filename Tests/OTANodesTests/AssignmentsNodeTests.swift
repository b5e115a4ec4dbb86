import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import OTANodes

@Suite struct AssignmentsNodeTests {
    private let domain: NodeDomain

    init() async throws { self.domain = try await NodeDomain() }

    private var updates: WatchedUpdates { self.domain.updates }

    /// Makes devices, all of them with the firmware of their profile.
    private func assign(_ numbers: Range<UInt32>) async throws {
        for number in numbers where number != 1 { try await self.domain.domain.add(.numbered(number)) }
        let package = try await self.domain.package()
        let profile = try #require(try await self.domain.profile())
        try await self.domain.domain.assign(package.id, to: profile)
        // Those of a large fleet follow in steps, which the store makes as time goes by.
        let work = self.domain.domain.start { [store = self.domain.store] in await store.run() }
        await self.domain.domain.pass(.seconds(1))
        work.cancel()
        try await work.value
    }

    private func assign(_ package: OtaPackageId?, to number: UInt32) async throws {
        try await self.domain.domain.assign(package, to: DeviceId(Originator.numbered(number).id))
    }

    /// Runs the node until `body` is done with it.
    private func running(
        _ outlet: TestOutlet,
        _ attributes: [String: String] = [:],
        clock: any Clock<Duration> = ContinuousClock(),
        _ body: () async throws -> Void
    ) async throws {
        let node = try AssignmentsNode.make(attributes, services: self.domain.services(clock: clock))
        let run = Task { try await node.run(outlet) }
        #expect(await outlet.listeners().isEmpty)
        try await body()
        run.cancel()
        try await run.value
    }

    @Test func `sends a message for each assignment and settles it`() async throws {
        let packageId = try await self.domain.package().id
        let outlet = TestOutlet()
        try await self.domain.domain.add(.numbered(2))
        try await self.assign(packageId, to: 1)
        try await self.assign(packageId, to: 2)
        try await self.assign(nil, to: 2)
        try await self.running(outlet) { await self.updates.settled(2) }
        let messages = outlet.sent.map(\.message).sorted { $0.originator.name < $1.originator.name }
        #expect(messages.map(\.type) == [.packageAssigned, .packageUnassigned])
        #expect(messages[0].metadata == ["packageType": "FIRMWARE", "packageId": .string(packageId.description)])
        #expect(messages[1].metadata == ["packageType": "FIRMWARE"])
        #expect(messages.map(\.originator) == [.numbered(1), .numbered(2)])
        #expect(messages.allSatisfy { $0.timestamp == self.domain.domain.now() })
        #expect(outlet.sent.allSatisfy { $0.relation == .success })
    }

    @Test func `hands on what is assigned while it waits`() async throws {
        let outlet = TestOutlet()
        try await self.domain.domain.add(.numbered(2))
        let packages = [try await self.domain.package("fw", "1").id, try await self.domain.package("fw", "2").id]
        try await self.running(outlet) {
            for round in 1...20 {
                for number in [1, 2] as [UInt32] { try await self.assign(packages[round % 2], to: number) }
                await self.updates.settled(2 * round)
            }
        }
        #expect(outlet.sent.count == 40)
    }

    @Test func `hands on the messages of one device one after the other and in order`() async throws {
        struct Seen {
            var busy: Set<String> = []
            var order: [String: [String]] = [:]
            var overlaps = 0
        }
        let seen = Mutex(Seen())
        let outlet = TestOutlet { message in
            let name = message.originator.name
            seen.withLock {
                if !$0.busy.insert(name).inserted { $0.overlaps += 1 }
                $0.order[name, default: []].append(message.metadata.string("packageId") ?? "")
            }
            for _ in 0..<Int.random(in: 0...5) { await Task.yield() }
            seen.withLock { _ = $0.busy.remove(name) }
            return .completed(nil)
        }
        for number in 0..<10 as Range<UInt32> where number != 1 { try await self.domain.domain.add(.numbered(number)) }
        var packages: [OtaPackageId] = []
        for version in 0..<40 { packages.append(try await self.domain.package("fw", "\(version)").id) }
        try await self.running(outlet, ["in-flight-max": "7"]) {
            for package in packages {
                for number in 0..<10 as Range<UInt32> { try await self.assign(package, to: number) }
                await Task.yield()
            }
            // One that was not read before the next of its device takes its place.
            while try await !self.updates.assignments(after: 0, limit: 1).isEmpty { await Task.yield() }
        }
        #expect(seen.withLock { $0.overlaps } == 0)
        #expect(seen.withLock { $0.order.count } == 10)
        let places = Dictionary(uniqueKeysWithValues: packages.enumerated().map { ($1.description, $0) })
        for order in seen.withLock({ $0.order.values.map { $0.compactMap { places[$0] } } }) {
            #expect(order == order.sorted() && Set(order).count == order.count && order.last == 39)
        }
    }

    @Test(arguments: [1, 5])
    func `handles no more devices side by side than allowed`(limit: Int) async throws {
        let counts = Mutex((present: 0, most: 0))
        let outlet = TestOutlet { _ in
            counts.withLock {
                $0.present += 1
                $0.most = max($0.most, $0.present)
            }
            for _ in 0..<10 { await Task.yield() }
            counts.withLock { $0.present -= 1 }
            return .completed(nil)
        }
        try await self.assign(0..<300)
        try await self.running(outlet, ["in-flight-max": String(limit)]) { await self.updates.settled(300) }
        #expect(counts.withLock { $0.most } <= limit)
    }

    @Test func `holds few of very many assignments in memory`() async throws {
        let bound = 256 + 128 + 64
        let count = 10 * bound
        try await self.assign(0..<UInt32(count))
        let outlet = CountingOutlet()
        let node = try AssignmentsNode.make(services: self.domain.services())
        let run = Task { try await node.run(outlet) }
        await self.updates.settled(count)
        run.cancel()
        try await run.value
        #expect(outlet.count == count)
        #expect(self.updates.look { $0.unsettledMax } <= 2 * bound)
    }

    @Test func `tries again after growing pauses while the chain cannot take it`() async throws {
        let domain = self.domain.domain
        let times = Mutex<[Duration]>([])
        let start = domain.now()
        let outlet = TestOutlet { [now = domain.now] _ in
            let count = times.withLock { times in
                times.append(start.duration(to: now()))
                return times.count
            }
            return count < 12 ? .failed(NodeError(.unavailable, "busy")) : .completed(nil)
        }
        try await self.domain.assign()
        let node = try AssignmentsNode.make(services: self.domain.services())
        let run = domain.start { try await node.run(outlet) }
        await domain.pass(.seconds(200))
        run.cancel()
        try await run.value
        let seen = times.withLock { $0 }
        #expect(
            zip(seen, seen.dropFirst()).map { $1 - $0 }
                == [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000].map { .milliseconds($0) }
        )
        #expect(try await self.domain.store.assignments().isEmpty)
    }

    @Test func `a device that cannot be handled does not hold up the others`() async throws {
        let outlet = TestOutlet { message in
            message.originator == .numbered(0) ? .failed(NodeError(.timedOut, "slow")) : .completed(nil)
        }
        try await self.assign(0..<100)
        try await self.running(outlet) { await self.updates.settled(99) }
        let left = try await self.domain.store.assignments(after: 0, limit: 100)
        #expect(left.map(\.device) == [.numbered(0)])
    }

    @Test func `settles what can never be handled`() async throws {
        let outlet = TestOutlet { _ in .failed(NodeError(.badRequest, "no")) }
        try await self.assign(1..<3)
        try await self.running(outlet) { await self.updates.settled(2) }
        #expect(outlet.sent.count == 2)
    }

    @Test func `what was not settled comes again after a restart, and only that`() async throws {
        let stopped = Mutex<CheckedContinuation<Void, Never>?>(nil)
        try await self.assign(1..<4)
        let first = TestOutlet { message in
            guard message.originator == .numbered(2) else { return .completed(nil) }
            // As the chain does while the host stops: it ends early and says that it may be tried again.
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    stopped.withLock { $0 = continuation }
                    if Task.isCancelled { stopped.withLock { $0.take() }?.resume() }
                }
            } onCancel: {
                stopped.withLock { $0.take() }?.resume()
            }
            return .failed(NodeError(wrapping: CancellationError()))
        }
        try await self.running(first) { await self.updates.settled(2) }
        let second = TestOutlet()
        try await self.running(second) { await self.updates.settled(3) }
        #expect(second.sent.map(\.message.originator) == [.numbered(2)])
    }

    @Test func `what the chain finished while the host stops is settled`() async throws {
        let isAtChain = AsyncStream.makeStream(of: Void.self)
        let mayGoOn = AsyncStream.makeStream(of: Void.self)
        try await self.domain.assign()
        let outlet = TestOutlet { _ in
            isAtChain.continuation.finish()
            // Not in this task, which is cancelled.
            await Task { for await _ in mayGoOn.stream {} }.value
            return .completed(nil)
        }
        let node = try AssignmentsNode.make(services: self.domain.services())
        let run = Task { try await node.run(outlet) }
        for await _ in isAtChain.stream {}
        run.cancel()
        mayGoOn.continuation.finish()
        try await run.value
        #expect(try await self.domain.store.assignments(after: 0, limit: 1).isEmpty)
    }

    @Test func `throws what the store throws, for the host to start it again`() async throws {
        await self.domain.close()
        let node = try AssignmentsNode.make(services: self.domain.services())
        await #expect(throws: NodeError.self) { try await node.run(TestOutlet()) }
    }
}

/// An outlet that only counts.
private final class CountingOutlet: Outlet {
    private let sent = Mutex(0)
    var count: Int { self.sent.withLock { $0 } }

    func send(_ message: Message, by relation: Relation) async -> Outcome {
        self.sent.withLock { $0 += 1 }
        return .completed(nil)
    }

    func ready(_ listeners: [Listener]) {}
}
