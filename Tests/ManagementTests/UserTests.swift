import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct UserTests {
    private static let forbidden = "You don't have permission to perform this operation!"

    /// Chooses the first password of a user, as the user would.
    private func activate(
        _ user: JSON,
        password: String,
        _ world: TenantWorld,
        as caller: TenantWorld.Caller = .adminOfB
    ) async throws -> TestResponse {
        let link = try await world.get("/api/user/\(user.entityId)/activationLink", as: caller)
        #expect(link.status == 200, "\(link.text)")
        let parts = link.text.split(separator: "=", maxSplits: 1)
        #expect(parts.first == "http://localhost/api/noauth/activate?activateToken")
        let body: JSON = ["activateToken": .string(String(parts.last ?? "")), "password": .string(password)]
        return try await world.server.send(.POST, "/api/noauth/activate", json: body, token: nil)
    }

    @Test func aUserIsMadeActivatedDisabledAndDeleted() async throws {
        try await TenantWorld.run { world in
            let described: JSON = [
                "email": "Bea@example.org", "authority": "CUSTOMER_USER", "firstName": "Bea", "lastName": "B",
                "phone": "1", "additionalInfo": ["desk": 7], "tenantId": ["id": .string(TenantId.main.description)],
            ]
            let made = try await world.send(.POST, "/api/user?sendActivationMail=false", described, as: .adminOfB)
            #expect(made.status == 200, "\(made.text)")
            let user = try made.json
            #expect(user["tenantId"]?["id"]?.string == world.tenant.description, "whatever the body says")
            #expect(user["additionalInfo"] == ["desk": 7, "userCredentialsEnabled": false])
            #expect(user["firstName"] == "Bea")
            let again = try await world.send(.POST, "/api/user", described, as: .adminOfB)
            try again.expectError(400, 31, "User with email 'Bea@example.org' already present in database!")

            let early: JSON = ["username": "bea@example.org", "password": "secret"]
            let login = try await world.server.send(.POST, "/api/auth/login", json: early, token: nil)
            try login.expectError(401, 10, "Invalid username or password")
            try (try await self.activate(user, password: "short", world))
                .expectError(400, 31, "Password must be 6 or more characters in length.")
            let activated = try await self.activate(user, password: "secret", world)
            #expect(activated.status == 200, "\(activated.text)")
            let token = try #require(try activated.json["token"]?.string)
            func me() async throws -> TestResponse {
                try await world.server.send(.GET, "/api/auth/user", [:], .init(), token: token)
            }
            #expect(try await me().json["additionalInfo"] == ["desk": 7, "userCredentialsEnabled": true])
            let link = try await world.get("/api/user/\(user.entityId)/activationLink", as: .adminOfB)
            try link.expectError(400, 31, "User is already activated!")

            let enabled = "/api/user/\(user.entityId)/userCredentialsEnabled?userCredentialsEnabled="
            #expect(try await world.send(.POST, enabled + "false", [:], as: .adminOfB).status == 200)
            try (try await me()).expectError(401, 10, "User account is not active")
            #expect(try await world.send(.POST, enabled + "true", [:], as: .adminOfB).status == 200)
            try (try await me()).expectError(401, 10, "Authentication failed")
            let back = try await world.server.logIn("bea@example.org", "secret")
            let fresh = try #require(back["token"]?.string)
            #expect(try await world.server.send(.GET, "/api/auth/user", [:], .init(), token: fresh).status == 200)

            #expect(try await world.send(.DELETE, "/api/user/\(user.entityId)", [:], as: .adminOfB).status == 200)
            let gone = try await world.server.send(.GET, "/api/auth/user", [:], .init(), token: fresh)
            try gone.expectError(401, 10, "Authentication failed")
            try (try await world.get("/api/user/\(user.entityId)", as: .adminOfB))
                .expectError(404, 32, "User with id [\(user.entityId)] is not found")
        }
    }

    @Test func anActivationTokenIsForOneUseOfOneUserForADay() async throws {
        try await TenantWorld.run { world in
            let described: JSON = ["email": "x", "authority": "TENANT_ADMIN"]
            let user = try await world.send(.POST, "/api/user", described, as: .adminOfB).json
            let info = try await world.get("/api/user/\(user.entityId)/activationLinkInfo", as: .adminOfB).json
            #expect(info["ttlMs"] == 86_400_000)
            let token = String(try #require(info["value"]?.string).split(separator: "=", maxSplits: 1)[1])
            let asAccess = try await world.server.send(.GET, "/api/auth/user", [:], .init(), token: token)
            try asAccess.expectError(401, 10, "Authentication failed")
            let refresh: JSON = ["refreshToken": .string(token)]
            try (try await world.server.send(.POST, "/api/auth/token", json: refresh, token: nil)).expectError(401, 10)
            func use(_ token: String) async throws -> TestResponse {
                let body: JSON = ["activateToken": .string(token), "password": "secret"]
                return try await world.server.send(.POST, "/api/noauth/activate", json: body, token: nil)
            }
            for wrong in ["", "x", world.tokens[.adminOfB] ?? ""] { try (try await use(wrong)).expectError(400, 31) }
            world.server.advance(by: .seconds(86_400))
            try (try await use(token)).expectError(400, 31)
            world.server.setBack(by: .seconds(86_400))
            #expect(try await use(token).status == 200)
            try (try await use(token)).expectError(400, 31)
        }
    }

    @Test func usersAreChangedWithinTheirRights() async throws {
        try await TenantWorld.run { world in
            let me = try await world.get("/api/auth/user", as: .readerOfB).json
            var change: JSON = ["id": me["id"] ?? .null, "email": "reader", "firstName": "R"]
            let changed = try await world.send(.POST, "/api/user", change, as: .readerOfB)
            #expect(try changed.json["firstName"] == "R", "\(changed.text)")
            #expect(try changed.json["authority"] == "CUSTOMER_USER")
            change = ["id": me["id"] ?? .null, "email": "reader", "authority": "TENANT_ADMIN"]
            try (try await world.send(.POST, "/api/user", change, as: .readerOfB))
                .expectError(400, 31, "Can't update user authority!")
            change = [
                "id": me["id"] ?? .null, "email": "reader", "tenantId": ["id": .string(TenantId.main.description)],
            ]
            try (try await world.send(.POST, "/api/user", change, as: .adminOfB))
                .expectError(400, 31, "Can't update user tenant id!")
            let admin = world.entities["user"] ?? ""
            for (path, body) in [
                ("/api/user", ["id": ["id": .string(admin)], "email": "x"]),
                ("/api/user", ["email": "x", "authority": "CUSTOMER_USER"]),
            ] as [(String, JSON)] {
                try (try await world.send(.POST, path, body, as: .readerOfB)).expectError(403, 20, Self.forbidden)
            }
            let system: JSON = ["email": "x", "authority": "SYS_ADMIN"]
            try (try await world.send(.POST, "/api/user", system, as: .adminOfB)).expectError(403, 20, Self.forbidden)
            for (body, sentence) in [
                (["email": "x"], "User authority isn't defined!"),
                (
                    ["email": "x", "authority": "BOSS"],
                    "'BOSS' is no authority; known are SYS_ADMIN, TENANT_ADMIN, CUSTOMER_USER"
                ),
                (["authority": "TENANT_ADMIN"], "User email should be specified!"),
            ] as [(JSON, String)] {
                try (try await world.send(.POST, "/api/user", body, as: .adminOfB)).expectError(400, 31, sentence)
            }
        }
    }

    @Test func somebodyAlwaysRemainsToLookAfterThings() async throws {
        try await TenantWorld.run { world in
            let admin = world.entities["user"] ?? ""
            let last = try await world.send(.DELETE, "/api/user/\(admin)", [:], as: .adminOfB)
            try last.expectError(400, 31, "At least one tenant administrator must remain!")
            let disable = "/api/user/\(admin)/userCredentialsEnabled?userCredentialsEnabled=false"
            try (try await world.send(.POST, disable, [:], as: .adminOfB))
                .expectError(400, 31, "You cannot disable yourself; ask another administrator")
            let system = try await world.get("/api/auth/user", as: .system).json.entityId
            try (try await world.send(.DELETE, "/api/user/\(system)", [:], as: .system))
                .expectError(403, 20, "Sysadmin is not allowed to delete himself")
            #expect(try await world.send(.POST, disable, [:], as: .system).status == 200)
            try (try await world.get("/api/auth/user", as: .adminOfB)).expectError(
                401,
                10,
                "User account is not active"
            )
        }
    }

    @Test func usersAreListed() async throws {
        try await TenantWorld.run { world in
            let list = "/api/users?pageSize=9&page=0&sortProperty=email&sortOrder=ASC"
            let ofB = try await world.get(list, as: .adminOfB).json
            #expect(ofB["data"]?.array?.compactMap { $0["authority"]?.string } == ["TENANT_ADMIN", "CUSTOMER_USER"])
            let own = try await world.get(list, as: .readerOfB).json
            #expect(own["data"]?.array?.count == 1)
            #expect(
                try await world.get(list, as: .system).json["data"]?.array?.map { $0["authority"] } == ["SYS_ADMIN"]
            )
            let admins = try await world.get(
                "/api/tenant/\(world.tenant)/users?pageSize=9&page=0",
                as: .system
            ).json
            #expect(admins["data"]?.array?.map(\.entityId) == [world.entities["user"] ?? ""])
            let reader = own["data"]?.array?.first?.entityId ?? ""
            let both = "/api/users/list?userIds=\(world.entities["user"] ?? ""),\(reader),\(UserId.random())"
            #expect(try await world.get(both, as: .adminOfB).json.array?.count == 2)
            #expect(try await world.get(both, as: .readerOfB).json.array?.map(\.entityId) == [reader])
            #expect(try await world.get(both, as: .adminOfA).json == [])
        }
    }

    @Test func aPasswordIsChangedByWhoKnowsIt() async throws {
        try await TenantWorld.run { world in
            func change(_ current: String, _ new: String) async throws -> TestResponse {
                let body: JSON = ["currentPassword": .string(current), "newPassword": .string(new)]
                return try await world.send(.POST, "/api/auth/changePassword", body, as: .readerOfA)
            }
            try (try await change("wrong", "another")).expectError(400, 31, "Current password doesn't match!")
            try (try await change(TestServer.password, TestServer.password))
                .expectError(400, 31, "New password should be different from existing!")
            try (try await change(TestServer.password, "short"))
                .expectError(400, 31, "Password must be 6 or more characters in length.")
            try (try await change(TestServer.password, String(repeating: "p", count: 1025)))
                .expectError(400, 31, "Password must be no more than 1024 bytes in length.")
            let changed = try await change(TestServer.password, "second")
            #expect(changed.status == 200, "\(changed.text)")
            try (try await world.get("/api/auth/user", as: .readerOfA)).expectError(401, 10)
            let token = try #require(try changed.json["token"]?.string)
            #expect(try await world.server.send(.GET, "/api/auth/user", [:], .init(), token: token).status == 200)
            #expect(try await world.server.logIn("readerOfA", "second")["token"] != nil)
        }
    }

    @Test func aForgottenPasswordIsTakenAway() async throws {
        try await TenantWorld.run { world in
            let user = try await world.get("/api/auth/user", as: .readerOfB).json
            let path = "/api/user/\(user.entityId)/passwordReset"
            try (try await world.send(.POST, path, [:], as: .readerOfB)).expectError(403, 20, Self.forbidden)
            let reset = try await world.send(.POST, path, [:], as: .adminOfB)
            #expect(reset.status == 200, "\(reset.text)")
            try (try await world.get("/api/auth/user", as: .readerOfB)).expectError(401, 10, "Authentication failed")
            let name = try #require(user["email"]?.string)
            #expect(try await world.server.logIn(name)["status"] == 401)
            let link = try #require(try reset.json["value"]?.string)
            let token = String(link.split(separator: "=", maxSplits: 1)[1])
            let body: JSON = ["activateToken": .string(token), "password": "remembered"]
            #expect(try await world.server.send(.POST, "/api/noauth/activate", json: body, token: nil).status == 200)
            #expect(try await world.server.logIn(name, "remembered")["token"] != nil)
            let me = world.entities["user"] ?? ""
            try (try await world.send(.POST, "/api/user/\(me)/passwordReset", [:], as: .adminOfB)).expectError(
                400,
                31,
                "You cannot take away your own password; change it with /api/auth/changePassword"
            )
        }
    }

    @Test func tenantsAreLookedAfter() async throws {
        try await TenantWorld.run { world in
            let described: JSON = ["title": "C", "country": "FI", "additionalInfo": ["a": 1]]
            let made = try await world.send(.POST, "/api/tenant", described, as: .system)
            #expect(made.status == 200, "\(made.text)")
            let tenant = try made.json
            #expect(tenant["name"] == "C")
            #expect(tenant["country"] == "FI")
            #expect(tenant["city"] == .some(.null))
            let changed: JSON = ["id": tenant["id"] ?? .null, "title": "D", "city": "Turku"]
            #expect(try await world.send(.POST, "/api/tenant", changed, as: .system).json["title"] == "D")
            let info = try await world.get("/api/tenant/info/\(tenant.entityId)", as: .system).json
            #expect(info["city"] == "Turku")
            #expect(info["country"] == .some(.null))
            #expect(info["tenantProfileName"] == "Default")
            let list = try await world.get(
                "/api/tenants?pageSize=9&page=0&sortProperty=title&sortOrder=ASC",
                as: .system
            )
            #expect(try list.json["data"]?.array?.count == 3)
            #expect(try await world.get("/api/tenant/\(world.tenant)", as: .adminOfB).status == 200)
            try (try await world.get("/api/tenant/\(tenant.entityId)", as: .adminOfB)).expectError(403, 20)
            try (try await world.send(.POST, "/api/tenant", ["title": ""], as: .system))
                .expectError(400, 31, "Tenant title should be specified!")

            let admin: JSON = ["email": "c", "authority": "TENANT_ADMIN", "tenantId": tenant["id"] ?? .null]
            let user = try await world.send(.POST, "/api/user", admin, as: .system).json
            let activated = try await self.activate(user, password: "secret", world, as: .system).json
            let token = try #require(activated["token"]?.string)
            func device() async throws -> TestResponse {
                try await world.server.send(.POST, "/api/device", json: ["name": "pump"], token: token)
            }
            #expect(try await device().json["tenantId"] == tenant["id"])
            #expect(try await world.send(.DELETE, "/api/tenant/\(tenant.entityId)", [:], as: .system).status == 200)
            try (try await device()).expectError(401, 10, "Authentication failed")
            try (try await world.get("/api/tenant/\(tenant.entityId)", as: .system)).expectError(404, 32)
            try (try await world.send(.DELETE, "/api/tenant/\(TenantId.main)", [:], as: .system)).expectError(400, 31)
        }
    }
}
