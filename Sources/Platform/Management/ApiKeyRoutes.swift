import Hummingbird
import NodeKit
import OTA

/// `/api/apiKey`: secrets with which programs do what a user may.
struct ApiKeyRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    private var keys: any ApiKeyService { self.services.keys }

    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/apiKey",
            for: .everyUser,
            Operation(
                "Makes a key that stands for a user, or changes one; the key itself is told once",
                body: .json(.savedApiKey),
                answer: .json(.apiKey)
            ),
            self.save
        )
        routes.add(
            .get,
            "/api/apiKeys/{userId}",
            for: .everyUser,
            Operation(
                "Lists the keys of a user",
                query: .page(sortedBy: ["createdTime", "description", "enabled", "expirationTime"]),
                answer: .json(Schema.apiKey.page)
            ),
            self.list
        )
        routes.add(
            .put,
            "/api/apiKey/{keyId}/description",
            for: .everyUser,
            Operation("Says what a key is for", body: .optional(.text), answer: .json(.apiKey)),
            self.describe
        )
        routes.add(
            .put,
            "/api/apiKey/{keyId}/enabled/{flag}",
            for: .everyUser,
            Operation("Lets a key be used or not", answer: .json(.apiKey)),
            self.enable
        )
        routes.add(.delete, "/api/apiKey/{keyId}", for: .everyUser, Operation("Deletes a key"), self.delete)
    }

    @Sendable private func save(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        if let id = try body.id("id", of: ApiKey.self) { return try await self.update(id, body, request) }
        guard let userId = try body.id("userId", of: User.self) else {
            throw APIError.badRequest("API key should be assigned to user!")
        }
        let user = try await self.services.user(userId, for: request, changes: true)
        // ThingsBoard's clients say 0 for a key that does not expire.
        let expiration = try body.integer("expirationTime").flatMap { $0 == 0 ? nil : Timestamp(milliseconds: $0) }
        if let expiration, expiration <= self.now() {
            throw APIError.badRequest("API key expiration time should be in the future!")
        }
        let key = ApiKey(
            createdTime: self.now(),
            userId: user.id,
            description: try body.string("description") ?? "",
            isEnabled: try body.bool("enabled") ?? true,
            expirationTime: expiration
        )
        let value = ApiKeyValue.random()
        let saved = try await self.keys.createApiKey(key, digest: ApiKeyValue.digest(value))
        request.trail.saved(saved, isNew: true)
        request.trail.note("userId", .string(user.id.description))
        var object = saved.object(of: user, at: self.now())
        object["value"] = .string(value)
        return .json(.object(object))
    }

    /// Changes what may change of a key; its value is not told again.
    private func update(_ id: ApiKeyId, _ body: BodyReader, _ request: APIRequest) async throws -> Response {
        let (key, user) = try await self.services.key(id, for: request)
        if let userId = try body.id("userId", of: User.self), userId != key.userId {
            throw APIError.badRequest("Cannot update API key user id!")
        }
        if let expiration = try body.integer("expirationTime"), expiration != key.expirationTime?.rawValue ?? 0 {
            throw APIError.badRequest("Cannot update API key expiration time!")
        }
        let description = try body.string("description")
        let isEnabled = try body.bool("enabled")
        return try await self.change(id, of: user, request) { key in
            key.description = description ?? key.description
            key.isEnabled = isEnabled ?? key.isEnabled
        }
    }

    private func change(
        _ id: ApiKeyId,
        of user: User,
        _ request: APIRequest,
        _ change: @escaping @Sendable (inout ApiKey) -> Void
    ) async throws -> Response {
        let saved = try await self.keys.changeApiKey(id, change)
        request.trail.saved(saved, isNew: false)
        return .json(.object(saved.object(of: user, at: self.now())))
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        let user = try await self.services.user(try request.id("userId"), for: request, changes: false)
        let page = try await self.keys.findApiKeys(of: user.id, page: try request.pageLink())
        return .json(page.json { .object($0.object(of: user, at: self.now())) })
    }

    @Sendable private func describe(_ request: APIRequest) async throws -> Response {
        let (key, user) = try await self.services.key(try request.id("keyId"), for: request)
        // Clients send the text as it is, or as JSON.
        let text = try PercentEncoding.text(try await request.body().readableBytesView, of: "description")
        let description: String
        do throws(JSONSyntaxError) {
            description = try JSON(parsing: text).string ?? text
        } catch {
            guard error.null == nil else { throw NodeError(unreadable: "description", error) }
            description = text
        }
        return try await self.change(key.id, of: user, request) { $0.description = description }
    }

    @Sendable private func enable(_ request: APIRequest) async throws -> Response {
        let (key, user) = try await self.services.key(try request.id("keyId"), for: request)
        guard let isEnabled = Bool(request.parameters["flag"] ?? "") else {
            throw APIError.badRequest("'enabled' must be true or false")
        }
        request.trail.note("enabled", .bool(isEnabled))
        return try await self.change(key.id, of: user, request) { $0.isEnabled = isEnabled }
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        let (key, _) = try await self.services.key(try request.id("keyId"), for: request)
        try await self.keys.deleteApiKey(key.id)
        return .empty
    }
}

extension ApiKey {
    /// ThingsBoard's `ApiKeyInfo`.
    fileprivate func object(of user: User, at now: Timestamp) -> JSON.Object {
        [
            "id": ["entityType": .string(Self.entityType), "id": .string(self.id.description)],
            "createdTime": JSON(self.createdTime),
            "tenantId": user.tenantId.json,
            "userId": self.userId.json,
            "expirationTime": .integer(self.expirationTime?.rawValue ?? 0),
            "description": .string(self.description),
            "enabled": .bool(self.isEnabled),
            "expired": .bool(self.expirationTime.map { $0 <= now } ?? false),
        ]
    }
}
