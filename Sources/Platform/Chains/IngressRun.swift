import NodeKit
import Synchronization

/// One run of one ingress node, from its start until it has returned.
final class IngressRun: Outlet {
    private struct State {
        var listeners: [Listener]?
        var end: End?
        var isStopping = false
        /// Why it was given up before it was ready.
        var startError: NodeError?
        var starters: [CheckedContinuation<Result<Void, any Error>, Never>] = []
        var enders: [CheckedContinuation<Void, Never>] = []
    }

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
    private let state = Mutex(State())
    private let stopping: AsyncStream<Void>
    private let stopper: AsyncStream<Void>.Continuation
    private let plans: PlanTable

    init(key: NodeKey, node: any IngressNode, plans: PlanTable, isReplacement: Bool, pause: Duration) {
        self.key = key
        self.node = node
        self.plans = plans
        self.isReplacement = isReplacement
        self.pause = pause
        (self.stopping, self.stopper) = AsyncStream.makeStream()
    }

    // MARK: What the node calls

    func send(_ message: Message, by relation: Relation) async -> Outcome {
        guard let place = self.plans.place(of: self) else { return .failed(self.isGone) }
        return await place.plan.send(message, from: place.index, by: relation)
    }

    func begin(_ message: consuming Message, by relation: Relation) -> Passage {
        guard let place = self.plans.place(of: self) else { return .ended(.failed(self.isGone)) }
        return place.plan.begin(message, from: place.index, by: relation)
    }

    private var isGone: NodeError { NodeError(.unavailable, "node '\(self.key.node)' is no longer part of a chain") }

    func ready(_ listeners: [Listener]) {
        let starters = self.state.withLock { state in
            guard state.listeners == nil, state.end == nil, state.startError == nil else {
                return [] as [CheckedContinuation<Result<Void, any Error>, Never>]
            }
            state.listeners = listeners
            defer { state.starters = [] }
            return state.starters
        }
        for starter in starters { starter.resume(returning: .success(())) }
    }

    // MARK: What the runtime calls

    /// Where the node listens; empty until it is ready.
    var listeners: [Listener] { self.state.withLock { $0.end == nil ? $0.listeners ?? [] : [] } }

    /// Whether messages can come.
    var isReady: Bool { self.state.withLock { $0.end == nil && $0.listeners != nil } }

    /// Runs the node until it returns, is told to stop, or the task is cancelled; returns when it has returned.
    func execute() async -> End {
        let error = await withTaskGroup(of: (any Error)?.self) { group in
            group.addTask { [node, stopper] in
                // Ends the task beside this one, too.
                defer { stopper.finish() }
                do {
                    try await node.run(self)
                    return nil
                } catch {
                    return error
                }
            }
            for await _ in self.stopping {}
            group.cancelAll()
            return await group.next() ?? nil
        }
        return self.end(error)
    }

    /// Notes the end of a run, also of one that never began.
    @discardableResult
    func end(_ error: (any Error)?) -> End {
        let (end, starters, enders) = self.state.withLock { state in
            let end = End(error: error, wasReady: state.listeners != nil, wasStopped: state.isStopping)
            state.end = end
            defer {
                state.starters = []
                state.enders = []
            }
            return (end, state.starters, state.enders)
        }
        for starter in starters { starter.resume(returning: .failure(self.startError(end))) }
        for ender in enders { ender.resume() }
        return end
    }

    /// Waits until the node is ready.
    ///
    /// - Throws: What the node threw, if it ended before.
    func started() async throws {
        let result = await withCheckedContinuation { continuation in
            let result: Result<Void, any Error>? = self.state.withLock { state in
                if let end = state.end, !end.wasReady { return .failure(self.startError(end)) }
                if let error = state.startError { return .failure(error) }
                if state.listeners != nil { return .success(()) }
                state.starters.append(continuation)
                return nil
            }
            if let result { continuation.resume(returning: result) }
        }
        try result.get()
    }

    /// Tells the node to stop; it may take its time.
    func stop() {
        self.state.withLock { $0.isStopping = true }
        self.stopper.finish()
    }

    /// Gives up on a node that is not ready in time: it is told to stop, and who waits for it gets the error.
    func abandon(_ error: NodeError) {
        let starters = self.state.withLock { state in
            guard state.listeners == nil, state.end == nil else {
                return nil as [CheckedContinuation<Result<Void, any Error>, Never>]?
            }
            state.startError = error
            defer { state.starters = [] }
            return state.starters
        }
        guard let starters else { return }
        for starter in starters { starter.resume(returning: .failure(error)) }
        self.stop()
    }

    /// Waits until the node has returned.
    func ended() async {
        await withCheckedContinuation { continuation in
            let isOver = self.state.withLock { state in
                if state.end == nil { state.enders.append(continuation) }
                return state.end != nil
            }
            if isOver { continuation.resume() }
        }
    }

    private func startError(_ end: End) -> any Error {
        end.error
            ?? NodeError(.unavailable, "node '\(self.key.node)' of chain '\(self.key.chain)' ended before it was ready")
    }
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
