import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct PersistentCallTests {
    /// The call as it is stored.
    private func call(_ id: String, _ server: TestServer) async throws -> PersistentCall? {
        try await server.store.call(try #require(PersistentCallId(id)))
    }

    @Test("a persistent call is stored, answered with its identifier, and can be looked at, listed and deleted")
    func life() async throws {
        try await TestServer.run { server in
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            let body: JSON = [
                "method": "set", "params": ["pin": 1], "persistent": true, "timeout": 7000, "retries": 2,
                "expirationTime": 1_800_000_000_000, "additionalInfo": ["who": "me"],
            ]
            let answer = try await server.post("/api/rpc/twoway/\(id)", body).json
            let rpc = try #require(answer["rpcId"]?.string)
            let stored = try #require(try await self.call(rpc, server))
            #expect(stored.device.name == "d" && stored.device.type == "default" && !stored.isOneWay)
            #expect(stored.timeout == .seconds(7) && stored.retriesLeft == 2 && stored.status == .queued)
            let shown = try await server.get("/api/rpc/persistent/\(rpc)").json
            #expect(shown["id"] == ["entityType": "RPC", "id": .string(rpc)])
            #expect(shown["deviceId"]?["id"] == .string(id))
            #expect(shown["status"] == "QUEUED" && shown["response"] == .null)
            #expect(shown["expirationTime"] == 1_800_000_000_000 && shown["createdTime"] == 1_700_000_000_000)
            #expect(shown["request"]?["body"] == ["method": "set", "params": #"{"pin":1}"#])
            #expect(shown["request"]?["oneway"] == false && shown["request"]?["persisted"] == true)
            #expect(shown["request"]?["retries"] == 2 && shown["additionalInfo"] == ["who": "me"])
            let list = "/api/rpc/persistent/device/\(id)?pageSize=10&page=0"
            let page = try await server.get(list).json
            #expect(page["totalElements"] == 1 && page["data"]?.array?.first == shown)
            let other = try await server.get("\(list)&rpcStatus=SUCCESSFUL").json
            #expect(other["totalElements"] == 0)
            let deleted = try await server.delete("/api/rpc/persistent/\(rpc)")
            #expect(deleted.status == 200)
            try (try await server.get("/api/rpc/persistent/\(rpc)")).expectError(
                404,
                32,
                "Rpc with id [\(rpc)] is not found"
            )
            try (try await server.delete("/api/rpc/persistent/\(rpc)")).expectError(404, 32)
            try (try await server.get("\(list)&rpcStatus=GONE")).expectError(400, 31)
            let unknown = DeviceId.random()
            try (try await server.get("/api/rpc/persistent/device/\(unknown)?pageSize=1&page=0")).expectError(404, 32)
        }
    }

    @Test("what a persistent call does not say is as in ThingsBoard", arguments: ["/api/rpc", "/api/plugins/rpc"])
    func defaults(path: String) async throws {
        try await TestServer.run { server in
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            let response = try await server.post("\(path)/oneway/\(id)", ["method": "m", "persistent": true])
            #expect(response.status == 200)
            let stored = try #require(try await self.call(response.json["rpcId"]?.string ?? "", server))
            #expect(stored.isOneWay && stored.params == .null && stored.retriesLeft == 5)
            #expect(stored.timeout == .seconds(10))
            #expect(stored.expirationTime == stored.createdTime.adding(.seconds(10)))
        }
    }

    @Test(
        "a persistent call that cannot be stored is refused",
        arguments: [
            #"{"method":"m","persistent":true,"retries":-1}"#, #"{"method":"m","persistent":true,"retries":101}"#,
            #"{"method":"m","persistent":true,"timeout":3600001}"#, #"{"method":"m","persistent":1}"#,
        ]
    )
    func refused(body: String) async throws {
        try await TestServer.run { server in
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            let path = "/api/rpc/oneway/\(id)"
            try (try await server.send(.POST, path, [:], .init(string: body), token: server.token)).expectError(400, 31)
            let largest = try await server.post(
                path,
                ["method": "m", "persistent": true, "retries": 100, "timeout": 3_600_000]
            )
            #expect(largest.status == 200)
            for _ in 1..<PersistentCallRules.deviceCallsMax {
                #expect(try await server.post(path, ["method": "m", "persistent": true]).status == 200)
            }
            try (try await server.post(path, ["method": "m", "persistent": true])).expectError(
                429,
                33,
                "100 calls of this device wait already; delete some, or wait until they are over"
            )
        }
    }
}
