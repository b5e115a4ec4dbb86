import NIOCore
import NodeKit

/// A chain made ready to run: nodes in an array, links as indexes into it.
final class ChainPlan: Sendable {
    /// The name in a message's metadata of the text of the error that it left a node with.
    static let errorKey = "error"
    /// The name in a message's metadata of the code of the error that it left a node with.
    static let errorCodeKey = "errorCode"

    let chain: String
    let hopsMax: Int
    let stops: [Stop]

    init(chain: String, hopsMax: Int, stops: [Stop]) {
        self.chain = chain
        self.hopsMax = hopsMax
        self.stops = stops
    }

    /// One node in its place.
    final class Stop: Sendable {
        let id: String
        let work: Work
        let exits: [Exit]
        /// Those of ``exits``, in the same order.
        private let relations: [Relation]
        /// The exit that takes what has none of its own, if the node's relations are open and `Other` is linked.
        let other: Exit?
        /// Whether ``work`` is ``Work/waiting(_:)``, told without a copy of the node.
        let waits: Bool
        /// Whether a message may come here before all is stored that nodes before it began to store.
        let overtakesWrites: Bool
        /// Whether the node's failures are handled by other nodes, so that it has to be known at once whether it failed.
        let handlesFailure: Bool
        /// What the node does with messages that are meant for a device.
        let traits: NodeDescriptor.Traits
        let counters: NodeCounters

        init(id: String, node: (any Node)?, exits: [Exit], descriptor: NodeDescriptor, counters: NodeCounters) {
            self.id = id
            self.work = Work(node)
            if case .waiting = self.work { self.waits = true } else { self.waits = false }
            self.exits = exits
            self.relations = exits.map(\.relation)
            self.other = descriptor.hasOpenRelations ? exits.first { $0.relation == .other } : nil
            self.overtakesWrites = descriptor.overtakesWrites
            self.handlesFailure = exits.contains { $0.relation == .failure }
            self.traits = descriptor.traits
            self.counters = counters
        }

        /// The links of a relation; `nil` if there are none.
        ///
        /// Few relations are compared faster than hashed.
        func exit(_ relation: Relation) -> Exit? {
            if let index = self.relations.firstIndex(of: relation) { return self.exits[index] }
            return relation == .failure ? nil : self.other
        }
    }

    /// What is done with a message at a node.
    enum Work: Sendable {
        /// Nothing: messages only start here, and the checker lets no link lead here.
        case none
        case immediate(any ImmediateNode)
        case prompt(any PromptNode)
        case waiting(any Node)

        init(_ node: (any Node)?) {
            self =
                switch node {
                case let node as any ImmediateNode: .immediate(node)
                case let node as any PromptNode: .prompt(node)
                case let node?: .waiting(node)
                case nil: .none
                }
        }
    }

    /// The links of one relation of a node.
    final class Exit: Sendable {
        let relation: Relation
        /// In the order of the file; never empty.
        let links: [Link]

        init(relation: Relation, links: [Link]) {
            self.relation = relation
            self.links = links
        }
    }

    struct Link: Sendable {
        let target: Int
        let counter: Counter
    }

    /// Sends a message from a node's links on, and returns when all its branches have ended.
    ///
    /// Branches run one after another, each to its end, in the order of the links. What nodes began to store is waited for once,
    /// at the end, or before a node that must see it. Runs on the caller's executor.
    func send(_ message: Message, from index: Int, by relation: Relation) async -> Outcome {
        var journey = Journey()
        let wait = self.start(message, from: index, by: relation, &journey)
        return await self.finish(&journey, after: wait, from: index)
    }

    /// Sends a message as ``send(_:from:by:)`` does, as far as nothing has to be waited for.
    func begin(
        _ message: consuming Message,
        from index: Int,
        by relation: Relation
    ) -> Step<Outcome, Suspension<Outcome>> {
        var journey = Journey()
        guard let wait = self.start(message, from: index, by: relation, &journey) else {
            return .now(self.outcome(of: journey, from: index))
        }
        return .suspended(
            Suspension { [journey] in
                var journey = journey
                return await self.finish(&journey, after: wait, from: index)
            }
        )
    }

    /// Why a message cannot go on at once; small, as it is passed on at every node that waits.
    private enum Wait {
        /// The node has to wait; it was given the message at the time, if that is measured.
        case node(Stop, Message, since: NIODeadline?)
        /// Whether the node's message leaves by the relation, or as it came by `Failure`, depends on whether what the node
        /// began to store can be stored.
        indirect case write(Stop, Message?, Message, Relation, PendingWrite, since: NIODeadline?)
        /// All that was begun must be stored before a node is given a message, or at the end.
        case writes(before: (stop: Stop, message: Message)?)
    }

    private func start(
        _ message: consuming Message,
        from index: Int,
        by relation: Relation,
        _ journey: inout Journey
    ) -> Wait? {
        let stop = self.stops[index]
        stop.counters.started.increment()
        if message.precedence != nil { journey.standing = Standing() }
        journey.leave(stop, message, relation)
        return self.advance(&journey)
    }

    /// Takes a message and its copies on until there is something to wait for, or all of them have ended.
    private func advance(_ journey: inout Journey) -> Wait? {
        while let (target, message) = journey.next() {
            let stop = self.stops[target]
            guard journey.hops <= self.hopsMax else {
                journey.abandon(
                    NodeError(
                        "hop-limit",
                        "a message passed more than \(self.hopsMax) nodes of chain '\(self.chain)', the last of them "
                            + "'\(stop.id)'; look for a cycle, or raise hops-max"
                    )
                )
                return nil
            }
            if !stop.overtakesWrites, journey.hasWrites { return .writes(before: (stop, message)) }
            if let wait = self.give(message, to: stop, &journey) { return wait }
        }
        return journey.hasWrites ? .writes(before: nil) : nil
    }

    /// Gives a message to a node.
    private func give(_ message: consuming Message, to stop: Stop, _ journey: inout Journey) -> Wait? {
        let start = stop.counters.begin()
        if stop.waits { return .node(stop, message, since: start) }
        // Kept only for where Failure leads: a message that the node has for itself is changed without a copy.
        let kept = stop.handlesFailure ? copy message : nil
        do {
            switch stop.work {
            case .immediate(let node):
                return self.take(try node.decide(message).content, of: kept, at: stop, since: start, &journey)
            case .prompt(let node):
                switch try node.decideAtOnce(message) {
                case .now(let emission): return self.take(emission.content, of: kept, at: stop, since: start, &journey)
                case .suspended(let message): return .node(stop, message, since: start)
                }
            case .waiting:
                return .node(stop, message, since: start)
            case .none:
                return self.take(Emission.end.content, of: kept, at: stop, since: start, &journey)
            }
        } catch {
            stop.counters.end(start)
            journey.fail(stop, kept, error)
            return nil
        }
    }

    /// Takes what a node made of a message, which is given where Failure leads somewhere.
    private func take(
        _ emitted: consuming Emission.Content,
        of message: Message?,
        at stop: Stop,
        since start: NIODeadline?,
        _ journey: inout Journey
    ) -> Wait? {
        switch consume emitted {
        case .one(let next, let relation):
            journey.leave(stop, next, relation)
        case .storing(let next, let relation, let write):
            if stop.handlesFailure { return .write(stop, message, next, relation, write, since: start) }
            journey.add(write, of: stop)
            journey.leave(stop, next, relation)
        case .several(let routes):
            if routes.isEmpty { journey.standing?.ended(at: stop) }
            journey.leave(stop, routes)
        case .later(let later):
            journey.postpone(later)
        }
        stop.counters.end(start)
        return nil
    }

    /// Takes a message and its copies on to their end.
    private func finish(_ journey: inout Journey, after first: Wait?, from index: Int) async -> Outcome {
        var next = first
        while let wait = next {
            next = nil
            switch wait {
            case .node(let stop, let message, let start):
                do {
                    let emission =
                        switch stop.work {
                        case .immediate(let node): try node.decide(message)
                        case .prompt(let node): try await node.process(message)
                        case .waiting(let node): try await node.process(message)
                        case .none: Emission.end
                        }
                    next = self.take(emission.content, of: message, at: stop, since: start, &journey)
                } catch {
                    stop.counters.end(start)
                    journey.fail(stop, message, error)
                }
            case .write(let stop, let message, let changed, let relation, let write, let start):
                do {
                    try await write.stored()
                    stop.counters.end(start)
                    journey.leave(stop, changed, relation)
                } catch {
                    stop.counters.end(start)
                    journey.fail(stop, message, error)
                }
            case .writes(let before):
                let failure = await journey.finishWrites()
                if let before {
                    if let failure {
                        // The nodes from here on are not to be told what never was.
                        journey.abandon(failure)
                    } else {
                        next = self.give(before.message, to: before.stop, &journey)
                    }
                }
            }
            if next == nil { next = self.advance(&journey) }
        }
        return self.outcome(of: journey, from: index)
    }

    private func outcome(of journey: Journey, from index: Int) -> Outcome {
        if let failure = journey.failure { return self.failed(failure, from: index) }
        if let later = journey.later {
            // Only a queue can try again; the checker says so beforehand.
            guard self.stops[index].traits.contains(.isQueue) else {
                return self.failed(NodeError(.unavailable, later.reason), from: index)
            }
            return .later(later)
        }
        return journey.standing?.outcome ?? .completed(journey.reply)
    }

    private func failed(_ failure: NodeError, from index: Int) -> Outcome {
        self.stops[index].counters.unhandled.increment()
        return .failed(failure)
    }
}

/// How far a message with a ``Message/precedence`` came.
private struct Standing: Sendable {
    private var isSuperseded = false
    /// Whether a node delivered it, or took it in for later.
    private var isSafe = false
    private var end: String?

    /// The message leaves a node.
    mutating func leaves(_ stop: ChainPlan.Stop, by relation: Relation) {
        if relation == .superseded {
            self.isSuperseded = true
        } else if stop.traits.contains(.delivers), relation != .failure {
            self.isSafe = true
        }
    }

    /// The message ends at a node, or by a relation of it that leads nowhere.
    mutating func ended(at stop: ChainPlan.Stop, by relation: Relation? = nil) {
        // A queue took it in, or it was delivered.
        if relation == nil, !stop.traits.isDisjoint(with: [.isQueue, .delivers]) { self.isSafe = true }
        if self.end == nil { self.end = "'\(stop.id)'" + (relation.map { " by '\($0)'" } ?? "") }
    }

    /// What came of it if nothing failed; `nil` if all is well.
    var outcome: Outcome? {
        if self.isSafe { return nil }
        if self.isSuperseded { return .superseded }
        return self.end.map { .ended(at: $0) }
    }
}

/// Where one message and its copies are, and what came of them so far.
private struct Journey: Sendable {
    /// How many nodes it has come to.
    private(set) var hops = 0
    /// The first answer that a node set.
    private(set) var reply: Reply?
    /// The first failure that nothing handled.
    private(set) var failure: NodeError?
    /// The earliest time at which a node wants to be asked again.
    private(set) var later: Later?
    /// How far it came, if it has a ``Message/precedence``.
    var standing: Standing?
    /// Where the message goes as long as there is only one, without a list.
    private var upcoming: (target: Int, message: Message)?
    /// The branches that wait while another runs, the next one last.
    private var waiting: [(target: Int, message: Message)] = []
    /// What is on its way to the disk, with the nodes that began it.
    private var writes: [(stop: ChainPlan.Stop, write: PendingWrite)] = []

    var hasWrites: Bool { !self.writes.isEmpty }

    mutating func add(_ write: PendingWrite, of stop: ChainPlan.Stop) { self.writes.append((stop, write)) }

    /// Waits until all that was begun is stored.
    ///
    /// - Returns: Why something could not be stored, which is a failure of the message, too.
    mutating func finishWrites() async -> NodeError? {
        var first: NodeError?
        for (stop, write) in self.writes {
            do {
                try await write.stored()
            } catch {
                stop.counters.failed.increment()
                if first == nil { first = NodeError(wrapping: error) }
            }
        }
        self.writes = []
        if self.failure == nil { self.failure = first }
        return first
    }

    mutating func next() -> (target: Int, message: Message)? {
        // Moved out, as copying a message costs more than all else here.
        guard let next = self.upcoming.take() ?? self.waiting.popLast() else { return nil }
        self.hops += 1
        return next
    }

    /// Notes that a node wants the message later.
    mutating func postpone(_ later: Later) {
        if let earlier = self.later, earlier.until <= later.until { return }
        self.later = later
    }

    /// Ends all branches with a failure.
    mutating func abandon(_ failure: NodeError) {
        self.failure = failure
        self.upcoming = nil
        self.waiting = []
    }

    /// Takes a message along the links of a relation.
    mutating func leave(_ stop: ChainPlan.Stop, _ message: consuming Message, _ relation: Relation) {
        if self.reply == nil, message.hasReply { self.reply = message.reply }
        self.standing?.leaves(stop, by: relation)
        guard let exit = stop.exit(relation) else {
            if relation == .failure {
                self.failUnhandled(stop, message)
            } else {
                self.standing?.ended(at: stop, by: relation)
            }
            return
        }
        if exit.links.count == 1 {
            exit.links[0].counter.increment()
            self.upcoming = (exit.links[0].target, message)
        } else {
            self.wait(exit, message)
        }
    }

    /// Takes messages to where they go.
    mutating func leave(_ stop: ChainPlan.Stop, _ routes: [(message: Message, relation: Relation)]) {
        // Answers and failures count in the order of the routes; branches wait with the next one last.
        for (message, relation) in routes {
            if self.reply == nil, message.hasReply { self.reply = message.reply }
            self.standing?.leaves(stop, by: relation)
            guard stop.exit(relation) == nil else { continue }
            if relation == .failure {
                self.failUnhandled(stop, message)
            } else {
                self.standing?.ended(at: stop, by: relation)
            }
        }
        for (message, relation) in routes.reversed() {
            if let exit = stop.exit(relation) { self.wait(exit, message) }
        }
    }

    /// Lets a message leave by `Failure`, if that leads somewhere, with what went wrong in its metadata.
    mutating func fail(_ stop: ChainPlan.Stop, _ message: Message?, _ cause: any Error) {
        stop.counters.failed.increment()
        let error = NodeError(wrapping: cause)
        guard stop.handlesFailure, var message else {
            if self.failure == nil { self.failure = error }
            return
        }
        message.metadata[ChainPlan.errorKey] = .string(error.message)
        message.metadata[ChainPlan.errorCodeKey] = .string(error.code.rawValue)
        self.leave(stop, message, .failure)
    }

    private mutating func wait(_ exit: ChainPlan.Exit, _ message: Message) {
        for link in exit.links.reversed() {
            link.counter.increment()
            self.waiting.append((link.target, message))
        }
    }

    private mutating func failUnhandled(_ stop: ChainPlan.Stop, _ message: Message) {
        guard self.failure == nil else { return }
        let code = message.metadata.string(ChainPlan.errorCodeKey).map(NodeError.Code.init(rawValue:))
        let text = message.metadata.string(ChainPlan.errorKey) ?? "node '\(stop.id)' could not do its work"
        self.failure = NodeError(code ?? .internalError, text)
    }
}
