import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct AuthTests {
    private func claims(_ token: String) throws -> JSON {
        let parts = token.split(separator: ".")
        try #require(parts.count == 3)
        func decode(_ part: Substring) throws -> JSON {
            let text = part.map { $0 == "-" ? "+" : $0 == "_" ? "/" : String($0) }.joined()
            let padding = String(repeating: "=", count: (4 - text.count % 4) % 4)
            return try JSON(parsing: ByteBuffer(bytes: try #require(Data(base64Encoded: text + padding))))
        }
        #expect(try decode(parts[0])["alg"] == "HS512")
        return try decode(parts[1])
    }

    @Test func aLoginGivesTokensAsThingsBoardDoes() async throws {
        try await TestServer.run { server in
            let answer = try await server.logIn("ADMIN@windlass.local")
            #expect(answer.object?.names == ["token", "refreshToken"])
            let claims = try self.claims(try #require(answer["token"]?.string))
            #expect(claims["sub"] == "admin@windlass.local")
            #expect(claims["scopes"] == ["TENANT_ADMIN"])
            #expect(claims["iat"] == 1_700_000_000)
            #expect(claims["exp"] == 1_700_009_000)
            #expect(claims["tenantId"]?.string == TenantId.main.description)
            #expect(claims["customerId"] == "13814000-1dd2-11b2-8080-808080808080")
            #expect(claims["enabled"] == true)
            #expect(claims["isPublic"] == false)
            let refresh = try self.claims(try #require(answer["refreshToken"]?.string))
            #expect(refresh["scopes"] == ["REFRESH_TOKEN"])
            #expect(refresh["exp"] == 1_700_604_800)
            #expect(refresh["sessionId"] == claims["sessionId"])
        }
    }

    @Test("a login from when the clock was a year ahead has ended when it is set back", .bug(id: "D2.5"))
    func clockAhead() async throws {
        try await TestServer.run { server in
            let year: Int64 = 365 * 86_400
            server.advance(by: .seconds(year))
            let ahead = try #require(try await server.logIn("admin@windlass.local")["token"]?.string)
            #expect(try await server.send(.GET, "/api/auth/user", json: [:], token: ahead).status == 200)
            server.setBack(by: .seconds(year))
            #expect(try await server.send(.GET, "/api/auth/user", json: [:], token: ahead).status == 401)
            let now = try #require(try await server.logIn("admin@windlass.local")["token"]?.string)
            #expect(try await server.send(.GET, "/api/auth/user", json: [:], token: now).status == 200)
        }
    }

    @Test(
        "A wrong name or password is told alike",
        arguments: [
            ("admin@windlass.local", "wrong"), ("nobody", "correct horse"), ("", ""),
            ("admin@windlass.local", String(repeating: "p", count: 1025)),
        ]
    )
    func wrongPassword(name: String, password: String) async throws {
        try await TestServer.run { server in
            let response = try await server.send(
                .POST,
                "/api/auth/login",
                json: ["username": .string(name), "password": .string(password)],
                token: nil
            )
            try response.expectError(401, 10, "Invalid username or password")
        }
    }

    @Test func manyFailuresMakeEvenTheRightPasswordWait() async throws {
        try await TestServer.run { server in
            for _ in 1...5 { _ = try await server.logIn(TestServer.userName, "wrong") }
            let body: JSON = ["username": .string(TestServer.userName), "password": .string(TestServer.password)]
            let refused = try await server.send(.POST, "/api/auth/login", json: body, token: nil)
            try refused.expectError(429, 33, "Too many failed logins; try again in 1 seconds")
            #expect(refused.headers.first(name: "Retry-After") == "1")
            server.advance(by: .seconds(1))
            #expect(try await server.send(.POST, "/api/auth/login", json: body, token: nil).status == 200)
        }
    }

    @Test("A token is taken from either header", arguments: ["X-Authorization", "Authorization"])
    func header(name: String) async throws {
        try await TestServer.run { server in
            for scheme in ["Bearer", "bearer"] {
                let response = try await server.send(
                    .GET,
                    "/api/auth/user",
                    [name: "\(scheme) \(server.token)"],
                    ByteBuffer(),
                    token: nil
                )
                #expect(response.status == 200)
            }
        }
    }

    @Test(
        "What is no token of ours is refused",
        arguments: [
            nil, "", "x", "a.b.c",
            // Signed by nobody (RFC 7519 §6), and with another key.
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
            "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.AAAA",
        ] as [String?]
    )
    func badToken(token: String?) async throws {
        try await TestServer.run { server in
            for path in ["/api/auth/user", "/api/nothing", "/api/otaPackages?pageSize=1&page=0"] {
                let response = try await server.send(.GET, path, [:], ByteBuffer(), token: token)
                try response.expectError(401, 10, "Authentication failed")
            }
        }
    }

    @Test func aTokenThatWasChangedIsRefused() async throws {
        try await TestServer.run { server in
            var parts = server.token.split(separator: ".").map(String.init)
            parts[1] = String(parts[1].dropLast()) + (parts[1].hasSuffix("A") ? "B" : "A")
            let response = try await server.send(
                .GET,
                "/api/auth/user",
                [:],
                ByteBuffer(),
                token: parts.joined(separator: ".")
            )
            try response.expectError(401, 10, "Authentication failed")
        }
    }

    @Test func aTokenExpiresAndIsRefreshed() async throws {
        try await TestServer.run { server in
            let login = try await server.logIn()
            let refreshToken = try #require(login["refreshToken"])
            server.advance(by: .seconds(8999))
            #expect(try await server.get("/api/auth/user").status == 200)
            server.advance(by: .seconds(1))
            try (try await server.get("/api/auth/user")).expectError(401, 11, "Token has expired")
            let refreshed = try await server.send(
                .POST,
                "/api/auth/token",
                json: ["refreshToken": refreshToken],
                token: nil
            )
            #expect(refreshed.status == 200)
            let token = try #require(try refreshed.json["token"]?.string)
            #expect(try await server.send(.GET, "/api/auth/user", [:], ByteBuffer(), token: token).status == 200)
            server.advance(by: .seconds(604_800))
            let late = try await server.send(.POST, "/api/auth/token", json: ["refreshToken": refreshToken], token: nil)
            try late.expectError(401, 11, "Token has expired")
        }
    }

    @Test func aTokenIsOnlyForWhatItIsFor() async throws {
        try await TestServer.run { server in
            let login = try await server.logIn()
            let refreshToken = try #require(login["refreshToken"]?.string)
            try (try await server.send(.GET, "/api/auth/user", [:], ByteBuffer(), token: refreshToken))
                .expectError(401, 10)
            let misused: JSON = ["refreshToken": .string(server.token)]
            try (try await server.send(.POST, "/api/auth/token", json: misused, token: nil)).expectError(401, 10)
        }
    }

    @Test func loggingOutEndsAllTokensOfTheSession() async throws {
        try await TestServer.run { server in
            let other = try await server.logIn()
            #expect(try await server.post("/api/auth/logout", [:]).status == 200)
            try (try await server.get("/api/auth/user")).expectError(401, 10, "Authentication failed")
            let token = try #require(other["token"]?.string)
            #expect(
                try await server.send(.GET, "/api/auth/user", [:], ByteBuffer(), token: token).status == 200,
                "another login goes on"
            )
        }
    }

    @Test func aLoginThatEndedStaysEndedWhenTheHostStartsAnew() async throws {
        let parts = try TestServer.Parts()
        var tokens: [JSON] = []
        try await TestServer.run(on: parts) { server in
            tokens = [try await server.logIn(), try await server.logIn()]
            let ended = try #require(tokens[0]["token"]?.string)
            let answer = try await server.send(.POST, "/api/auth/logout", json: [:], token: ended)
            #expect(answer.status == 200)
        }
        try await TestServer.run(on: parts, logsIn: false) { server in
            let refresh: JSON = ["refreshToken": tokens[0]["refreshToken"] ?? .null]
            try (try await server.send(.POST, "/api/auth/token", json: refresh, token: nil))
                .expectError(401, 10, "Authentication failed")
            let other: JSON = ["refreshToken": tokens[1]["refreshToken"] ?? .null]
            #expect(try await server.send(.POST, "/api/auth/token", json: other, token: nil).status == 200)
        }
    }

    @Test func aTokenEndsWhenThePasswordChangesOrTheUserGoes() async throws {
        try await TestServer.run { server in
            _ = try await bootstrapAdministrator(
                users: server.store,
                name: TestServer.userName,
                password: "another",
                cost: TestServer.cost
            )
            try (try await server.get("/api/auth/user")).expectError(401, 10)
            let token = try #require(try await server.logIn(TestServer.userName, "another")["token"]?.string)
            let id = try #require(try await server.store.findUser(name: TestServer.userName)).id
            _ = try await server.store.saveUser(TestServer.user("who remains"))
            try await server.store.deleteUser(id)
            try (try await server.send(.GET, "/api/auth/user", [:], ByteBuffer(), token: token)).expectError(401, 10)
        }
    }

    @Test func aUserWhoIsDisabledMayDoNothing() async throws {
        try await TestServer.run { server in
            let id = try #require(try await server.store.findUser(name: TestServer.userName)).id
            _ = try await server.store.changeUser(id) { $0.isEnabled = false }
            try (try await server.get("/api/auth/user")).expectError(401, 10, "User account is not active")
            let body: JSON = ["username": .string(TestServer.userName), "password": .string(TestServer.password)]
            let right = try await server.send(.POST, "/api/auth/login", json: body, token: nil)
            try right.expectError(401, 10, "User account is not active")
            let guessed: JSON = ["username": .string(TestServer.userName), "password": "guessed"]
            let wrong = try await server.send(.POST, "/api/auth/login", json: guessed, token: nil)
            try wrong.expectError(401, 10, "Invalid username or password")
        }
    }

    @Test func theUserIsTold() async throws {
        try await TestServer.run { server in
            let user = try await server.get("/api/auth/user").json
            #expect(user["id"]?["entityType"] == "USER")
            #expect(user["email"] == "admin@windlass.local")
            #expect(user["authority"] == "TENANT_ADMIN")
            #expect(user["tenantId"]?["entityType"] == "TENANT")
            #expect(user["customerId"]?["id"] == "13814000-1dd2-11b2-8080-808080808080")
            #expect(!user.description.contains("scrypt"))
        }
    }
}
