import Hummingbird
import NodeKit
import OTA

/// `/api/device/{id}/update/{type}`: how far a device is with its update.
///
/// ThingsBoard has no such path; there one has to read time series.
struct UpdateRoutes: Sendable {
    let services: ManagementServices

    func add(to routes: inout RouteTable) {
        routes.add(.get, "/api/device/{id}/update/{type}", for: .tenantUsers, self.record)
        routes.add(.get, "/api/device/{id}/update/{type}/history", for: .tenantUsers, self.history)
    }

    private func device(_ request: APIRequest) async throws -> DeviceId {
        try await self.services.device(try request.id(), for: request).id
    }

    @Sendable private func record(_ request: APIRequest) async throws -> Response {
        let type = try request.packageType()
        let device = try await self.device(request)
        guard let record = try await self.services.updates.updateRecord(of: device, type: type) else {
            throw APIError(.notFound, 32, "Device with id [\(device)] never had a \(type.rawValue) update")
        }
        return .json(record.json)
    }

    @Sendable private func history(_ request: APIRequest) async throws -> Response {
        let type = try request.packageType()
        let device = try await self.device(request)
        return .json(.array(try await self.services.updates.updateHistory(of: device, type: type).map(\.json)))
    }
}

extension UpdateRecord {
    /// The record, with the times of its states in the order of the states.
    fileprivate var json: JSON {
        let entered = OtaUpdateState.allCases.compactMap { state in
            self.entered[state].map { (state.rawValue, JSON($0)) }
        }
        return [
            "deviceId": self.deviceId.json,
            "type": .string(self.type.rawValue),
            "state": .string(self.state.rawValue),
            "packageId": self.packageId?.json ?? .null,
            "title": .string(self.title),
            "version": .string(self.version),
            "entered": .object(JSON.Object(entered)),
            "progress": self.progress.map { .integer(Int64($0)) } ?? .null,
            "attempts": .integer(Int64(self.attempts)),
            "errorClass": JSON(self.errorClass?.rawValue),
            "error": JSON(self.error),
        ]
    }
}

extension UpdateHistoryEntry {
    fileprivate var json: JSON {
        [
            "id": .integer(self.id),
            "ts": JSON(self.timestamp),
            "state": .string(self.state),
            "title": .string(self.title),
            "version": .string(self.version),
            "accepted": .bool(self.accepted),
            "error": JSON(self.error),
        ]
    }
}
