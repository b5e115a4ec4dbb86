import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct ApiKeyTests {
    private func get(_ path: String, key: String, _ world: TenantWorld) async throws -> TestResponse {
        try await world.server.send(.GET, path, ["X-Authorization": "ApiKey \(key)"], .init(), token: nil)
    }

    private func make(
        _ world: TenantWorld,
        as caller: TenantWorld.Caller,
        _ more: JSON.Object = [:]
    ) async throws -> TestResponse {
        let me = try await world.get("/api/auth/user", as: caller).json
        var body: JSON.Object = ["userId": me["id"] ?? .null, "description": "for CI"]
        for member in more.members { body[member.name] = member.value }
        return try await world.send(.POST, "/api/apiKey", .object(body), as: caller)
    }

    @Test func aKeyDoesWhatItsUserMayAndItsValueIsToldOnce() async throws {
        try await TenantWorld.run { world in
            let key = try await self.make(world, as: .readerOfB).json
            let value = try #require(key["value"]?.string)
            #expect(value.hasPrefix("tb_"))
            #expect(value.count == 67)
            #expect(key["enabled"] == true)
            #expect(key["expirationTime"] == 0)
            #expect(key["expired"] == false)
            let list = "/api/tenant/devices?pageSize=9&page=0"
            let read = try await self.get(list, key: value, world)
            #expect(try read.json["data"]?.array?.count == 1, "\(read.text)")
            let written = try await world.server.send(
                .POST,
                "/api/device",
                ["Authorization": "apikey \(value)"],
                JSON.object(["name": "x"]).bytes,
                token: nil
            )
            try written.expectError(403, 20)
            let user = try #require(key["userId"]?["id"]?.string)
            let keys = try await world.get("/api/apiKeys/\(user)?pageSize=9&page=0", as: .readerOfB)
            #expect(try keys.json["data"]?.array?.map(\.entityId) == [key.entityId])
            #expect(!keys.text.contains(value))
            #expect(!keys.text.contains("value"))
        }
    }

    @Test func aKeyIsDisabledAndDeletedAtOnce() async throws {
        try await TenantWorld.run { world in
            let key = try await self.make(world, as: .adminOfB).json
            let value = try #require(key["value"]?.string)
            func use() async throws -> TestResponse { try await self.get("/api/auth/user", key: value, world) }
            #expect(try await use().status == 200)
            let path = "/api/apiKey/\(key.entityId)"
            let off = try await world.send(.PUT, "\(path)/enabled/false", [:], as: .adminOfB)
            #expect(try off.json["enabled"] == false, "\(off.text)")
            try (try await use()).expectError(401, 10, "API key is not active")
            #expect(try await world.send(.PUT, "\(path)/enabled/true", [:], as: .adminOfB).status == 200)
            #expect(try await use().status == 200)
            try (try await world.send(.PUT, "\(path)/enabled/maybe", [:], as: .adminOfB)).expectError(400, 31)
            let described = try await world.send(.PUT, "\(path)/description", "new words", as: .adminOfB)
            #expect(try described.json["description"] == "new words")
            #expect(try await world.send(.DELETE, path, [:], as: .adminOfB).status == 200)
            try (try await use()).expectError(401, 10, "Authentication failed")
            try (try await world.send(.DELETE, path, [:], as: .adminOfB))
                .expectError(404, 32, "API key with id [\(key.entityId)] is not found")
        }
    }

    @Test func aKeyEndsWithItsUser() async throws {
        try await TenantWorld.run { world in
            let key = try await self.make(world, as: .readerOfB).json
            let value = try #require(key["value"]?.string)
            let user = try #require(key["userId"]?["id"]?.string)
            func use() async throws -> TestResponse { try await self.get("/api/auth/user", key: value, world) }
            #expect(try await use().status == 200)
            let enabled = "/api/user/\(user)/userCredentialsEnabled?userCredentialsEnabled="
            #expect(try await world.send(.POST, enabled + "false", [:], as: .adminOfB).status == 200)
            try (try await use()).expectError(401, 10, "User account is not active")
            #expect(try await world.send(.POST, enabled + "true", [:], as: .adminOfB).status == 200)
            #expect(try await use().status == 200)
            #expect(try await world.send(.DELETE, "/api/user/\(user)", [:], as: .adminOfB).status == 200)
            try (try await use()).expectError(401, 10, "Authentication failed")
        }
    }

    @Test func aKeyExpires() async throws {
        try await TenantWorld.run { world in
            let now: Int64 = 1_700_000_000_000
            try (try await self.make(world, as: .adminOfB, ["expirationTime": .integer(now)]))
                .expectError(400, 31, "API key expiration time should be in the future!")
            let key = try await self.make(world, as: .adminOfB, ["expirationTime": .integer(now + 2000)]).json
            let value = try #require(key["value"]?.string)
            world.server.advance(by: .seconds(1))
            #expect(try await self.get("/api/auth/user", key: value, world).status == 200)
            world.server.advance(by: .seconds(1))
            try (try await self.get("/api/auth/user", key: value, world)).expectError(401, 10, "API key is expired")
            let user = key["userId"]?["id"]?.string ?? ""
            let keys = try await world.get("/api/apiKeys/\(user)?pageSize=9&page=0&textSearch=CI", as: .adminOfB).json
            #expect(keys["data"]?.array?.first?["expired"] == true)
        }
    }

    @Test func keysAreThoseOfUsersWhomOneLooksAfter() async throws {
        try await TenantWorld.run { world in
            let reader = try await world.get("/api/auth/user", as: .readerOfB).json
            let forReader: JSON = ["userId": reader["id"] ?? .null, "description": "made by the administrator"]
            let key = try await world.send(.POST, "/api/apiKey", forReader, as: .adminOfB)
            #expect(key.status == 200, "\(key.text)")
            try (try await world.send(.POST, "/api/apiKey", forReader, as: .adminOfA)).expectError(403, 20)
            let forAdmin: JSON = ["userId": ["id": .string(world.entities["user"] ?? "")], "description": "x"]
            try (try await world.send(.POST, "/api/apiKey", forAdmin, as: .readerOfB)).expectError(403, 20)
            try (try await world.send(.POST, "/api/apiKey", ["description": "x"], as: .readerOfB))
                .expectError(400, 31, "API key should be assigned to user!")
            try (try await self.make(world, as: .readerOfB, ["description": " "]))
                .expectError(400, 31, "API key description should be specified!")
            let change: JSON = ["id": try key.json["id"] ?? .null, "description": "y", "enabled": false]
            let changed = try await world.send(.POST, "/api/apiKey", change, as: .readerOfB).json
            #expect(changed["description"] == "y")
            #expect(changed["enabled"] == false)
            #expect(changed["value"] == nil)
            let later: JSON = ["id": try key.json["id"] ?? .null, "expirationTime": 1]
            try (try await world.send(.POST, "/api/apiKey", later, as: .readerOfB))
                .expectError(400, 31, "Cannot update API key expiration time!")
        }
    }

    @Test func wrongKeysAreSlowedDownAndRightOnesAreNot() async throws {
        try await TenantWorld.run { world in
            let value = try #require(try await self.make(world, as: .adminOfB).json["value"]?.string)
            #expect(try await self.get("/api/auth/user", key: value, world).status == 200)
            for _ in 1...20 {
                try (try await self.get("/api/auth/user", key: "tb_guessed", world))
                    .expectError(401, 10, "Authentication failed")
            }
            let refused = try await self.get("/api/auth/user", key: "tb_guessed", world)
            try refused.expectError(429, 33, "Too many wrong API keys; try again in 1 seconds")
            #expect(refused.headers.first(name: "Retry-After") == "1")
            #expect(try await self.get("/api/auth/user", key: value, world).status == 200)
            world.server.advance(by: .seconds(1))
            try (try await self.get("/api/auth/user", key: "tb_guessed", world)).expectError(401, 10)
        }
    }
}
