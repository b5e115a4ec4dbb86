import FoundationEssentials
import Hummingbird
import NodeKit
import OTA

/// `/api/audit/logs`: who changed what.
///
/// Administrators of tenants read what users of their tenant did; system administrators what they and their like did.
struct AuditRoutes: Sendable {
    let services: ManagementServices

    func add(to routes: inout RouteTable) {
        let logs = "/api/audit/logs"
        routes.add(.get, logs, for: .administrators, Self.listing("Lists what was changed")) { request in
            try await self.list(request, AuditQuery())
        }
        routes.add(.get, "\(logs)/user/{userId}", for: .administrators, Self.listing("Lists what a user changed")) {
            request in
            var query = AuditQuery()
            query.userId = try request.id("userId")
            return try await self.list(request, query)
        }
        routes.add(
            .get,
            "\(logs)/entity/{entityType}/{entityId}",
            for: .administrators,
            Self.listing("Lists what was changed of an entity")
        ) { request in
            var query = AuditQuery()
            query.entityType = request.parameters["entityType"]?.uppercased()
            query.entityId = try request.id("entityId", of: AuditEntity.self).uuid
            return try await self.list(request, query)
        }
    }

    /// A list of entries, which has several paths.
    private static func listing(_ summary: String) -> Operation {
        Operation(
            summary,
            query: .page(sortedBy: [
                "createdTime", "entityType", "entityName", "userName", "actionType", "actionStatus",
            ]) + [
                .integer("startTime", "Not before, in milliseconds"), .integer("endTime", "Not after, in milliseconds"),
                .list("actionTypes", "What was done"),
            ],
            answer: .json(Schema.auditEntry.page)
        )
    }

    private func list(_ request: APIRequest, _ query: AuditQuery) async throws -> Response {
        var query = query
        query.start = try request.queryInteger("startTime").map(Timestamp.init(milliseconds:))
        query.end = try request.queryInteger("endTime").map(Timestamp.init(milliseconds:))
        query.actions = try request.queryList("actionTypes", max: AuditAction.allCases.count)?.map { text in
            guard let action = AuditAction(rawValue: text.uppercased()) else {
                let known = AuditAction.allCases.map(\.rawValue).joined(separator: ", ")
                throw APIError.badRequest("'\(text)' is no action type; known are \(known)")
            }
            return action
        }
        let page = try await self.services.audit.findAuditEntries(
            of: try request.tenantId(),
            query,
            page: try request.pageLink()
        )
        return .json(page.json(\.json))
    }
}

extension AuditEntry {
    /// ThingsBoard's `AuditLog`.
    fileprivate var json: JSON {
        [
            "id": ["id": .string(self.id.description)],
            "createdTime": JSON(self.createdTime),
            "tenantId": self.tenantId.json,
            "customerId": EntityShape.customerId,
            "entityId": self.entity.map {
                ["entityType": .string($0.type), "id": .string(EntityID<Self>($0.id).description)]
            }
                ?? .null,
            "entityName": JSON(self.entity?.name),
            "userId": self.userId?.json ?? .null,
            "userName": JSON(self.userName),
            "actionType": .string(self.action.rawValue),
            "actionData": self.data,
            "actionStatus": .string(self.status.rawValue),
            "actionFailureDetails": .string(self.failure ?? ""),
        ]
    }
}
