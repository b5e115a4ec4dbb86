import Chains
import Logging
import NIOPosix
import NodeKit
import NodeTesting
import Synchronization

/// The node types of these tests.
enum TestPlugin {
    static let namespace = "urn:test"

    static let plugin = Plugin(
        name: "Test",
        version: "1",
        namespace: Self.namespace,
        nodes: [
            SourceNode.self, HoldNode.self, WorkNode.self, SwitchNode.self, FilterNode.self, SinkNode.self,
            AssignedNode.self, PushNode.self, WindowNode.self,
        ]
    )

    static func types() throws -> NodeTypes {
        var types = NodeTypes()
        try types.add(Self.plugin)
        return types
    }
}

/// What the nodes of a test do and tell.
final class Bench: Sendable {
    private struct State {
        var made: [String: Int] = [:]
        var outlets: [String: any Outlet] = [:]
        var seen: [(node: String, message: Message)] = []
        var stopped: [String] = []
        var waiters: [(isDone: @Sendable (Bench) -> Bool, continuation: CheckedContinuation<Void, Never>)] = []
        var nextRun = 0
        var runs: [(id: Int, node: String, continuation: CheckedContinuation<Void, any Error>)] = []
    }

    private let state = Mutex(State())
    /// What a `work` node does instead of passing a message on, by its identifier.
    let work: @Sendable (_ node: String, _ message: Message) async throws -> Emission?
    /// What a `source` or `hold` node throws before it is ready, by its identifier and port.
    let startError: @Sendable (_ node: String, _ port: Int64) -> NodeError?

    init(_ work: @escaping @Sendable (_ node: String, _ message: Message) async throws -> Emission? = { _, _ in nil }) {
        self.work = work
        self.startError = { _, _ in nil }
    }

    private init(startError: @escaping @Sendable (_ node: String, _ port: Int64) -> NodeError?) {
        self.work = { _, _ in nil }
        self.startError = startError
    }

    /// A bench where some ingress nodes cannot start.
    static func refusing(_ startError: @escaping @Sendable (_ node: String, _ port: Int64) -> NodeError?) -> Bench {
        Bench(startError: startError)
    }

    /// How many instances of a node were made.
    func made(_ node: String) -> Int { self.state.withLock { $0.made[node] ?? 0 } }
    func noteMade(_ node: String) { self.change { $0.made[node, default: 0] += 1 } }

    /// The identifiers of the nodes that saw a message, in order.
    var path: [String] { self.state.withLock { $0.seen.map(\.node) } }
    func messages(at node: String) -> [Message] {
        self.state.withLock { $0.seen.filter { $0.node == node }.map(\.message) }
    }
    func noteSeen(_ node: String, _ message: Message) { self.change { $0.seen.append((node, message)) } }

    /// The ingress nodes that returned, in order.
    var stopped: [String] { self.state.withLock { $0.stopped } }
    func noteStopped(_ node: String) { self.change { $0.stopped.append(node) } }

    func outlet(_ node: String) -> (any Outlet)? { self.state.withLock { $0.outlets[node] } }
    func noteOutlet(_ node: String, _ outlet: any Outlet) { self.change { $0.outlets[node] = outlet } }

    /// Sends a message as an ingress node would, and returns the outcome in short.
    func send(_ node: String = "in", _ message: Message = .test(), by relation: Relation = .success) async -> String {
        guard let outlet = self.outlet(node) else { return "'\(node)' does not run" }
        return await outlet.send(message, by: relation).brief
    }

    /// Works until the task is cancelled or the test lets the node crash.
    func run(_ node: String) async throws {
        defer { self.noteStopped(node) }
        let id = self.state.withLock { state in
            state.nextRun += 1
            return state.nextRun
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                self.change { $0.runs.append((id, node, continuation)) }
                if Task.isCancelled { self.end(CancellationError()) { $0 == id } }
            }
        } onCancel: {
            self.end(CancellationError()) { $0 == id }
        }
    }

    /// Whether an ingress node runs and can be let crash.
    func isRunning(_ node: String) -> Bool { self.state.withLock { $0.runs.contains { $0.node == node } } }

    /// Lets an ingress node throw.
    func crash(_ node: String) {
        let id = self.state.withLock { $0.runs.first { $0.node == node }?.id }
        self.end(NodeError("crash", "it broke")) { $0 == id }
    }

    private func end(_ error: any Error, where isMeant: (Int) -> Bool) {
        let run = self.state.withLock { state in
            state.runs.firstIndex { isMeant($0.id) }.map { state.runs.remove(at: $0) }
        }
        run?.continuation.resume(throwing: error)
    }

    /// Waits until something is so, which is looked at after each thing that a node tells.
    func wait(until isDone: @escaping @Sendable (Bench) -> Bool) async {
        await withCheckedContinuation { continuation in
            self.change { $0.waiters.append((isDone, continuation)) }
        }
    }

    private func change(_ body: (inout sending State) -> Void) {
        let waiters = self.state.withLock { state in
            body(&state)
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters {
            if waiter.isDone(self) {
                waiter.continuation.resume()
            } else {
                self.state.withLock { $0.waiters.append(waiter) }
            }
        }
    }

    /// Services that lend nodes this bench.
    func services(clock: any Clock<Duration> = ContinuousClock()) -> @Sendable (String, String) -> NodeServices {
        { chain, node in
            var services = NodeServices.testing({ $0.register(self, as: Bench.self) }, node: node, clock: clock)
            services.chain = chain
            return services
        }
    }
}

extension Message {
    static func test(_ type: MessageType = "TEST", _ metadata: Metadata = [:], _ data: MessageData = .none) -> Message {
        Message(
            originator: Originator(id: .random(), name: "pump-1", type: "pump"),
            type: type,
            metadata: metadata,
            data: data,
            timestamp: Timestamp(milliseconds: 1_700_000_000_000)
        )
    }
}

/// Messages start here when a test sends them.
struct SourceNode: IngressNode {
    static let descriptor = NodeDescriptor(
        type: "source",
        summary: "Starts messages.",
        relations: [RelationDescriptor(.success, "Always.")],
        attributes: [
            .integer("port", default: 0, in: 0...65535, summary: "Port.")
        ],
        variables: [VariableDescriptor("transport", "How it came.")]
    )

    let id: String
    let port: Int64
    let bench: Bench

    init(configuration: Configuration, services: NodeServices) throws {
        self.id = services.node
        self.port = configuration.integer("port")
        self.bench = try services.require(Bench.self)
        self.bench.noteMade(self.id)
    }

    func run(_ outlet: any Outlet) async throws {
        if let error = self.bench.startError(self.id, self.port) { throw error }
        self.bench.noteOutlet(self.id, outlet)
        outlet.ready([Listener(scheme: "test", host: self.id, port: Int(self.port))])
        try await self.bench.run(self.id)
    }
}

/// Takes messages in and starts them again when a test says so.
struct HoldNode: Node, IngressNode {
    static let descriptor = NodeDescriptor(
        type: "hold",
        summary: "Holds messages.",
        relations: [RelationDescriptor(.success, "Later.")],
        attributes: [.duration("pause-seconds", .seconds, default: 1, in: 1...60, summary: "How long.")],
        traits: .isQueue
    )

    let id: String
    let bench: Bench

    init(configuration: Configuration, services: NodeServices) throws {
        self.id = services.node
        self.bench = try services.require(Bench.self)
        self.bench.noteMade(self.id)
    }

    func process(_ message: Message) async throws -> Emission {
        self.bench.noteSeen(self.id, message)
        return .end
    }

    func run(_ outlet: any Outlet) async throws {
        self.bench.noteOutlet(self.id, outlet)
        outlet.ready([])
        try await self.bench.run(self.id)
    }
}

/// Passes a message on, or does what the test says.
struct WorkNode: Node {
    static let descriptor = NodeDescriptor(
        type: "work",
        summary: "Works.",
        relations: [
            RelationDescriptor(.success, "Done."), RelationDescriptor("NotFound", "Nothing there."),
            RelationDescriptor(.failure, "Not done."),
        ],
        attributes: [
            .string("kind", default: "FIRMWARE", oneOf: ["FIRMWARE", "SOFTWARE"], summary: "Which."),
            .string("note", optional: true, summary: "A note."),
            .boolean("quiet", default: false, summary: "Whether to be quiet."),
            .integer("size", default: 10, in: 1...100, unit: "bytes", summary: "How much."),
            .integer("limit", in: 1...5, optional: true, summary: "How much at most."),
        ],
        variables: [VariableDescriptor("found", "Whether it was found.")]
    )

    let id: String
    let bench: Bench

    init(configuration: Configuration, services: NodeServices) throws {
        self.id = services.node
        self.bench = try services.require(Bench.self)
        if configuration.stringIfPresent("note") == "refuse" {
            throw NodeError("bad-note", "the note is refused")
        }
        self.bench.noteMade(self.id)
    }

    func process(_ message: Message) async throws -> Emission {
        self.bench.noteSeen(self.id, message)
        return try await self.bench.work(self.id, message) ?? .route(message, to: .success)
    }
}

/// Goes by the message's type.
struct SwitchNode: Node {
    static let descriptor = NodeDescriptor(
        type: "switch",
        summary: "Goes by type.",
        relations: [RelationDescriptor(.other, "No link fits.")],
        hasOpenRelations: true
    )

    init(configuration: Configuration, services: NodeServices) throws {}

    func process(_ message: Message) async throws -> Emission {
        .route(message, to: Relation(rawValue: message.type.rawValue))
    }
}

/// Asks a condition.
struct FilterNode: Node {
    static let descriptor = NodeDescriptor(
        type: "filter",
        summary: "Asks a condition.",
        relations: [RelationDescriptor(.true, "Yes."), RelationDescriptor(.false, "No.")],
        attributes: [.condition("test", summary: "What to ask.")]
    )

    let test: any Condition

    init(configuration: Configuration, services: NodeServices) throws {
        self.test = configuration.condition("test")
    }

    func process(_ message: Message) async throws -> Emission {
        .route(message, to: try self.test.holds(for: message) ? .true : .false)
    }
}

/// Has no way on.
struct SinkNode: Node {
    static let descriptor = NodeDescriptor(type: "sink", summary: "Ends.", relations: [])

    init(configuration: Configuration, services: NodeServices) throws {}

    func process(_ message: Message) async throws -> Emission { .end }
}
