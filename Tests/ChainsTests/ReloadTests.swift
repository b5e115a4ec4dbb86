@testable import Chains
import Logging
import NodeKit
import NodeTesting
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct ReloadTests {
    private static let chain = #"<t:source id="in" port="1" to="a"/><t:work id="a" to="b"/><t:work id="b"/>"#

    @Test("A reload keeps nodes that did not change, and makes those anew that did")
    func keeps() async throws {
        let bench = Bench()
        try await withRuntime(Self.chain, bench) { runtime in
            let outlet = try #require(bench.outlet("in"))
            try await runtime.reload([
                source(#"<t:source id="in" port="1" to="b"/><t:work id="b" size="20" to="a"/><t:work id="a"/>"#)
            ])
            #expect(bench.made("in") == 1)
            #expect(bench.made("a") == 1)
            #expect(bench.made("b") == 2)
            #expect(bench.stopped == [])
            #expect(await outlet.send(.test()).brief == "completed")
            #expect(bench.path == ["b", "a"])
        }
    }

    @Test("Another chain's node of the same name is another node")
    func chainNames() async throws {
        let bench = Bench()
        try await withRuntime(Self.chain, bench) { runtime in
            try await runtime.reload([source(Self.chain, name: "other")])
            #expect(bench.made("a") == 2)
            #expect(bench.made("in") == 2)
            #expect(bench.stopped == ["in"])
        }
    }

    @Test("A message under way finishes on the old chain")
    func underWay() async throws {
        let (entered, enter) = AsyncStream<Void>.makeStream()
        let (gate, open) = AsyncStream<Void>.makeStream()
        let bench = Bench { node, message in
            if node == "a", message.type == "SLOW" {
                enter.finish()
                for await _ in gate {}
            }
            return nil
        }
        try await withRuntime(Self.chain, bench) { runtime in
            async let slow = bench.send("in", .test("SLOW"))
            for await _ in entered {}
            try await runtime.reload([source(#"<t:source id="in" port="1" to="c"/><t:work id="c"/>"#)])
            #expect(await bench.send() == "completed")
            #expect(bench.path == ["a", "c"])
            open.finish()
            #expect(await slow == "completed")
            #expect(bench.path == ["a", "c", "b"])
        }
    }

    @Test("A reload with faults changes nothing and says why")
    func refused() async throws {
        let bench = Bench()
        try await withRuntime(Self.chain, bench) { runtime in
            for bad in [#"<t:source id="in" to="x"/>"#, #"<t:source id="in" to="a"/><t:work id="a" note="refuse"/>"#] {
                await #expect(throws: ChainFaults.self) { try await runtime.reload([source(bad)]) }
            }
            #expect(bench.stopped == [])
            #expect(await bench.send() == "completed")
            #expect(bench.path == ["a", "b"])
            #expect(runtime.listeners.map(\.port) == [1])
        }
    }

    @Test("A warning is logged once when chains start and once at each reload, and stops neither")
    func warnings() async throws {
        let bench = Bench()
        let log = WarningLog()
        let doubtful = Self.chain + #"<t:assigned id="x" to="y"/><t:sink id="y"/>"#
        let warning =
            "main.xml:2:102: warning: a message from 'x' ends at 'y', and its device is not notified; "
            + "link to a node that notifies devices instead [dead-end]"
        try await withRuntime(doubtful, bench, logger: log.logger) { runtime in
            #expect(log.lines == [warning])
            try await runtime.reload([source(Self.chain)])
            #expect(log.lines == [warning])
            try await runtime.reload([source(doubtful)])
            #expect(log.lines == [warning, warning])
        }
    }

    @Test("The queues are those of nodes that hold messages, in the running chains only")
    func queues() async throws {
        let bench = Bench()
        let chain = Self.chain + #"<t:assigned id="x" to="y"/><t:hold id="y" to="z"/><t:push id="z"/>"#
        try await withRuntime(chain, bench) { runtime in
            #expect(runtime.queues == [QueueName(chain: "main", node: "y")])
            let other = #"<t:source id="in" port="2" to="y"/><t:hold id="y" to="z"/><t:work id="z"/>"#
            try await runtime.reload([source(Self.chain), source(other, name: "other")])
            #expect(runtime.queues == [QueueName(chain: "other", node: "y")])
        }
    }

    @Test("A changed ingress node stops before its replacement starts")
    func changedIngress() async throws {
        let bench = Bench()
        try await withRuntime(Self.chain, bench) { runtime in
            let old = try #require(bench.outlet("in"))
            try await runtime.reload([source(Self.chain.replacing(#"port="1""#, with: #"port="2""#))])
            #expect(bench.stopped == ["in"])
            #expect(runtime.listeners.map(\.port) == [2])
            #expect(await bench.send() == "completed")
            #expect(await old.send(.test()).brief == "failed unavailable")
        }
        #expect(bench.stopped == ["in", "in"])
    }

    @Test("An ingress node that is new or gone starts and stops without the others noticing")
    func addedAndRemoved() async throws {
        let bench = Bench()
        let more = #"<t:source id="more" port="7" to="a"/>"#
        try await withRuntime(Self.chain, bench) { runtime in
            try await runtime.reload([source(Self.chain + more)])
            #expect(runtime.listeners.map(\.port) == [1, 7])
            #expect(await bench.send("more") == "completed")
            try await runtime.reload([source(Self.chain)])
            #expect(runtime.listeners.map(\.port) == [1])
            #expect(bench.stopped == ["more"])
            #expect(bench.made("in") == 1)
        }
    }

    @Test("If a new ingress node cannot start, the old ones go on as before")
    func startFails() async throws {
        let bench = Bench.refusing({ _, port in port == 9 ? NodeError("address-in-use", "taken") : nil })
        try await withRuntime(Self.chain, bench) { runtime in
            for chain in [
                // Only new ones, and one that changed as well.
                Self.chain + #"<t:source id="more" port="9" to="a"/>"#,
                Self.chain.replacing(#"port="1""#, with: #"port="2""#) + #"<t:source id="more" port="9" to="a"/>"#,
                Self.chain.replacing(#"port="1""#, with: #"port="9""#),
            ] {
                let error = await #expect(throws: NodeError.self) { try await runtime.reload([source(chain)]) }
                #expect(error?.code == "address-in-use")
                #expect(runtime.listeners == [Listener(scheme: "test", host: "in", port: 1)])
                #expect(await bench.send() == "completed")
            }
            #expect(bench.path == ["a", "b", "a", "b", "a", "b"])
            #expect(bench.made("a") == 1)
        }
    }

    @Test("An ingress node may take the port of one that goes, under another name")
    func renamedIngress() async throws {
        let taken = Mutex<Bench?>(nil)
        let bench = Bench.refusing({ node, _ in
            let isFree = node == "in" || taken.withLock { $0?.stopped.contains("in") } == true
            return isFree ? nil : NodeError("address-in-use", "taken")
        })
        taken.withLock { $0 = bench }
        try await withRuntime(Self.chain, bench) { runtime in
            try await runtime.reload([source(Self.chain.replacing(#"id="in""#, with: #"id="renamed""#))])
            #expect(runtime.listeners.map(\.host) == ["renamed"])
            #expect(await bench.send("renamed") == "completed")
        }
        taken.withLock { $0 = nil }
    }

    @Test("Reloads at the same time are carried out one after another, and the host ends up with one of them whole")
    func concurrent() async throws {
        let bench = Bench()
        try await withRuntime(Self.chain, bench) { runtime in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for port in 2...9 {
                    let chain = Self.chain.replacing(#"port="1""#, with: #"port="\#(port)""#)
                    group.addTask { try await runtime.reload([source(chain)]) }
                }
                try await group.waitForAll()
            }
            #expect(runtime.listeners.count == 1)
            #expect(bench.made("in") == 9)
            #expect(bench.stopped.count == 8)
        }
    }

    @Test("No message fails while chains are reloaded again and again")
    func underLoad() async throws {
        let bench = Bench()
        try await withRuntime(Self.chain, bench) { runtime in
            let done = Counter()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        while done.value == 0 {
                            #expect(await bench.send() == "completed")
                            await Task.yield()
                        }
                    }
                }
                for size in 1...50 {
                    let chain = Self.chain.replacing(#"id="a""#, with: #"id="a" size="\#(size)""#)
                    try await runtime.reload([source(chain)])
                }
                done.increment()
                try await group.waitForAll()
            }
            #expect(bench.made("in") == 1)
            #expect(bench.made("a") == 51)
        }
    }

    @Test("A reload of a host that does not run is refused")
    func notRunning() async throws {
        let bench = Bench()
        let runtimes = Mutex<[ChainRuntime]>([])
        try await withRuntime(Self.chain, bench) { runtime in runtimes.withLock { $0.append(runtime) } }
        let runtime = try #require(runtimes.withLock { $0.first })
        await #expect(throws: NodeError.self) { try await runtime.reload([source(Self.chain)]) }
    }
}

@Suite(.timeLimit(.minutes(5))) struct RestartTests {
    private static let chain = #"<t:source id="in" to="a"/><t:source id="other" to="a"/><t:work id="a"/>"#

    @Test("An ingress node that fails is started again after a pause, which grows, while the others go on")
    func restarts() async throws {
        let bench = Bench()
        let clock = ManualClock()
        try await withRuntime(Self.chain, bench, clock: clock) { runtime in
            for (failures, seconds) in [1, 2, 4, 8, 16, 32, 60, 60].enumerated() {
                bench.crash("in")
                await clock.sleeper(for: .seconds(seconds))
                #expect(bench.made("in") == failures + 1)
                #expect(await bench.send("other") == "completed")
                #expect(!runtime.isListening)
                clock.advance(by: .seconds(seconds))
                await bench.wait { $0.made("in") == failures + 2 && $0.outlet("in") != nil }
                await bench.waitUntilRunning("in")
                #expect(await bench.send("in") == "completed")
            }
            #expect(bench.made("other") == 1)
            #expect(runtime.listeners.count == 2)
            #expect(runtime.isListening)
        }
    }

    @Test("An ingress node that ran for long is started again after the shortest pause")
    func pauseStartsOver() async throws {
        let bench = Bench()
        let clock = ManualClock()
        try await withRuntime(Self.chain, bench, clock: clock) { _ in
            bench.crash("in")
            await clock.sleeper(for: .seconds(1))
            clock.advance(by: .seconds(1))
            await bench.waitUntilRunning("in", made: 2)
            clock.advance(by: .seconds(61))
            bench.crash("in")
            await clock.sleeper(for: .seconds(1))
        }
    }

    @Test("A reload that changes a node which waits to be started again starts it at once")
    func reloadWhilePausing() async throws {
        let bench = Bench()
        let clock = ManualClock()
        try await withRuntime(Self.chain, bench, clock: clock) { runtime in
            bench.crash("in")
            await clock.sleeper(for: .seconds(1))
            try await runtime.reload([source(Self.chain.replacing(#"id="in""#, with: #"id="in" port="5""#))])
            #expect(runtime.listeners.map(\.port) == [5, 0])
            clock.advance(by: .seconds(1))
            #expect(await bench.send() == "completed")
            #expect(bench.made("in") == 2)
        }
        #expect(bench.made("in") == 2)
    }

    @Test("An ingress node that is not ready in time ends the start")
    func startLimit() async throws {
        let bench = Bench()
        let clock = ManualClock()
        var types = NodeTypes()
        try types.add(
            Plugin(name: "X", version: "1", namespace: "urn:test", nodes: [NeverReadyNode.self, SinkNode.self])
        )
        let runtime = ChainRuntime(
            types: types,
            environment: [:],
            services: bench.services(clock: clock),
            logger: .init(label: "test")
        )
        async let run: Void = runtime.run([source(#"<t:never id="in" to="a"/><t:sink id="a"/>"#)]) { _ in }
        await clock.sleeper(for: ChainRuntime.startTimeLimit)
        clock.advance(by: ChainRuntime.startTimeLimit)
        do {
            try await run
            Issue.record("it started")
        } catch let error as NodeError {
            #expect(error.code == .timedOut)
        }
        #expect(bench.stopped == ["in"])
    }
}

/// Works, but never says that it is ready.
struct NeverReadyNode: IngressNode {
    static let descriptor = NodeDescriptor(
        type: "never",
        summary: "Is never ready.",
        relations: [RelationDescriptor(.success, "Never.")]
    )

    let id: String
    let bench: Bench

    init(configuration: Configuration, services: NodeServices) throws {
        self.id = services.node
        self.bench = try services.require(Bench.self)
    }

    func run(_ outlet: any Outlet) async throws { try await self.bench.run(self.id) }
}

extension Bench {
    /// Waits until this instance of an ingress node runs, so that it can be let crash.
    func waitUntilRunning(_ node: String, made count: Int? = nil) async {
        await self.wait { bench in bench.isRunning(node) && count.map { bench.made(node) == $0 } ?? true }
    }
}

/// A log that remembers its warnings.
private final class WarningLog: Sendable {
    private let entries = Mutex<[String]>([])

    var lines: [String] { self.entries.withLock { $0 } }
    var logger: Logger { Logger(label: "test") { _ in Handler(log: self) } }

    private struct Handler: LogHandler {
        let log: WarningLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.warning

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { self.metadata[key] }
            set { self.metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            guard event.level == .warning else { return }
            self.log.entries.withLock { $0.append(event.message.description) }
        }
    }
}
