import NodeKit
import OTA
import Testing

@testable import Management

/// Queues of nodes that run and of nodes that are gone.
@Suite struct QueueTests {
    private static let system = "root"

    /// Runs a server on which nodes `ota/pace`, `ota/empty` and `hooks/pace` run, and messages wait in `ota/pace` and `ota/others`.
    private func run(_ body: (TestServer) async throws -> Void) async throws {
        let parts = try TestServer.Parts()
        let store = parts.domain.store
        _ = try await store.saveUser(try TestServer.user(Self.system, of: .system, .sysAdmin))
        parts.runningQueues.withLock {
            $0 = [("ota", "pace"), ("ota", "empty"), ("hooks", "pace")].map { QueueName(chain: $0, node: $1) }
        }
        for (queue, count) in [("ota/pace", 1), ("ota/others", 3)] {
            for number in 0..<count { try await store.queue(named: queue).append(Self.message(number), countMax: 9) }
        }
        try await TestServer.run(on: parts, logsIn: false) { server in
            let login = try await server.logIn(Self.system)
            server.parts.token.withLock { $0 = login["token"]?.string ?? "" }
            try await body(server)
        }
    }

    private static func message(_ number: Int) -> Message {
        Message(
            originator: Originator(id: .random(), name: "d\(number)", type: "default"),
            type: "TEST",
            timestamp: Timestamp(milliseconds: 1)
        )
    }

    private func waiting(_ server: TestServer) async throws -> [String: Int] {
        let queues = try await server.store.waitingQueues()
        return Dictionary(uniqueKeysWithValues: queues.map { ($0.name, $0.count) })
    }

    @Test("administrators of tenants have the queues as long as there is one tenant, other users never")
    func access() async throws {
        try await self.run { server in
            _ = try await server.store.saveUser(try TestServer.user("reader", .customerUser))
            func list(_ user: String) async throws -> TestResponse {
                let token = try await server.logIn(user)["token"]?.string
                return try await server.send(.GET, "/api/queues", json: [:], token: token)
            }
            #expect(try await list(TestServer.userName).status == 200)
            try (try await list("reader")).expectError(403, 20)
            _ = try await server.domain.tenant("other")
            try (try await list(TestServer.userName)).expectError(403, 20)
            #expect(try await list(Self.system).status == 200)
        }
    }

    @Test("the list has queues with a running node and those without, with what waits and why")
    func list() async throws {
        try await self.run { server in
            let queue = server.store.queue(named: "ota/others")
            let now = server.domain.now()
            let due = try await queue.due(at: now, limit: 2, without: []).messages
            try await queue.postpone(
                due.map { PostponedMessage($0, due: now, reason: HoldReason(code: "window", text: "it is day")) }
            )
            let since = JSON.integer(now.rawValue)
            func json(_ chain: String, _ node: String, hasNode: Bool, _ waiting: Int, _ oldest: JSON, _ held: JSON)
                -> JSON
            {
                [
                    "name": .string("\(chain)/\(node)"), "chain": .string(chain), "node": .string(node),
                    "hasNode": .bool(hasNode), "waiting": .integer(Int64(waiting)), "oldest": oldest, "held": held,
                ]
            }
            #expect(
                try await server.get("/api/queues").json == [
                    json("hooks", "pace", hasNode: true, 0, .null, [:]),
                    json("ota", "empty", hasNode: true, 0, .null, [:]),
                    json("ota", "others", hasNode: false, 3, since, ["window": 2]),
                    json("ota", "pace", hasNode: true, 1, since, [:]),
                ]
            )
        }
    }

    @Test("messages are moved by the identifier of a node alone, and a dry run only counts them")
    func move() async throws {
        try await self.run { server in
            let body: JSON = ["from": "others", "to": "empty"]
            let dry = try await server.post("/api/queues/move?dryRun=true", body)
            #expect(try dry.json == ["messages": 3])
            #expect(try await self.waiting(server) == ["ota/others": 3, "ota/pace": 1])
            #expect(try await server.post("/api/queues/move", body).json == ["messages": 3])
            #expect(try await self.waiting(server) == ["ota/empty": 3, "ota/pace": 1])
            let logs = try await server.get("/api/audit/logs?pageSize=9&page=0&sortProperty=createdTime&sortOrder=DESC")
            let moves = try logs.json["data"]?.array?.filter { $0["actionData"]?["path"] == "/api/queues/move" } ?? []
            #expect(moves.map { $0["actionType"] } == ["UPDATED", "UPDATED"])
            #expect(moves.first?["actionData"]?["from"] == "ota/others")
            #expect(moves.first?["actionData"]?["to"] == "ota/empty")
            #expect(moves.map { $0["actionData"]?["messages"] } == [3, 3])
            #expect(moves.map { $0["actionData"]?["dryRun"] } == [nil, true])
        }
    }

    @Test("messages are dropped for good, and a dry run only counts them")
    func drop() async throws {
        try await self.run { server in
            let body: JSON = ["name": "ota/others"]
            #expect(try await server.post("/api/queues/drop?dryRun=true", body).json == ["messages": 3])
            #expect(try await self.waiting(server) == ["ota/others": 3, "ota/pace": 1])
            #expect(try await server.post("/api/queues/drop", body).json == ["messages": 3])
            #expect(try await self.waiting(server) == ["ota/pace": 1])
            let logs = try await server.get("/api/audit/logs?pageSize=9&page=0&actionTypes=DELETED")
            #expect(try logs.json["data"]?.array?.map { $0["actionData"]?["queue"] } == ["ota/others", "ota/others"])
            // Nothing is known of it any more.
            #expect(try await server.post("/api/queues/drop", body).status == 404)
        }
    }

    @Test(
        "what cannot be meant is refused with the names there are, and changes nothing",
        arguments: [
            (
                "move", ["from": "gone", "to": "empty"], 404,
                "There is no queue 'gone'; there are 'hooks/pace', 'ota/empty', 'ota/others', 'ota/pace'"
            ),
            (
                "move", ["from": "others", "to": "pace"], 400,
                "'pace' may be 'hooks/pace' or 'ota/pace'; say which as chain/node"
            ),
            (
                "move", ["from": "ota/pace", "to": "others"], 409,
                "No running node has the queue 'ota/others', where messages would wait in vain; "
                    + "there are 'hooks/pace', 'ota/empty', 'ota/pace'"
            ),
            ("move", ["from": "ota/pace", "to": "ota/pace"], 400, "'from' and 'to' are the same queue 'ota/pace'"),
            ("move", ["from": "others"], 400, "Parameter 'to' can't be empty!"),
            (
                "drop", ["name": "ota/pac"], 404,
                "There is no queue 'ota/pac'; there are 'hooks/pace', 'ota/empty', 'ota/others', 'ota/pace'"
            ),
            ("drop", [:], 400, "Parameter 'name' can't be empty!"),
        ] as [(String, JSON, Int, String)]
    )
    func refusals(command: String, body: JSON, status: Int, message: String) async throws {
        try await self.run { server in
            let response = try await server.post("/api/queues/\(command)", body)
            #expect(response.status == status)
            #expect(try response.json["message"]?.string == message)
            #expect(try await self.waiting(server) == ["ota/others": 3, "ota/pace": 1])
        }
    }
}
