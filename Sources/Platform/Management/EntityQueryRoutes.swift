import Hummingbird
import NodeKit
import OTA

/// `/api/entitiesQuery`: devices found by what they are and by what was last said about them.
struct EntityQueryRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    func add(to routes: inout RouteTable) {
        routes.add(.post, "/api/entitiesQuery/find", for: .tenantUsers, self.find)
        routes.add(.post, "/api/entitiesQuery/count", for: .tenantUsers, self.count)
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
