import Hummingbird
import NodeKit
import OTA

/// `/api/rpc/persistent`: calls that are stored until their device has taken them.
struct PersistentCallRoutes: Sendable {
    let services: ManagementServices

    func add(to routes: inout RouteTable) {
        routes.add(
            .get,
            "/api/rpc/persistent/{id}",
            for: .tenantUsers,
            Operation("Tells a stored call of a device", answer: .json(.storedCall)),
            self.get
        )
        routes.add(
            .delete,
            "/api/rpc/persistent/{id}",
            for: .tenantAdministrators,
            Operation("Removes a stored call of a device"),
            self.delete
        )
        routes.add(
            .get,
            "/api/rpc/persistent/device/{id}",
            for: .tenantUsers,
            Operation(
                "Lists the stored calls of a device",
                query: .page(sortedBy: ["createdTime", "expirationTime", "status"]) + [
                    .choice(
                        "rpcStatus",
                        "Only calls that have come so far",
                        of: PersistentCall.Status.allCases.map(\.rawValue)
                    )
                ],
                answer: .json(Schema.storedCall.page)
            ),
            self.list
        )
    }

    /// The call that a request names, of a device of the caller's tenant.
    private func call(_ request: APIRequest) async throws -> PersistentCall {
        let id = try request.id(of: PersistentCallEntity.self)
        let call = try await EntityRules.found(self.services.storedCalls.call(id), id)
        _ = try await self.services.device(DeviceId(call.device.id), for: request)
        return call
    }

    @Sendable private func get(_ request: APIRequest) async throws -> Response {
        .json(try await self.call(request).json(of: try request.tenantId()))
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        let id = try await self.call(request).id
        guard try await self.services.storedCalls.deleteCall(id) else { throw EntityRules.missing(id) }
        return .empty
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        let page = try request.pageLink()
        let status = try request.queryText("rpcStatus").map { text in
            guard let status = PersistentCall.Status(rawValue: text.uppercased()) else {
                let known = PersistentCall.Status.allCases.map(\.rawValue).joined(separator: ", ")
                throw APIError.badRequest("'\(text)' is no status of a call; known are \(known)")
            }
            return status
        }
        let device = try await self.services.device(try request.id(), for: request)
        let calls = try await self.services.storedCalls.calls(of: device.id, status: status, page: page)
        return .json(calls.json { $0.json(of: device.tenantId) })
    }
}

extension EntityID<PersistentCallEntity> {
    var json: JSON { ["entityType": "RPC", "id": .string(self.description)] }
}

extension PersistentCall {
    /// ThingsBoard's `Rpc`, in which parameters are JSON text.
    fileprivate func json(of tenant: TenantId) -> JSON {
        let device = DeviceId(self.device.id).json
        return [
            "id": self.id.json,
            "createdTime": JSON(self.createdTime),
            "tenantId": tenant.json,
            "deviceId": device,
            "expirationTime": JSON(self.expirationTime),
            "request": [
                "id": .string(self.id.description),
                "tenantId": tenant.json,
                "deviceId": device,
                "oneway": .bool(self.isOneWay),
                "expirationTime": JSON(self.expirationTime),
                "body": ["method": .string(self.method), "params": .string(self.params.description)],
                "persisted": true,
                "retries": .integer(Int64(self.retriesLeft)),
                "additionalInfo": self.additionalInfo ?? .null,
            ],
            "response": self.response ?? .null,
            "status": .string(self.status.rawValue),
            "additionalInfo": self.additionalInfo ?? .null,
        ]
    }
}
