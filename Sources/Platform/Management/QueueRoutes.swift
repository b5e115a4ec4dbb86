import Hummingbird
import NodeKit
import OTA

/// `/api/queues`: messages that wait in nodes, and what can be done about those whose node is gone.
///
/// A queue holds messages of the devices of all tenants, so they are for system administrators; on a host with one tenant for its
/// administrators, too.
struct QueueRoutes: Sendable {
    let services: ManagementServices
    /// The queues of the running nodes.
    let running: @Sendable () -> [QueueName]

    private static let dryRun = Operation.Parameter.flag(
        "dryRun",
        "Whether to change nothing, and only answer with how many messages there are"
    )

    func add(to routes: inout RouteTable) {
        routes.add(
            .get,
            "/api/queues",
            for: .administrators,
            Operation(
                "Lists the queues of running nodes, and those that hold messages without one",
                answer: .json(Schema.queue.list)
            ),
            self.list
        )
        routes.add(
            .post,
            "/api/queues/move",
            for: .administrators,
            Operation(
                "Moves all messages of a queue to the end of another one, where they are due at once",
                query: [Self.dryRun],
                body: .json(.queueMove),
                answer: .json(.messageCount),
                failures: [
                    (.notFound, "There is no such queue"),
                    (.conflict, "No running node has the queue that the messages were to go to"),
                ]
            ),
            self.move
        )
        routes.add(
            .post,
            "/api/queues/drop",
            for: .administrators,
            logs: .action(.deleted),
            Operation(
                "Removes all messages of a queue, for good",
                query: [Self.dryRun],
                body: .json(.queueDrop),
                answer: .json(.messageCount),
                failures: [(.notFound, "There is no such queue")]
            ),
            self.drop
        )
    }

    private func table(for request: APIRequest) async throws -> QueueTable {
        if try request.caller().authority != .sysAdmin {
            let tenants = try await self.services.tenants.findTenants(page: PageLink(pageSize: 1))
            guard tenants.totalElements == 1 else { throw APIError.forbidden }
        }
        return QueueTable(waiting: try await self.services.queues.waitingQueues(), running: self.running())
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        let table = try await self.table(for: request)
        return .json(.array(table.names.map(table.json)))
    }

    @Sendable private func move(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        let table = try await self.table(for: request)
        let from = try table.queue(in: body, "from")
        let to = try table.queue(in: body, "to")
        request.trail.note("from", .string(from.description))
        request.trail.note("to", .string(to.description))
        guard from != to else { throw APIError.badRequest("'from' and 'to' are the same queue '\(from)'") }
        guard table.running.contains(to) else {
            throw APIError(
                .conflict,
                35,
                "No running node has the queue '\(to)', where messages would wait in vain; \(table.listing(of: table.running))"
            )
        }
        return try await self.answer(request, table.count(of: from)) {
            try await self.services.queues.move(from: from.description, to: to.description)
        }
    }

    @Sendable private func drop(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        let table = try await self.table(for: request)
        let name = try table.queue(in: body, "name")
        request.trail.note("queue", .string(name.description))
        return try await self.answer(request, table.count(of: name)) {
            try await self.services.queues.drop(name.description)
        }
    }

    /// Carries out a command, unless the request asks for a dry run only, and answers with how many messages it touched.
    private func answer(
        _ request: APIRequest,
        _ waitingCount: Int,
        _ command: () async throws -> Int
    ) async throws -> Response {
        let isDryRun = try request.queryBool("dryRun") == true
        let count = isDryRun ? waitingCount : try await command()
        request.trail.note("messages", .integer(Int64(count)))
        if isDryRun { request.trail.note("dryRun", true) }
        return .json(["messages": .integer(Int64(count))])
    }
}

/// The queues there are: those of running nodes, and those that hold messages.
private struct QueueTable {
    let waiting: [QueueName: WaitingQueue]
    let running: Set<QueueName>

    init(waiting: [WaitingQueue], running: [QueueName]) {
        self.waiting = Dictionary(waiting.map { (QueueName($0.name), $0) }) { $1 }
        self.running = Set(running)
    }

    /// All names, in their order.
    var names: [QueueName] { self.running.union(self.waiting.keys).sorted { $0.description < $1.description } }

    func count(of name: QueueName) -> Int { self.waiting[name]?.count ?? 0 }

    /// The queue that a member of a body names, as `chain/node`, or as `node` if only one queue is of a node with this identifier.
    func queue(in body: BodyReader, _ member: String) throws -> QueueName {
        guard let text = try body.string(member), !text.isEmpty else { throw APIError.missing(parameter: member) }
        let names = self.names
        if let name = names.first(where: { $0.description == text }) { return name }
        let found = names.filter { $0.node == text }
        guard let name = found.first else {
            throw APIError(.notFound, 32, "There is no queue '\(text)'; \(self.listing(of: names))")
        }
        guard found.count == 1 else {
            throw APIError.badRequest("'\(text)' may be \(Self.quoted(found, " or ")); say which as chain/node")
        }
        return name
    }

    /// Names, for people.
    func listing(of names: some Collection<QueueName>) -> String {
        names.isEmpty ? "there are none" : "there are \(Self.quoted(names, ", "))"
    }

    private static func quoted(_ names: some Collection<QueueName>, _ joint: String) -> String {
        names.map { "'\($0)'" }.sorted().joined(separator: joint)
    }

    func json(_ name: QueueName) -> JSON {
        let queue = self.waiting[name]
        let held = (queue?.held ?? [:]).sorted { $0.key < $1.key }
        return [
            "name": .string(name.description), "chain": .string(name.chain), "node": .string(name.node),
            "hasNode": .bool(self.running.contains(name)), "waiting": .integer(Int64(queue?.count ?? 0)),
            "oldest": queue?.oldest.map(JSON.init) ?? .null,
            "held": .object(JSON.Object(held.map { ($0.key, .integer(Int64($0.value))) })),
        ]
    }
}
