import Hummingbird
import NodeKit
import OTA

/// `/api/tenant`: who owns devices, profiles and packages.
struct TenantRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    private var tenants: any TenantService { self.services.tenants }

    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/tenant",
            for: .systemAdministrators,
            Operation(
                "Saves a tenant; what the body does not say is not there any more",
                body: .json(.savedTenant),
                answer: .json(.tenant)
            ),
            self.save
        )
        routes.add(
            .get,
            "/api/tenant/{tenantId}",
            for: .administrators,
            Operation("Reads a tenant", answer: .json(.tenant)),
            self.get
        )
        routes.add(
            .get,
            "/api/tenant/info/{tenantId}",
            for: .administrators,
            Operation("Reads a tenant with what people want to know of it", answer: .json(.tenantInfo)),
            self.info
        )
        routes.add(
            .delete,
            "/api/tenant/{tenantId}",
            for: .systemAdministrators,
            Operation("Deletes a tenant with all that it owns"),
            self.delete
        )
        routes.add(
            .get,
            "/api/tenants",
            for: .systemAdministrators,
            Operation(
                "Lists tenants",
                query: .page(sortedBy: ["createdTime", "title", "name"]),
                answer: .json(Schema.tenant.page)
            ),
            self.list
        )
        routes.add(
            .get,
            "/api/tenantInfos",
            for: .systemAdministrators,
            Operation(
                "Lists tenants with what people want to know of them",
                query: .page(sortedBy: ["createdTime", "title", "name"]),
                answer: .json(Schema.tenantInfo.page)
            ),
            self.listInfos
        )
        routes.add(
            .get,
            "/api/tenant/{tenantId}/users",
            for: .systemAdministrators,
            Operation(
                "Lists the administrators of a tenant",
                query: .page(sortedBy: UserRoutes.sortProperties),
                answer: .json(Schema.user.page)
            ),
            self.administrators
        )
    }

    private func tenant(_ request: APIRequest) async throws -> Tenant {
        try await self.services.tenant(try request.id("tenantId"), for: request)
    }

    @Sendable private func save(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        var existing: Tenant?
        if let id = try body.id("id", of: Tenant.self) { existing = try await self.services.tenant(id, for: request) }
        let tenant = try Tenant(from: body, replacing: existing, now: self.now())
        let saved = try await self.tenants.saveTenant(tenant)
        request.trail.saved(saved, isNew: existing == nil)
        return .json(saved.json)
    }

    @Sendable private func get(_ request: APIRequest) async throws -> Response {
        .json(try await self.tenant(request).json)
    }

    @Sendable private func info(_ request: APIRequest) async throws -> Response {
        .json(try await self.tenant(request).infoJSON)
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        try await self.tenants.deleteTenant(try await self.tenant(request).id)
        return .empty
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        .json(try await self.tenants.findTenants(page: try request.pageLink()).json(\.json))
    }

    @Sendable private func listInfos(_ request: APIRequest) async throws -> Response {
        .json(try await self.tenants.findTenants(page: try request.pageLink()).json(\.infoJSON))
    }

    @Sendable private func administrators(_ request: APIRequest) async throws -> Response {
        let page = try await self.services.users.findUsers(
            of: try await self.tenant(request).id,
            authority: .tenantAdmin,
            page: try request.pageLink()
        )
        return .json(page.json(\.json))
    }
}

extension Tenant {
    /// Members of ThingsBoard's form that are fields of ours; all others are ``details``.
    private static let fields: Set<ExactText> = ["id", "createdTime", "title", "name", "tenantProfileName"]

    /// What members that clients know are if nothing was saved.
    private static let unset = [
        "region", "tenantProfileId", "country", "state", "city", "address", "address2", "zip", "phone", "email",
        "additionalInfo", "version",
    ]

    /// ThingsBoard's `Tenant`, with the members that it was saved with.
    fileprivate var json: JSON {
        var object: JSON.Object = [
            "id": self.id.json,
            "createdTime": JSON(self.createdTime),
            "title": .string(self.title),
            "name": .string(self.title),
        ]
        for name in Self.unset { object[name] = .null }
        for member in self.details.object?.members ?? [] where !Self.fields.contains(member.name.exact) {
            object[member.name] = member.value
        }
        return .object(object)
    }

    /// ThingsBoard's `TenantInfo`; there are no tenant profiles here.
    fileprivate var infoJSON: JSON {
        guard case .object(var object) = self.json else { return .null }
        object["tenantProfileName"] = "Default"
        return .object(object)
    }

    /// The tenant that a body describes in full.
    fileprivate init(from body: BodyReader, replacing existing: Tenant?, now: Timestamp) throws {
        let details = body.object.members.filter { !Self.fields.contains($0.name.exact) }
        self.init(
            id: existing?.id ?? .random(),
            createdTime: existing?.createdTime ?? now,
            title: try body.string("title") ?? "",
            details: .object(JSON.Object(details.map { ($0.name, $0.value) }))
        )
        self.isSaved = existing != nil
    }
}
