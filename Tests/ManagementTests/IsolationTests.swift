import NodeKit
import OTA
import Testing

@testable import Management

/// Goes through all routes as every kind of user, with the entities of another tenant.
@Suite struct IsolationTests {
    private static let forbidden = "You don't have permission to perform this operation!"

    /// Ends the login that it is called with.
    private static let logout = "/api/auth/logout"

    @Test func strangersGetNothing() async throws {
        try await TenantWorld.run { world in
            for route in world.routes where route.access != .anyone {
                let response = try await world.send(route, query: world.query, as: .nobody)
                #expect(response.status == 401, "\(route.method) \(route.path): \(response.text)")
            }
        }
    }

    @Test("Nobody does what his authority does not allow", arguments: TenantWorld.Caller.allCases)
    func authorities(caller: TenantWorld.Caller) async throws {
        guard let authority = caller.authority else { return }
        try await TenantWorld.run { world in
            let before = try await world.snapshot()
            for route in world.routes where !route.access.includes(authority) {
                let response = try await world.send(route, query: world.query, as: caller)
                try response.expectError(403, 20, Self.forbidden)
                #expect(response.status == 403, "\(route.method) \(route.path)")
            }
            #expect(try await world.snapshot() == before)
        }
    }

    @Test("Nobody sees or changes anything of another tenant", arguments: [TenantWorld.Caller.adminOfA, .readerOfA])
    func tenants(caller: TenantWorld.Caller) async throws {
        let authority = try #require(caller.authority)
        try await TenantWorld.run { world in
            let before = try await world.snapshot()
            for route in world.routes
            where route.access != .anyone && route.access.includes(authority) && route.path != Self.logout {
                for query in [world.query, "?pageSize=100&page=0"] {
                    let response = try await world.send(route, query: query, as: caller)
                    let what = "\(route.method) \(route.path)\(query): \(response.status) \(response.text)"
                    #expect(!response.text.contains(TenantWorld.marker), "\(what)")
                    #expect(response.status < 500, "\(what)")
                    // The log of one's own tenant has nothing about the entities of another.
                    let isForbidden = world.path(of: route).namesEntity && !route.path.hasPrefix("/api/audit/")
                    if isForbidden { #expect(response.status == 403, "\(what)") }
                    for id in world.entities.values where !route.path.hasPrefix("/api/audit/") {
                        #expect(!response.text.contains(id), "\(what)")
                    }
                }
            }
            #expect(try await world.snapshot() == before)
        }
    }

    @Test func savingWithTheIdentifiersOfAnotherTenantIsForbidden() async throws {
        try await TenantWorld.run { world in
            let device = world.entities["device"] ?? ""
            let profile = world.entities["deviceProfile"] ?? ""
            let package = world.entities["otaPackage"] ?? ""
            let forbidden: [(String, JSON)] = [
                ("/api/device", ["id": ["id": .string(device)], "name": "x"]),
                ("/api/device", ["name": "x", "deviceProfileId": ["id": .string(profile)]]),
                (
                    "/api/device-with-credentials",
                    ["device": ["id": .string(device), "name": "x"], "credentials": ["credentialsId": "c"]]
                ),
                ("/api/device/credentials", ["deviceId": ["id": .string(device)], "credentialsId": "c"]),
                ("/api/deviceProfile", ["id": ["id": .string(profile)], "name": "x"]),
                ("/api/otaPackage", ["id": ["id": .string(package)], "type": "FIRMWARE"]),
                (
                    "/api/otaPackage",
                    [
                        "type": "FIRMWARE", "title": "x", "version": "1",
                        "deviceProfileId": ["id": .string(profile)],
                    ]
                ),
            ]
            for (path, body) in forbidden {
                let token = world.tokens[.adminOfA]
                let response = try await world.server.send(.POST, path, json: body, token: token)
                try response.expectError(403, 20, Self.forbidden)
            }
            let assigned: JSON = ["name": "x", "firmwareId": ["id": .string(package)]]
            let response = try await world.server.send(
                .POST,
                "/api/device",
                json: assigned,
                token: world.tokens[.adminOfA]
            )
            try response.expectError(400, 31, "Can't assign firmware from different tenant!")
        }
    }

    @Test("Everybody reads what he may", arguments: [TenantWorld.Caller.adminOfB, .readerOfB])
    func ownEntities(caller: TenantWorld.Caller) async throws {
        let authority = try #require(caller.authority)
        try await TenantWorld.run { world in
            for route in world.routes where route.method == .get && route.access.includes(authority) {
                // Who only reads sees no other user.
                if caller == .readerOfB, route.path.contains("{userId}") { continue }
                // What waits is of all tenants, and there are two.
                if route.path == "/api/queues" { continue }
                let response = try await world.send(route, query: world.query, as: caller)
                #expect(response.status != 401 && response.status != 403, "\(route.path): \(response.text)")
            }
        }
    }

    @Test func aQueryFindsWhatIsOfTheTenant() async throws {
        try await TenantWorld.run { world in
            let find = try #require(world.routes.first { $0.path == "/api/entitiesQuery/find" })
            #expect(try await world.send(find, query: "", as: .readerOfB).text.contains(TenantWorld.marker))
            for caller in [TenantWorld.Caller.adminOfA, .readerOfA] {
                #expect(try await world.send(find, query: "", as: caller).json["data"] == [])
            }
            let before = try await world.get("/api/audit/logs?pageSize=1&page=0", as: .adminOfB).json["totalElements"]
            _ = try await world.send(find, query: "", as: .adminOfB)
            let after = try await world.get("/api/audit/logs?pageSize=1&page=0", as: .adminOfB).json["totalElements"]
            #expect(before == after, "asking changes nothing")
        }
    }

    @Test func namesAreUniqueWithinATenantOnly() async throws {
        try await TenantWorld.run { world in
            for caller in [TenantWorld.Caller.adminOfA, .adminOfB] {
                let token = world.tokens[caller]
                let profile: JSON = ["name": "the same"]
                let created = try await world.server.send(.POST, "/api/deviceProfile", json: profile, token: token)
                #expect(created.status == 200, "\(created.text)")
                let device: JSON = ["name": "the same", "type": "the same", "tenantId": ["id": "whatever"]]
                let saved = try await world.server.send(.POST, "/api/device", json: device, token: token)
                #expect(saved.status == 200, "\(saved.text)")
                let owner = caller == .adminOfB ? world.tenant : .main
                #expect(try saved.json["tenantId"]?["id"]?.string == owner.description)
                #expect(try saved.json["deviceProfileId"] == created.json["id"])
                let again = try await world.server.send(.POST, "/api/device", json: device, token: token)
                try again.expectError(400, 31, "Device with such name already exists!")
                let found = try await world.server.send(
                    .GET,
                    "/api/tenant/devices?deviceName=the%20same",
                    [:],
                    .init(),
                    token: token
                )
                #expect(try found.json["id"] == saved.json["id"])
            }
        }
    }
}
