import NIOCore
import NodeKit
import Synchronization
import Testing

@testable import Management
@testable import OTA

@Suite struct RPCTests {
    static let paths = ["/api/plugins/rpc/oneway", "/api/plugins/rpc/twoway", "/api/rpc/oneway", "/api/rpc/twoway"]

    /// Runs a server with a device while the chain, so to speak, answers each call by a closure.
    private func run(
        _ chain: @escaping @Sendable (RemoteCall) async -> Outcome,
        _ body: (TestServer, _ device: String) async throws -> Void
    ) async throws {
        try await TestServer.run { server in
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            let chain = Task { await server.domain.calls.carry(chain) }
            while server.domain.calls.carrierCount == 0 { await Task.yield() }
            defer { chain.cancel() }
            try await body(server, id)
        }
    }

    @Test(arguments: paths) func aCallIsAnsweredWithWhatTheChainAnswers(path: String) async throws {
        let calls = Mutex<[RemoteCall]>([])
        try await self.run { call in
            calls.withLock { $0.append(call) }
            return .completed(.json(["on": true]))
        } _: { server, id in
            let response = try await server.post("\(path)/\(id)", ["method": "set", "params": [1]])
            #expect(response.status == 200)
            #expect(response.text == (path.hasSuffix("twoway") ? "{\"on\":true}" : ""))
            let call = try #require(calls.withLock { $0.first })
            #expect(call.device.id.uuidString.lowercased() == id)
            #expect(call.device.name == "d" && call.device.type == "default")
            #expect(call.method == "set" && call.params == [1])
            #expect(call.isOneWay == path.hasSuffix("oneway"))
        }
    }

    @Test func aCallThatIsAnsweredWithNothingIsAnsweredWithNothing() async throws {
        try await self.run { _ in
            .completed(.empty)
        } _: { server, id in
            for path in Self.paths {
                let response = try await server.post("\(path)/\(id)", ["method": "set"])
                #expect(response.status == 200)
                #expect(response.text == "")
            }
        }
    }

    @Test(
        "A call that fails has the statuses of ThingsBoard",
        arguments: [
            (.deviceNotConnected, 409, 504, 2), (.timedOut, 408, 504, 2), (.badAnswer, 406, 406, 2),
            (.tooManyRequests, 429, 429, 33), (.unavailable, 503, 503, 2), ("no-answer", 500, 500, 2),
            (.badRequest, 400, 400, 31),
        ] as [(NodeError.Code, Int, Int, Int64)]
    )
    func failures(code: NodeError.Code, v1: Int, v2: Int, errorCode: Int64) async throws {
        try await self.run { _ in
            .failed(NodeError(code, "the reason"))
        } _: { server, id in
            for path in Self.paths {
                let response = try await server.post("\(path)/\(id)", ["method": "set"])
                try response.expectError(path.contains("plugins") ? v1 : v2, errorCode, "the reason")
            }
        }
    }

    @Test(
        "A call has the time that it asks for, within limits",
        arguments: [
            ([:], 10_000), (["timeout": nil], 10_000), (["timeout": 0], 5_000), (["timeout": -1], 5_000),
            (["timeout": 4_999], 5_000), (["timeout": 5_001], 5_001), (["timeout": 3_600_000], 3_600_000),
            (["expirationTime": 1_700_000_000_250], 250), (["expirationTime": 5], 0),
            (["expirationTime": 1_700_000_000_250, "timeout": 9_000], 250),
            (["expirationTime": -9_223_372_036_854_775_808], 0),
        ] as [(JSON.Object, Int)]
    )
    func timeouts(members: JSON.Object, milliseconds: Int) async throws {
        let calls = Mutex<[RemoteCall]>([])
        try await self.run { call in
            calls.withLock { $0.append(call) }
            return .completed(.empty)
        } _: { server, id in
            var body: JSON.Object = ["method": "m", "persistent": false, "retries": 3, "additionalInfo": [:]]
            for member in members.members { body[member.name] = member.value }
            let response = try await server.post("/api/rpc/twoway/\(id)", .object(body))
            #expect(response.status == 200)
            #expect(calls.withLock { $0.map(\.timeout) } == [.milliseconds(milliseconds)])
        }
    }

    @Test(
        "A body that makes no call is refused",
        arguments: [
            "", "{", "[]", "{}", #"{"method":""}"#, #"{"method":7}"#,
            #"{"method":"m","timeout":"long"}"#, #"{"method":"m","timeout":3600001}"#,
            #"{"method":"m","expirationTime":9223372036854775807}"#,
        ]
    )
    func badBodies(body: String) async throws {
        try await self.run { _ in
            .completed(.empty)
        } _: { server, id in
            for path in Self.paths {
                let response = try await server.send(
                    .POST,
                    "\(path)/\(id)",
                    [:],
                    ByteBuffer(string: body),
                    token: server.token
                )
                try response.expectError(400, 31)
            }
        }
    }

    @Test func aCallNeedsADeviceAndAChain() async throws {
        try await TestServer.run { server in
            let unknown = DeviceId.random()
            try (try await server.post("/api/rpc/oneway/\(unknown)", ["method": "m"]))
                .expectError(404, 32, "Device with id [\(unknown)] is not found")
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            try (try await server.post("/api/rpc/oneway/\(id)", ["method": "m"]))
                .expectError(503, 2, "no chain takes calls of devices; add the node 'calls' to one")
            try (try await server.send(.POST, "/api/rpc/oneway/\(id)", json: ["method": "m"], token: nil))
                .expectError(401, 10)
        }
    }
}
