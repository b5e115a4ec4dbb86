import NodeKit
import NodeTesting
import Synchronization
import Testing

@testable import Chains

/// What a chain does with writes that its nodes do not wait for.
@Suite struct PendingWriteTests {
    /// Notes what happens, in order.
    final class Notes: Sendable {
        private let notes = Mutex<[String]>([])
        func add(_ note: String) { self.notes.withLock { $0.append(note) } }
        var all: [String] { self.notes.withLock { $0 } }
    }

    /// A node that notes each message, and begins to store something.
    private struct StoringNode: Node {
        static let descriptor = NodeDescriptor(type: "storing", summary: "Stores.", relations: [])

        let id: String
        let notes: Notes
        var stores = false
        var error: NodeError?

        init(id: String, notes: Notes, stores: Bool = false, error: NodeError? = nil) {
            self.id = id
            self.notes = notes
            self.stores = stores
            self.error = error
        }

        init(configuration: Configuration, services: NodeServices) throws {
            self.init(id: services.node, notes: try services.require(Notes.self))
        }

        func process(_ message: Message) async throws -> Emission {
            let why = message.metadata.string(ChainPlan.errorCodeKey).map { " after \($0)" } ?? ""
            self.notes.add(self.id + why)
            guard self.stores else { return .route(message, to: .success) }
            let write = PendingWrite {
                self.notes.add("stored \(self.id)")
                if let error = self.error { throw error }
            }
            return .route(message, to: .success, storing: write)
        }
    }

    private let notes = Notes()

    private func node(_ id: String, stores: Bool = false, error: NodeError? = nil) -> any Node {
        StoringNode(id: id, notes: self.notes, stores: stores, error: error)
    }

    /// Sends a message through nodes, each linked to the next ones by relation; returns the outcome and the plan.
    private func send(
        _ nodes: (node: any Node, overtakes: Bool, links: [Relation: [Int]])...
    ) async -> (outcome: String, failed: [UInt64]) {
        let source = ChainPlan.Stop(
            id: "in",
            node: nil,
            exits: [ChainPlan.Exit(relation: .success, links: [ChainPlan.Link(target: 1, counter: Counter())])],
            descriptor: StoringNode.descriptor,
            counters: NodeCounters()
        )
        let stops = nodes.enumerated().map { index, node in
            var descriptor = StoringNode.descriptor
            descriptor.overtakesWrites = node.overtakes
            let exits = node.links.map { relation, targets in
                ChainPlan.Exit(
                    relation: relation,
                    links: targets.map { ChainPlan.Link(target: $0, counter: Counter()) }
                )
            }
            return ChainPlan.Stop(
                id: "\(index)",
                node: node.node,
                exits: exits,
                descriptor: descriptor,
                counters: NodeCounters()
            )
        }
        let plan = ChainPlan(chain: "main", hopsMax: 100, stops: [source] + stops)
        let outcome = await plan.send(.test(), from: 0, by: .success)
        return (outcome.brief, stops.map(\.counters.failed.value))
    }

    @Test("What nodes began to store is waited for once, at the end of the message")
    func atTheEnd() async {
        let (outcome, _) = await self.send(
            (self.node("a", stores: true), false, [.success: [2]]),
            (self.node("b", stores: true), true, [.success: [3]]),
            (self.node("c"), true, [:])
        )
        #expect(outcome == "completed")
        #expect(self.notes.all == ["a", "b", "c", "stored a", "stored b"])
    }

    @Test("A node that may look at what is stored gets a message once it is")
    func beforeANodeThatLooks() async {
        let (outcome, _) = await self.send(
            (self.node("a", stores: true), false, [.success: [2]]),
            (self.node("b"), false, [.success: [3]]),
            (self.node("c"), false, [:])
        )
        #expect(outcome == "completed")
        #expect(self.notes.all == ["a", "stored a", "b", "c"])
    }

    @Test("What cannot be stored fails the message, and is a failure of the node that began it")
    func failure() async {
        let (outcome, failed) = await self.send(
            (self.node("a", stores: true, error: NodeError(.storageFull, "full")), false, [.success: [2]]),
            (self.node("b", stores: true), true, [:])
        )
        #expect(outcome == "failed storage-full")
        #expect(self.notes.all == ["a", "b", "stored a", "stored b"])
        #expect(failed == [1, 0])
    }

    @Test("A node that may look never hears of what could not be stored")
    func failureBeforeANodeThatLooks() async {
        let (outcome, failed) = await self.send(
            (self.node("a", stores: true, error: NodeError(.storageFull, "full")), false, [.success: [2]]),
            (self.node("b"), false, [:])
        )
        #expect(outcome == "failed storage-full")
        #expect(self.notes.all == ["a", "stored a"])
        #expect(failed == [1, 0])
    }

    @Test("A node whose Failure is linked fails in its place")
    func linkedFailure() async {
        let (outcome, failed) = await self.send(
            (
                self.node("a", stores: true, error: NodeError(.storageFull, "full")), false,
                [.success: [2], .failure: [3]]
            ),
            (self.node("b"), true, [:]),
            (self.node("c"), true, [:])
        )
        #expect(outcome == "completed")
        #expect(self.notes.all == ["a", "stored a", "c after storage-full"])
        #expect(failed == [1, 0, 0])
    }

    @Test("Branches share the wait, and each of their writes is waited for")
    func branches() async {
        let (outcome, _) = await self.send(
            (self.node("a"), false, [.success: [2, 3]]),
            (self.node("b", stores: true), true, [:]),
            (self.node("c", stores: true), true, [:])
        )
        #expect(outcome == "completed")
        #expect(self.notes.all == ["a", "b", "c", "stored b", "stored c"])
    }
}
