import Hummingbird
import NodeKit
import OTA

/// Finds devices by queries in ThingsBoard's form, which services that know no REST API pass on as they are.
struct EntityQueries: DeviceQueryService {
    let entities: any EntityQueryService

    func devices(
        matching query: JSON.Object,
        of tenant: TenantId,
        after: DeviceId?,
        limit: Int
    ) async throws -> [DeviceId] {
        let query = try EntityQuery(from: BodyReader(query), tenantId: tenant)
        return try await self.entities.entities(matching: query, after: after, limit: limit)
    }
}

/// `/api/entitiesQuery`: devices found by what they are and by what was last said about them.
struct EntityQueryRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/entitiesQuery/find",
            for: .tenantUsers,
            logs: .nothing,
            Operation(
                "Finds devices by what they are and by what was last said about them",
                body: .json(.dataQuery),
                answer: .json(Schema.entityData.page)
            ),
            self.find
        )
        routes.add(
            .post,
            "/api/entitiesQuery/count",
            for: .tenantUsers,
            logs: .nothing,
            Operation(
                "Counts devices by what they are and by what was last said about them",
                body: .json(.countQuery),
                answer: .json(.number)
            ),
            self.count
        )
    }

    @Sendable private func find(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        var query = try EntityQuery(from: body, tenantId: try request.tenantId())
        try query.readPage(from: body)
        let now = self.now()
        return .json(try await self.services.entities.findEntities(query).json { $0.json(of: query, at: now) })
    }

    @Sendable private func count(_ request: APIRequest) async throws -> Response {
        let query = try EntityQuery(from: try await request.object(), tenantId: try request.tenantId())
        return .json(.integer(Int64(try await self.services.entities.countEntities(query))))
    }
}
