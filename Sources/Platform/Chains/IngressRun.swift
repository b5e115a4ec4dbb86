import NodeKit
import Synchronization
import Waiting

/// One run of one ingress node, from its start until it has returned.
final class IngressRun: Outlet {
    /// How a run ended.
    struct End: Sendable {
        /// What the node threw, if anything.
        var error: (any Error)?
        /// Whether it had been ready.
        var wasReady: Bool
        /// Whether it was told to stop.
        var wasStopped: Bool
    }

    let key: NodeKey
    let node: any IngressNode
    /// Tried again after a pause even if it never was ready, since it worked before.
    let isReplacement: Bool
    /// How long to wait before the next run, should this one fail.
    let pause: Duration
    /// Where the node listens, or why it did not become ready.
    private let start = OneShot<Result<[Listener], any Error>>()
    private let ending = OneShot<End>()
    /// Open once the node is to return or has returned.
    private let stopping = Latch()
    private let isStopped = Atomic(false)
    private let plans: PlanTable

    init(key: NodeKey, node: any IngressNode, plans: PlanTable, isReplacement: Bool, pause: Duration) {
        self.key = key
        self.node = node
        self.plans = plans
        self.isReplacement = isReplacement
        self.pause = pause
    }

    // MARK: What the node calls

    func send(_ message: Message, by relation: Relation) async -> Outcome {
        guard let place = self.plans.place(of: self) else { return .failed(self.isGone) }
        return await place.plan.send(message, from: place.index, by: relation)
    }

    func begin(_ message: consuming Message, by relation: Relation) -> Step<Outcome, Suspension<Outcome>> {
        guard let place = self.plans.place(of: self) else { return .now(.failed(self.isGone)) }
        return place.plan.begin(message, from: place.index, by: relation)
    }

    private var isGone: NodeError { NodeError(.unavailable, "node '\(self.key.node)' is no longer part of a chain") }

    func ready(_ listeners: [Listener]) { self.start.finish(.success(listeners)) }

    // MARK: What the runtime calls

    /// Where the node listens; empty until it is ready.
    var listeners: [Listener] { self.openListeners ?? [] }

    /// Whether messages can come.
    var isReady: Bool { self.openListeners != nil }

    private var openListeners: [Listener]? { self.ending.current == nil ? self.readyListeners : nil }

    private var readyListeners: [Listener]? { try? self.start.current?.get() }

    /// Runs the node until it returns, is told to stop, or the task is cancelled; returns when it has returned.
    func execute() async -> End {
        let error = await withTaskGroup(of: (any Error)?.self) { group in
            group.addTask {
                // Ends the wait beside this task, too.
                defer { self.stopping.open() }
                do {
                    try await self.node.run(self)
                    return nil
                } catch {
                    return error
                }
            }
            await self.stopping.opened()
            group.cancelAll()
            return await group.next() ?? nil
        }
        return self.end(error)
    }

    /// Notes the end of a run, also of one that never began.
    @discardableResult
    func end(_ error: (any Error)?) -> End {
        let early =
            error
            ?? NodeError(.unavailable, "node '\(self.key.node)' of chain '\(self.key.chain)' ended before it was ready")
        self.start.finish(.failure(early))
        let wasReady = self.readyListeners != nil
        let end = End(error: error, wasReady: wasReady, wasStopped: self.isStopped.load(ordering: .relaxed))
        self.ending.finish(end)
        return end
    }

    /// Waits until the node is ready.
    ///
    /// - Throws: What the node threw, if it ended before.
    func started() async throws { _ = try await self.start.value().get() }

    /// Tells the node to stop; it may take its time.
    func stop() {
        self.isStopped.store(true, ordering: .relaxed)
        self.stopping.open()
    }

    /// Gives up on a node that is not ready in time: it is told to stop, and who waits for it gets the error.
    func abandon(_ error: NodeError) {
        if self.start.finish(.failure(error)) { self.stop() }
    }

    /// Waits until the node has returned.
    func ended() async { _ = await self.ending.value() }
}

/// Which plan the messages of each ingress node go along; the switch to another set of plans is one step for all.
final class PlanTable: Sendable {
    struct Place: Sendable {
        var plan: ChainPlan
        /// Zero-based index of the node in the plan.
        var index: Int
    }

    private let places = Mutex<[ObjectIdentifier: Place]>([:])

    func place(of run: IngressRun) -> Place? { self.places.withLock { $0[ObjectIdentifier(run)] } }

    /// Puts these runs where they belong, all at once; the others stay where they are.
    func set(_ changed: [(run: IngressRun, place: Place)]) {
        self.places.withLock { places in
            for (run, place) in changed { places[ObjectIdentifier(run)] = place }
        }
    }

    func remove(_ run: IngressRun) { _ = self.places.withLock { $0.removeValue(forKey: ObjectIdentifier(run)) } }
}
