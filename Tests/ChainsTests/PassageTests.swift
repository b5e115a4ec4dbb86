import NodeKit
import NodeTesting
import Testing

@testable import Chains

/// Whether a message comes to the same end at once as it does with waiting, whatever its nodes do and when they know it.
@Suite struct PassageTests {
    private typealias Notes = PendingWriteTests.Notes

    /// What a node does with each message.
    private struct Behaviour {
        let id: Int
        let notes: Notes
        var fails = false
        var answers = false
        var storing: NodeError??
        var relations: [Relation]

        func emission(_ message: Message) throws -> Emission {
            let why = message.metadata.string(ChainPlan.errorCodeKey).map { " after \($0)" } ?? ""
            self.notes.add("\(self.id)\(why)")
            if self.fails { throw NodeError(.conflict, "node \(self.id)") }
            let message = self.answers ? message.replying(.json(.integer(Int64(self.id)))) : message
            if let storing {
                let write = PendingWrite { [id, notes] in
                    notes.add("stored \(id)")
                    if let storing { throw storing }
                }
                return .route(message, to: self.relations.first ?? .success, storing: write)
            }
            return .routes(self.relations.map { (message, $0) })
        }
    }

    private struct WaitingNode: Node {
        static let descriptor = NodeDescriptor(type: "waiting", summary: "Waits.", relations: [])
        let behaviour: Behaviour

        init(_ behaviour: Behaviour) { self.behaviour = behaviour }
        init(configuration: Configuration, services: NodeServices) throws { throw NodeError("unused", "not made") }

        func process(_ message: Message) async throws -> Emission {
            await Task.yield()
            return try self.behaviour.emission(message)
        }
    }

    private struct KnowingNode: ImmediateNode {
        static let descriptor = NodeDescriptor(type: "knowing", summary: "Never waits.", relations: [])
        let behaviour: Behaviour

        init(_ behaviour: Behaviour) { self.behaviour = behaviour }
        init(configuration: Configuration, services: NodeServices) throws { throw NodeError("unused", "not made") }

        func decide(_ message: Message) throws -> Emission { try self.behaviour.emission(message) }
    }

    private struct SeldomWaitingNode: PromptNode {
        static let descriptor = NodeDescriptor(type: "seldom", summary: "Waits sometimes.", relations: [])
        let behaviour: Behaviour
        var waits = false

        init(_ behaviour: Behaviour, waits: Bool) {
            self.behaviour = behaviour
            self.waits = waits
        }
        init(configuration: Configuration, services: NodeServices) throws { throw NodeError("unused", "not made") }

        func decideAtOnce(_ message: consuming Message) throws -> Step<Emission, Message> {
            self.waits ? .suspended(message) : .now(try self.behaviour.emission(message))
        }
        func process(_ message: Message) async throws -> Emission { try self.behaviour.emission(message) }
    }

    /// How one node of a chain is linked and behaves.
    private struct Shape {
        var fails: Bool
        var answers: Bool
        var storing: NodeError??
        var relations: [Relation]
        var links: [Relation: [Int]]
        var overtakesWrites: Bool

        /// A node that leads to later ones only, or now and then back to itself.
        init(_ index: Int, of count: Int, _ random: inout SplitMix) {
            self.fails = Int.random(in: 0..<8, using: &random) == 0
            self.answers = Int.random(in: 0..<4, using: &random) == 0
            switch Int.random(in: 0..<8, using: &random) {
            case 0, 1: self.storing = .some(nil)
            case 2: self.storing = .some(NodeError(.storageFull, "full"))
            default: self.storing = nil
            }
            let choices: [[Relation]] = [
                [.success], [.success], [.success], [.other], [.failure], [], [.success, .other],
            ]
            self.relations = choices[Int.random(in: 0..<choices.count, using: &random)]
            self.links = [:]
            for relation in [Relation.success, .other, .failure] {
                let first = Int.random(in: 0..<20, using: &random) == 0 ? index : index + 1
                guard first < count else { continue }
                let targets = (0..<Int.random(in: 0...2, using: &random)).map { _ in
                    Int.random(in: first..<count, using: &random)
                }
                if !targets.isEmpty { self.links[relation] = targets }
            }
            self.overtakesWrites = Bool.random(using: &random)
        }
    }

    private static func plan(
        _ shapes: [Shape],
        _ notes: Notes,
        _ node: (Int, Behaviour) -> any Node
    ) -> ChainPlan {
        func exits(_ links: [Relation: [Int]]) -> [ChainPlan.Exit] {
            links.sorted { $0.key.rawValue < $1.key.rawValue }.map { relation, targets in
                ChainPlan.Exit(
                    relation: relation,
                    links: targets.map { ChainPlan.Link(target: $0 + 1, counter: Counter()) }
                )
            }
        }
        var stops = [
            ChainPlan.Stop(
                id: "in",
                node: nil,
                exits: exits([.success: [0]]),
                descriptor: WaitingNode.descriptor,
                counters: NodeCounters()
            )
        ]
        for (index, shape) in shapes.enumerated() {
            var descriptor = WaitingNode.descriptor
            descriptor.overtakesWrites = shape.overtakesWrites
            let behaviour = Behaviour(
                id: index,
                notes: notes,
                fails: shape.fails,
                answers: shape.answers,
                storing: shape.storing,
                relations: shape.relations
            )
            stops.append(
                ChainPlan.Stop(
                    id: "\(index)",
                    node: node(index, behaviour),
                    exits: exits(shape.links),
                    descriptor: descriptor,
                    counters: NodeCounters()
                )
            )
        }
        return ChainPlan(chain: "main", hopsMax: 12, stops: stops)
    }

    /// What can be seen of a message's way.
    private static func account(_ outcome: Outcome, _ plan: ChainPlan, _ notes: Notes) -> [String] {
        let counts = plan.stops.map {
            "\($0.id): \($0.counters.processed.value) \($0.counters.failed.value) \($0.counters.started.value) "
                + "\($0.counters.unhandled.value) \($0.exits.flatMap(\.links).map(\.counter.value))"
        }
        return [outcome.brief] + notes.all + counts
    }

    @Test("a message comes to the same end at once as with waiting, at every node the same", arguments: 0..<20)
    func same(seed: UInt64) async {
        var random = SplitMix(state: seed)
        var atOnce = 0
        for _ in 0..<200 {
            let count = Int.random(in: 1...6, using: &random)
            let shapes = (0..<count).map { Shape($0, of: count, &random) }
            let notes = Notes()
            let waiting = Self.plan(shapes, notes) { WaitingNode($1) }
            let expected = Self.account(await waiting.send(.test(), from: 0, by: .success), waiting, notes)

            let kinds = (0..<count).map { _ in Int.random(in: 0..<6, using: &random) }
            for begins in [false, true] {
                let notes = Notes()
                let plan = Self.plan(shapes, notes) { index, behaviour in
                    switch kinds[index] {
                    case 0: WaitingNode(behaviour)
                    case 1: SeldomWaitingNode(behaviour, waits: true)
                    case 2, 3: SeldomWaitingNode(behaviour, waits: false)
                    default: KnowingNode(behaviour)
                    }
                }
                let outcome: Outcome
                if begins {
                    switch plan.begin(.test(), from: 0, by: .success) {
                    case .now(let ended):
                        outcome = ended
                        atOnce += 1
                    case .suspended(let rest): outcome = await rest()
                    }
                } else {
                    outcome = await plan.send(.test(), from: 0, by: .success)
                }
                #expect(Self.account(outcome, plan, notes) == expected, "\(shapes), \(kinds)")
            }
        }
        #expect(atOnce > 20 && atOnce < 180, "some had to wait and some had not: \(atOnce)")
    }

    @Test("a message waits for what its nodes store, and for nothing else")
    func waits() async throws {
        var random = SplitMix(state: 1)
        var shape = Shape(0, of: 1, &random)
        (shape.fails, shape.answers, shape.relations, shape.links) = (false, true, [.success], [:])
        for storing in [nil, .some(nil)] as [NodeError??] {
            shape.storing = storing
            let notes = Notes()
            let plan = Self.plan([shape], notes) { KnowingNode($1) }
            switch plan.begin(.test(), from: 0, by: .success) {
            case .now(let outcome):
                #expect(storing == nil)
                #expect(outcome.brief == "json 0")
            case .suspended(let rest):
                #expect(storing != nil)
                #expect(notes.all == ["0"])
                #expect(await rest().brief == "json 0")
                #expect(notes.all == ["0", "stored 0"])
            }
        }
    }
}
