import NIOHTTP1
import NIOPosix
import NodeKit
import OTA
import Testing

@testable import Management

/// A server with two tenants, one of which owns one entity of each kind, and users of every authority.
struct TenantWorld: Sendable {
    /// Who asks; `b` is of the tenant that owns the entities.
    enum Caller: String, CaseIterable {
        case nobody, system, adminOfA, readerOfA, adminOfB, readerOfB

        var authority: Authority? {
            switch self {
            case .nobody: nil
            case .system: .sysAdmin
            case .adminOfA, .adminOfB: .tenantAdmin
            case .readerOfA, .readerOfB: .customerUser
            }
        }
    }

    /// Is in every name and value of tenant B, and nowhere else.
    static let marker = "of-b-only"

    let server: TestServer
    let routes: [Route]
    let tokens: [Caller: String]
    let tenant: TenantId
    /// The identifiers of tenant B's entities, by the words that paths have for their kind.
    let entities: [String: String]

    static func run(_ body: (TenantWorld) async throws -> Void) async throws {
        let parts = try TestServer.Parts()
        let store = parts.domain.store
        let tenant = try await store.saveTenant(Tenant(title: "B \(Self.marker)")).id
        for (caller, owner) in [
            (Caller.system, TenantId.system), (.adminOfA, .main), (.readerOfA, .main), (.adminOfB, tenant),
            (.readerOfB, tenant),
        ] {
            let authority = try #require(caller.authority)
            let name = owner == tenant ? "\(caller) \(Self.marker)" : caller.rawValue
            _ = try await store.saveUser(try TestServer.user(name, of: owner, authority))
        }
        try await TestServer.run(on: parts) { server in try await body(try await Self.make(server, tenant)) }
    }

    private static func make(_ server: TestServer, _ tenant: TenantId) async throws -> TenantWorld {
        var tokens: [Caller: String] = [:]
        for caller in Caller.allCases where caller != .nobody {
            let isOfB = caller == .adminOfB || caller == .readerOfB
            let login = try await server.logIn(isOfB ? "\(caller) \(Self.marker)" : caller.rawValue)
            tokens[caller] = try #require(login["token"]?.string)
        }
        let admin = try #require(tokens[.adminOfB])
        func post(_ path: String, _ json: JSON) async throws -> JSON {
            let response = try await server.send(.POST, path, json: json, token: admin)
            #expect(response.status == 200, "\(path): \(response.text)")
            return response.body.readableBytes > 0 ? try response.json : .null
        }
        let profile = try await post("/api/deviceProfile", ["name": .string("profile \(Self.marker)")])
        let device = try await post(
            "/api/device",
            ["name": .string("device \(Self.marker)"), "deviceProfileId": profile["id"] ?? .null]
        )
        let package = try await post(
            "/api/otaPackage",
            [
                "type": "FIRMWARE", "title": .string("package \(Self.marker)"), "version": "1",
                "deviceProfileId": profile["id"] ?? .null, "url": "http://127.0.0.1/of-b-only",
            ]
        )
        let telemetry = "/api/plugins/telemetry/DEVICE/\(device.entityId)"
        _ = try await post("\(telemetry)/SERVER_SCOPE", ["key": .string(Self.marker)])
        _ = try await post("\(telemetry)/timeseries/ANY", ["key": .string(Self.marker)])
        let call: JSON = ["method": "m", "persistent": true, "expirationTime": 4_000_000_000_000]
        let stored = try await post("/api/rpc/oneway/\(device.entityId)", call)
        let me = try await server.send(.GET, "/api/auth/user", [:], .init(), token: admin).json
        let key = try await post(
            "/api/apiKey",
            ["userId": me["id"] ?? .null, "description": .string("key \(Self.marker)")]
        )
        let services = try ManagementServices(server.parts.registry)
        let options = ManagementServer.Options()
        let routes = ManagementServer.routes(
            services: services,
            options: options,
            logins: LoginService(
                users: services.users,
                passwordThread: NIOThreadPool(numberOfThreads: 1),
                options: options,
                now: server.domain.now
            ),
            tokens: await TokenIssuer(secret: Array(repeating: 0, count: 64), options: options, now: server.domain.now),
            now: server.domain.now,
            health: { [:] }
        )
        return TenantWorld(
            server: server,
            routes: routes.routes,
            tokens: tokens,
            tenant: tenant,
            entities: [
                "deviceProfile": profile.entityId, "device": device.entityId, "otaPackage": package.entityId,
                "user": me.entityId, "tenant": tenant.description, "apiKey": key.entityId,
                "rpc": stored["rpcId"]?.string ?? "",
            ]
        )
    }

    /// The entity of tenant B that a parameter of a path stands for; `nil` if it stands for none.
    func entity(_ parameter: String, in path: String) -> String? {
        switch parameter {
        case "profileId", "deviceProfileId": return self.entities["deviceProfile"]
        case "keyId": return self.entities["apiKey"]
        case "deviceId", "entityId": return self.entities["device"]
        case "userId": return self.entities["user"]
        case "tenantId": return self.entities["tenant"]
        case "id":
            let kinds = [
                ("/api/deviceProfile", "deviceProfile"), ("/api/otaPackage", "otaPackage"), ("/api/user", "user"),
                ("/api/tenant", "tenant"), ("/api/apiKey", "apiKey"), ("/api/rpc/persistent/{id}", "rpc"),
            ]
            let kind = kinds.first { path.hasPrefix($0.0) }?.1 ?? "device"
            return self.entities[kind]
        default: return nil
        }
    }

    /// The values of parameters that stand for no entity.
    static let words = [
        "type": "FIRMWARE", "entityType": "DEVICE", "scope": "SHARED_SCOPE", "any": "ANY", "ttl": "1",
        "flag": "false",
        "customerId": EntityShape.nullCustomerId,
    ]

    /// A path with tenant B's entities for its parameters, and whether there is one.
    func path(of route: Route) -> (text: String, namesEntity: Bool) {
        var namesEntity = false
        let segments = route.path.split(separator: "/").map { segment -> String in
            guard segment.hasPrefix("{") else { return String(segment) }
            let name = String(segment.dropFirst().dropLast())
            if let entity = self.entity(name, in: route.path) {
                namesEntity = true
                return entity
            }
            if let word = Self.words[name] { return word }
            Issue.record("say here what {\(name)} of \(route.path) stands for")
            return "x"
        }
        return ("/" + segments.joined(separator: "/"), namesEntity)
    }

    /// A body that names tenant B's entities wherever a route may look for one.
    func body(of route: Route) -> JSON {
        func id(_ kind: String) -> JSON { ["id": .string(self.entities[kind] ?? "")] }
        return [
            "id": ["id": .string(self.entity("id", in: route.path) ?? "")], "name": "taken over", "title": "taken over",
            "version": "9", "type": "FIRMWARE", "deviceId": id("device"), "deviceProfileId": id("deviceProfile"),
            "userId": id("user"), "tenantId": id("tenant"), "method": "m", "credentialsId": "taken over",
            "device": ["id": id("device"), "name": "taken over"], "credentials": ["credentialsId": "taken over"],
            "entityFilter": [
                "type": "entityList", "entityType": "DEVICE", "entityList": [.string(self.entities["device"] ?? "")],
            ],
            "pageLink": ["pageSize": 100, "page": 0], "entityFields": [["type": "ENTITY_FIELD", "key": "name"]],
        ]
    }

    /// What a list may be asked for.
    var query: String {
        let device = self.entities["device"] ?? ""
        let name = "device%20\(Self.marker)"
        return "?pageSize=100&page=0&deviceIds=\(device)&deviceName=\(name)&keys=key&startTs=0&endTs=9999999999999"
            + "&deviceProfileId=\(self.entities["deviceProfile"] ?? "")&userIds=\(self.entities["user"] ?? "")"
    }

    func send(_ route: Route, query: String, as caller: Caller) async throws -> TestResponse {
        let path = self.path(of: route).text + query
        let token = self.tokens[caller]
        guard route.method == .post || route.method == .put else {
            let method: HTTPMethod = route.method == .get ? .GET : .DELETE
            return try await self.server.send(method, path, [:], .init(), token: token)
        }
        let method: HTTPMethod = route.method == .post ? .POST : .PUT
        return try await self.server.send(method, path, json: self.body(of: route), token: token)
    }

    func get(_ path: String, as caller: Caller) async throws -> TestResponse {
        try await self.server.send(.GET, path, [:], .init(), token: self.tokens[caller])
    }

    func send(_ method: HTTPMethod, _ path: String, _ json: JSON, as caller: Caller) async throws -> TestResponse {
        try await self.server.send(method, path, json: json, token: self.tokens[caller])
    }

    /// All that tenant B owns, as its administrator sees it.
    func snapshot() async throws -> [String] {
        var answers: [String] = []
        for path in [
            "/api/deviceProfiles?pageSize=100&page=0", "/api/otaPackages?pageSize=100&page=0",
            "/api/tenant/deviceInfos?pageSize=100&page=0", "/api/users?pageSize=100&page=0",
            "/api/apiKeys/\(self.entities["user"] ?? "")?pageSize=100&page=0",
            "/api/device/\(self.entities["device"] ?? "")/credentials",
            "/api/plugins/telemetry/DEVICE/\(self.entities["device"] ?? "")/values/attributes",
            "/api/plugins/telemetry/DEVICE/\(self.entities["device"] ?? "")/values/timeseries",
        ] {
            answers.append(
                try await self.server.send(.GET, path, [:], .init(), token: self.tokens[.adminOfB]).text
            )
        }
        return answers
    }
}
