import NIOHTTP1
import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct AuditTests {
    private func log(
        _ world: TenantWorld,
        _ path: String = "",
        _ query: String = "",
        as caller: TenantWorld.Caller = .adminOfB
    ) async throws -> [JSON] {
        let response = try await world.get("/api/audit/logs\(path)?pageSize=1000&page=0\(query)", as: caller)
        #expect(response.status == 200, "\(response.text)")
        return try response.json["data"]?.array ?? []
    }

    @Test func aChangeIsToldInThingsBoardsShape() async throws {
        try await TenantWorld.run { world in
            let device = world.entities["device"] ?? ""
            let package = world.entities["otaPackage"] ?? ""
            let body: JSON = [
                "id": ["id": .string(device)], "name": "renamed", "firmwareId": ["id": .string(package)],
                "deviceProfileId": ["id": .string(world.entities["deviceProfile"] ?? "")],
            ]
            #expect(try await world.send(.POST, "/api/device", body, as: .adminOfB).status == 200)
            let entry = try #require(try await self.log(world, "/entity/DEVICE/\(device)").first)
            #expect(
                entry.object?.names == [
                    "id", "createdTime", "tenantId", "customerId", "entityId", "entityName", "userId", "userName",
                    "actionType", "actionData", "actionStatus", "actionFailureDetails",
                ]
            )
            #expect(entry["createdTime"] == 1_700_000_000_000)
            #expect(entry["tenantId"]?["id"]?.string == world.tenant.description)
            #expect(entry["entityId"] == ["entityType": "DEVICE", "id": .string(device)])
            #expect(entry["entityName"] == "renamed")
            #expect(entry["userId"]?["id"]?.string == world.entities["user"])
            #expect(entry["userName"] == .string("adminOfB \(TenantWorld.marker)"))
            #expect(entry["actionType"] == "UPDATED")
            #expect(entry["actionStatus"] == "SUCCESS")
            #expect(entry["actionFailureDetails"] == "")
            #expect(
                entry["actionData"] == [
                    "clientAddress": "127.0.0.1", "method": "POST", "path": "/api/device", "by": "LOGIN",
                    "firmwareId": .string(package),
                ]
            )
        }
    }

    @Test func everyRouteThatChangesSomethingLeavesAnEntry() async throws {
        try await TenantWorld.run { world in
            let reading: Set<String> = ["/api/auth/token", "/api/entitiesQuery/find", "/api/entitiesQuery/count"]
            for route in world.routes where route.method != .get {
                #expect(route.action != nil || reading.contains(route.path), "\(route.method) \(route.path)")
            }
            // Whether it succeeds or not, and whoever tries.
            for route in world.routes where route.action != nil && route.access != .anyone && route.method != .get {
                let before = try await self.log(world, as: .adminOfA).count
                let logsOut = route.path == "/api/auth/logout"
                let caller = logsOut ? TenantWorld.Caller.readerOfA : .adminOfA
                let status = try await world.send(route, query: "", as: caller).status
                let after = try await self.log(world, "", "&sortProperty=createdTime&sortOrder=DESC", as: .adminOfA)
                #expect(after.count == before + 1, "\(route.method) \(route.path): \(status)")
                let entry = after.first
                #expect(entry?["actionData"]?["method"]?.string == route.method.rawValue, "\(route.path)")
                #expect((entry?["actionStatus"] == "SUCCESS") == (status < 300), "\(route.path)")
                #expect(entry?["actionFailureDetails"] == "" || status >= 300, "\(route.path)")
            }
        }
    }

    @Test func loginsAreLoggedForTheTenantOfTheUser() async throws {
        try await TenantWorld.run { world in
            for _ in 1...5 { _ = try await world.server.logIn("readerOfA", "wrong") }
            _ = try await world.server.logIn("nobody of this name", "wrong")
            // Nobody waits for entries of failed logins; they are stored before what is written behind them.
            #expect(try await world.send(.POST, "/api/device", ["name": "behind"], as: .adminOfB).status == 200)
            let logins = try await self.log(world, "", "&actionTypes=LOGIN,lockout&textSearch=FAILURE", as: .adminOfA)
            #expect(logins.compactMap { $0["userName"]?.string } == Array(repeating: "readerOfA", count: 5))
            #expect(logins.map { $0["actionType"] } == ["LOCKOUT"] + Array(repeating: "LOGIN", count: 4))
            #expect(logins.allSatisfy { $0["actionFailureDetails"] == "Invalid username or password" })
            let all = try await self.log(world, "", "&actionTypes=LOGIN", as: .adminOfB)
            #expect(Set(all.compactMap { $0["userName"]?.string }).allSatisfy { $0.contains(TenantWorld.marker) })
            #expect(
                try await self.log(world, "", "&actionTypes=LOGIN", as: .system).map { $0["userName"] } == ["system"]
            )
        }
    }

    @Test func entriesAreFound() async throws {
        try await TenantWorld.run { world in
            let user = world.entities["user"] ?? ""
            let start = try await self.log(world).count
            world.server.advance(by: .seconds(10))
            #expect(try await world.send(.POST, "/api/device", ["name": "found"], as: .adminOfB).status == 200)
            let later = 1_700_000_010_000
            #expect(try await self.log(world, "", "&startTime=\(later)").count == 1)
            #expect(try await self.log(world, "", "&endTime=\(later - 1)").count == start)
            #expect(try await self.log(world, "", "&startTime=\(later)&endTime=\(later)").count == 1)
            #expect(try await self.log(world, "", "&textSearch=FOUND").map { $0["actionType"] } == ["ADDED"])
            #expect(try await self.log(world, "/user/\(user)").allSatisfy { $0["userId"]?["id"]?.string == user })
            #expect(try await self.log(world, "/user/\(UserId.random())") == [])
            let sorted = try await self.log(world, "", "&sortProperty=createdTime&sortOrder=ASC")
            #expect(sorted.last?["entityName"] == "found")
            let wrong = try await world.get("/api/audit/logs?pageSize=1&page=0&actionTypes=EATEN", as: .adminOfB)
            try wrong.expectError(400, 31)
            #expect(try await self.log(world, "/user/\(user)", "", as: .adminOfA) == [])
            #expect(
                try await self.log(world, "/entity/DEVICE/\(world.entities["device"] ?? "")", "", as: .adminOfA) == []
            )
        }
    }

    @Test("a text of a request is kept up to a limit, even if it is one letter with many marks", .bug(id: "D1.3"))
    func marks() {
        let text = "n" + String(repeating: "\u{301}", count: 10 * AuditLog.textLengthMax)
        #expect(AuditLog.cut(text).unicodeScalars.count == AuditLog.textLengthMax)
    }

    @Test func noSecretIsEverInTheLog() async throws {
        try await TenantWorld.run { world in
            let secret = "sEcReT7"
            let device = world.entities["device"] ?? ""
            let profile = world.entities["deviceProfile"] ?? ""
            let id: JSON = ["id": .string(device)]
            let changes: [(String, JSON)] = [
                ("/api/device?accessToken=\(secret)", ["name": "a"]),
                ("/api/device/credentials", ["deviceId": id, "credentialsId": .string(secret)]),
                (
                    "/api/device/credentials",
                    [
                        "deviceId": id, "credentialsType": "MQTT_BASIC",
                        "credentialsValue": .string("{\"userName\":\"u\",\"password\":\"\(secret)\"}"),
                    ]
                ),
                (
                    "/api/device/credentials",
                    ["deviceId": id, "credentialsType": .string("NO_SUCH_TYPE"), "x": .string(secret)]
                ),
                (
                    "/api/deviceProfile",
                    [
                        "id": ["id": .string(profile)], "name": "p", "provisionType": "ALLOW_CREATE_NEW_DEVICES",
                        "profileData": ["provisionConfiguration": ["provisionDeviceSecret": .string(secret)]],
                    ]
                ),
                ("/api/plugins/telemetry/DEVICE/\(device)/SHARED_SCOPE", ["password": .string(secret)]),
                ("/api/rpc/twoway/\(device)", ["method": "m", "params": .string(secret)]),
                ("/api/auth/changePassword", ["currentPassword": .string(secret), "newPassword": .string(secret)]),
                ("/api/auth/login", ["username": "adminOfB \(TenantWorld.marker)", "password": .string(secret)]),
                (
                    "/api/auth/changePassword",
                    ["currentPassword": .string(TestServer.password), "newPassword": .string(secret)]
                ),
            ]
            for (path, body) in changes { _ = try await world.send(.POST, path, body, as: .adminOfB) }
            let login = try await world.server.logIn("adminOfB \(TenantWorld.marker)", secret)
            let token = try #require(login["token"]?.string)
            let me: JSON = ["userId": ["id": .string(world.entities["user"] ?? "")], "description": "d"]
            let key = try await world.server.send(.POST, "/api/apiKey", json: me, token: token).json
            let value = try #require(key["value"]?.string)
            let used = try await world.server.send(
                .POST,
                "/api/device",
                ["X-Authorization": "ApiKey \(value)", "X-Forwarded-For": "192.0.2.7"],
                JSON.object(["name": "by key"]).bytes,
                token: nil
            )
            #expect(used.status == 200)
            let log = try await world.server.send(
                .GET,
                "/api/audit/logs?pageSize=1000&page=0",
                [:],
                .init(),
                token: token
            )
            #expect(log.status == 200)
            #expect(try log.json["data"]?.array?.count ?? 0 > changes.count)
            for text in [secret, value, token, TestServer.password, "scrypt"] { #expect(!log.text.contains(text)) }
            let byKey = try log.json["data"]?.array?.first { $0["entityName"] == "by key" }
            #expect(byKey?["actionData"]?["by"] == "API_KEY")
            #expect(byKey?["actionData"]?["apiKeyId"]?.string == key.entityId)
            #expect(byKey?["actionData"]?["forwardedFor"] == "192.0.2.7")
        }
    }

    @Test func aChangeThatCannotBeLoggedIsStillAnsweredTruthfully() async throws {
        let parts = try TestServer.Parts {
            $0.register(FailingAudit(error: NodeError(.storageFull, "full")), as: (any AuditService).self)
        }
        try await TestServer.run(on: parts) { server in
            let made = try await server.post("/api/device", ["name": "x"])
            #expect(made.status == 200, "\(made.text)")
            let found = try await server.get("/api/tenant/device?deviceName=x")
            #expect(found.status == 200, "\(found.text)")
        }
    }
}
