public import Logging
public import NodeKit
import Synchronization
import Waiting

/// Runs chains: makes their nodes, runs the ingress nodes among them, and changes to other chains without a pause.
///
/// A reload keeps each node whose chain, identifier, type and attributes stay, and with an ingress node its run, so its
/// sockets and sessions. Messages under way finish on the plan they started on.
public final class ChainRuntime: Sendable {
    /// How long an ingress node may take to become ready.
    public static let startTimeLimit: Duration = .seconds(30)
    /// How long an ingress node that failed rests before it is started again; each further failure doubles it.
    public static let restartPause: Duration = .seconds(1)
    /// The longest rest; a run that lasted longer than this starts over with the shortest.
    public static let restartPauseMax: Duration = .seconds(60)

    private struct Current: Sendable {
        var plans = PlanSet.empty
        var runs: [NodeKey: IngressRun] = [:]
    }

    private struct Starts: Sendable {
        var isOpen = false
        var waiting: [IngressRun] = []
    }

    private let checker: ChainChecker
    private let services: @Sendable (_ chain: String, _ node: String) -> NodeServices
    private let logger: Logger
    /// Held while chains change; ``current`` changes only then.
    private let changes = AsyncLock()
    private let current = Mutex(Current())
    private let places = PlanTable()
    /// Why the first chains could not start.
    private let startFailure = Mutex<(any Error)?>(nil)
    /// The runs that the task group in ``run(_:onReady:)`` is to take over.
    private let starts = Mutex(Starts())
    /// Raised when there are more of them, or the first chains could not start.
    private let startsChanged = Signal()

    /// Makes a runtime; starts nothing.
    ///
    /// - Parameters:
    ///   - types: The node types that chains can use.
    ///   - environment: What fills `${NAME}` in attribute values.
    ///   - services: What the host lends a node, by chain and identifier.
    ///   - logger: For what happens to ingress nodes, and what the checker warns of.
    public init(
        types: NodeTypes,
        environment: [String: String],
        services: @escaping @Sendable (_ chain: String, _ node: String) -> NodeServices,
        logger: Logger
    ) {
        self.checker = ChainChecker(types: types, environment: environment)
        self.services = services
        self.logger = logger
    }

    /// Checks chains, makes their nodes, starts the ingress nodes, and works until the task is cancelled.
    ///
    /// Call it once. It returns when all ingress nodes have stopped.
    ///
    /// - Parameters:
    ///   - sources: The chain files.
    ///   - onReady: Called with all listeners once every ingress node is ready.
    /// - Throws: ``ChainFaults``, or the error of an ingress node that cannot start; nothing runs any more then.
    public func run(
        _ sources: [ChainSource],
        onReady: @escaping @Sendable ([Listener]) async -> Void
    ) async throws {
        let chains = try self.check(sources)
        self.starts.withLock { $0.isOpen = true }
        await withDiscardingTaskGroup { group in
            group.addTask {
                do {
                    try await self.changes.withLock { try await self.change(to: chains) }
                    await onReady(self.listeners)
                } catch {
                    self.startFailure.withLock { $0 = error }
                    self.startsChanged.raise()
                }
            }
            while !Task.isCancelled, self.startFailure.withLock({ $0 == nil }) {
                let seen = self.startsChanged.count
                let waiting = self.starts.withLock { starts in
                    defer { starts.waiting = [] }
                    return starts.waiting
                }
                for run in waiting { group.addTask { await self.supervise(run) } }
                await self.startsChanged.wait(since: seen)
            }
            group.cancelAll()
            let waiting = self.starts.withLock { starts in
                starts.isOpen = false
                return starts.waiting
            }
            for run in waiting { run.end(Self.shuttingDown) }
        }
        // A reload that was under way fails, since nothing starts any more; it must not outlive its nodes.
        await self.changes.withLock {}
        if !Task.isCancelled, let error = self.startFailure.withLock({ $0 }) { throw error }
    }

    /// Lets other chains take over in one step.
    ///
    /// May be called while ``run(_:onReady:)`` runs, from any task; several calls are carried out one after another. Ingress
    /// nodes that are new or changed are started before the others switch. A change that has begun is finished also when the
    /// calling task is cancelled.
    ///
    /// - Throws: ``ChainFaults``, or the error of an ingress node that cannot start; the old chains go on then.
    public func reload(_ sources: [ChainSource]) async throws {
        let chains = try self.check(sources)
        // The change is finished even if the caller is cancelled: half of it would leave a chain without some of its nodes. It ends
        // when all nodes have started or one has failed; `run` waits for it.
        try await withoutCancellation {
            try await self.changes.withLock {
                guard self.starts.withLock({ $0.isOpen }) else { throw Self.shuttingDown }
                try await self.change(to: chains)
            }
        }
    }

    /// Where the ingress nodes listen, in the order of the chain files.
    public var listeners: [Listener] {
        let current = self.current.withLock { $0 }
        return current.plans.checked.flatMap { current.runs[$0.key]?.listeners ?? [] }
    }

    /// Whether every ingress node of the chains is ready for messages just now.
    public var isListening: Bool {
        let current = self.current.withLock { $0 }
        return current.plans.ingresses.allSatisfy { current.runs[$0]?.isReady == true }
    }

    /// The queues of the nodes that take messages in and let them go later, in the order of the chain files.
    public var queues: [QueueName] {
        // A queue that takes no messages, such as one of assignments, has them from elsewhere.
        self.current.withLock { $0 }.plans.checked.filter { _, node in
            node.nodeType is any Node.Type && node.nodeType.descriptor.traits.contains(.isQueue)
        }.map { key, _ in QueueName(chain: key.chain, node: key.node) }
    }

    /// How many messages went along each link.
    public func linkCounters() -> [LinkCounter] {
        self.current.withLock { $0.plans.counters }.links.map { key, counter in
            LinkCounter(
                chain: key.chain,
                from: key.from,
                relation: key.relation,
                to: key.to,
                messages: counter.value
            )
        }
    }

    /// How many messages each node took, and how many it failed to process.
    public func nodeCounters() -> [NodeCounter] {
        self.current.withLock { $0.plans.counters }.nodes.map { key, counters in
            NodeCounter(
                chain: key.chain,
                node: key.node,
                processed: counters.processed.value,
                failed: counters.failed.value,
                started: counters.started.value,
                unhandled: counters.unhandled.value,
                timed: counters.timed.value,
                seconds: Double(counters.nanoseconds.value) / 1e9
            )
        }
    }

    private static let shuttingDown = NodeError(.unavailable, "the host is shutting down")

    /// Checks chains, and logs what the checker warns of.
    private func check(_ sources: [ChainSource]) throws(ChainFaults) -> CheckedChains {
        let chains = try self.checker.check(sources)
        for warning in chains.warnings { self.logger.warning("\(warning)") }
        return chains
    }

    // MARK: Changing chains, with `changes` held

    private func change(to chains: CheckedChains) async throws {
        let old = self.current.withLock { $0 }
        let (nodes, kept) = try self.nodes(of: chains, keeping: old.plans)
        var plans = PlanSet(chains, nodes: nodes, previous: old.plans.counters)
        var runs = old.runs.filter { kept.contains($0.key) }
        let leaving = old.plans.ingresses.filter { !kept.contains($0) }
        var stopped: [NodeKey] = []
        var started: [IngressRun] = []
        do {
            var later: [NodeKey] = []
            for key in plans.ingresses where !kept.contains(key) {
                guard old.runs[key] == nil else {
                    later.append(key)
                    continue
                }
                do {
                    let run = try await self.start(key, of: plans)
                    started.append(run)
                    runs[key] = run
                } catch {
                    // It may want the port of one that leaves.
                    guard !leaving.isEmpty else { throw error }
                    plans = plans.replacing([key: try self.make(key, of: plans)])
                    later.append(key)
                }
            }
            stopped = leaving
            await self.stop(leaving.compactMap { old.runs[$0] })
            for key in later {
                let run = try await self.start(key, of: plans)
                started.append(run)
                runs[key] = run
            }
        } catch {
            await self.stop(started)
            if !stopped.isEmpty { await self.restore(stopped, of: old) }
            throw error
        }
        self.take(plans, runs)
    }

    /// Lets plans take over, for all ingress nodes in one step.
    private func take(_ plans: PlanSet, _ runs: [NodeKey: IngressRun]) {
        self.places.set(runs.compactMap { key, run in plans.place(of: key).map { (run, $0) } })
        self.current.withLock { $0 = Current(plans: plans, runs: runs) }
    }

    /// The instances of all nodes: the old ones of those that did not change, and new ones of the others.
    private func nodes(
        of chains: CheckedChains,
        keeping old: PlanSet
    ) throws(ChainFaults) -> (nodes: [NodeKey: any ChainNode], kept: Set<NodeKey>) {
        let before = Dictionary(old.checked.map { ($0.key, $0.node) }) { $1 }
        var nodes: [NodeKey: any ChainNode] = [:]
        var kept: Set<NodeKey> = []
        var faults: [ChainFault] = []
        for chain in chains.chains {
            for node in chain.nodes {
                let key = NodeKey(chain: chain.name, node: node.id)
                if let was = before[key], was.nodeType == node.nodeType, was.texts == node.texts {
                    nodes[key] = old.nodes[key]
                    kept.insert(key)
                    continue
                }
                do {
                    nodes[key] = try node.make(self.services(key.chain, key.node))
                } catch {
                    faults.append(error)
                }
            }
        }
        guard faults.isEmpty else { throw ChainFaults(faults) }
        return (nodes, kept)
    }

    /// Another instance of a node, since an ingress node runs once.
    private func make(_ key: NodeKey, of plans: PlanSet) throws(ChainFaults) -> any ChainNode {
        guard let node = plans.checked.first(where: { $0.key == key })?.node else {
            preconditionFailure("a node that is started is part of the plans")
        }
        do {
            return try node.make(self.services(key.chain, key.node))
        } catch {
            throw ChainFaults([error])
        }
    }

    /// Starts an ingress node, whose messages go along these plans from the first, and waits until it is ready.
    private func start(_ key: NodeKey, of plans: PlanSet) async throws -> IngressRun {
        let run = self.prepare(key, of: plans, isReplacement: false, pause: Self.restartPause)
        self.enqueue(run)
        try await self.ready(run)
        return run
    }

    private func prepare(_ key: NodeKey, of plans: PlanSet, isReplacement: Bool, pause: Duration) -> IngressRun {
        guard let node = plans.nodes[key] as? any IngressNode, let place = plans.place(of: key) else {
            preconditionFailure("a node that is started is part of the plans")
        }
        let run = IngressRun(key: key, node: node, plans: self.places, isReplacement: isReplacement, pause: pause)
        self.places.set([(run, place)])
        return run
    }

    /// Hands a run to the task group, or ends it if there is none any more.
    private func enqueue(_ run: IngressRun) {
        let isOpen = self.starts.withLock { starts in
            if starts.isOpen { starts.waiting.append(run) }
            return starts.isOpen
        }
        if isOpen { self.startsChanged.raise() } else { run.end(Self.shuttingDown) }
    }

    private func ready(_ run: IngressRun) async throws {
        let clock = self.services(run.key.chain, run.key.node).clock
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await run.started() }
                group.addTask {
                    do { try await clock.sleep(for: Self.startTimeLimit) } catch { return }
                    run.abandon(
                        NodeError(
                            .timedOut,
                            "node '\(run.key.node)' of chain '\(run.key.chain)' was not ready within \(Self.startTimeLimit)"
                        )
                    )
                }
                defer { group.cancelAll() }
                try await group.next()
            }
            try await run.started()
        } catch {
            await self.stop([run])
            throw error
        }
    }

    /// Stops runs, those that only start messages first, and waits until all have returned.
    private func stop(_ runs: [IngressRun]) async {
        for isHolding in [false, true] {
            let group = runs.filter { ($0.node is any Node) == isHolding }
            for run in group { run.stop() }
            for run in group {
                await run.ended()
                self.places.remove(run)
            }
        }
    }

    /// Starts ingress nodes again as they were before a change that failed.
    private func restore(_ keys: [NodeKey], of old: Current) async {
        var plans = old.plans
        for key in keys {
            do {
                plans = plans.replacing([key: try self.make(key, of: plans)])
            } catch {
                self.logger.error("a node cannot be made as before", metadata: Self.metadata(key, error))
            }
        }
        var runs = old.runs
        for key in keys {
            let run = self.prepare(key, of: plans, isReplacement: true, pause: Self.restartPause)
            runs[key] = run
        }
        self.take(plans, runs)
        for key in keys {
            guard let run = runs[key] else { continue }
            self.enqueue(run)
            // Should it fail, `supervise` goes on trying and says so.
            try? await run.started()
        }
    }

    // MARK: Running ingress nodes, as children of `run`

    private func supervise(_ run: IngressRun) async {
        let clock = self.services(run.key.chain, run.key.node).clock
        var end: IngressRun.End?
        let lasted = await Self.measure(clock) { end = await run.execute() }
        guard let end, !end.wasStopped, end.wasReady || run.isReplacement, !Task.isCancelled else { return }
        self.logger.error(
            "an ingress node ended and is started again after a pause",
            metadata: Self.metadata(
                run.key,
                end.error ?? NodeError(.internalError, "the node returned without an error")
            )
        )
        var pause = lasted > Self.restartPauseMax ? Self.restartPause : run.pause
        while true {
            do { try await clock.sleep(for: pause) } catch { return }
            pause = min(pause * 2, Self.restartPauseMax)
            do {
                return try await self.changes.withLock { try self.replace(run, pause: pause) }
            } catch {
                self.logger.error("an ingress node cannot be made again", metadata: Self.metadata(run.key, error))
            }
        }
    }

    /// Puts another instance in the place of an ingress node that failed, unless a change has been there before.
    private func replace(_ run: IngressRun, pause: Duration) throws {
        let current = self.current.withLock { $0 }
        guard current.runs[run.key] === run else { return }
        let plans = current.plans.replacing([run.key: try self.make(run.key, of: current.plans)])
        var runs = current.runs
        let again = self.prepare(run.key, of: plans, isReplacement: true, pause: pause)
        runs[run.key] = again
        self.take(plans, runs)
        self.places.remove(run)
        self.enqueue(again)
    }

    private static func measure<C: Clock<Duration>>(_ clock: C, _ body: () async -> Void) async -> Duration {
        let start = clock.now
        await body()
        return start.duration(to: clock.now)
    }

    private static func metadata(_ key: NodeKey, _ error: any Error) -> Logger.Metadata {
        ["chain": "\(key.chain)", "node": "\(key.node)", "error": "\(error)"]
    }
}

extension CheckedNode {
    /// Makes the node.
    ///
    /// - Throws: The error of its initializer, as a fault in its place in the file.
    fileprivate func make(_ services: NodeServices) throws(ChainFault) -> any ChainNode {
        do {
            return try self.nodeType.init(configuration: self.configuration, services: services)
        } catch {
            let error = NodeError(wrapping: error)
            throw self.source.fault(at: self.offset, error.code.rawValue, "node '\(self.id)': \(error.message)")
        }
    }
}
