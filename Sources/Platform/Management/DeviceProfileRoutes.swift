import Hummingbird
import NodeKit
import OTA

/// `/api/deviceProfile`: what many devices have in common.
struct DeviceProfileRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    private var devices: any DeviceService { self.services.devices }

    func add(to routes: inout RouteTable) {
        routes.add(.post, "/api/deviceProfile", self.save)
        routes.add(.get, "/api/deviceProfile/{id}", self.get)
        routes.add(.delete, "/api/deviceProfile/{id}", self.delete)
        routes.add(.post, "/api/deviceProfile/{id}/default", self.makeDefault)
        routes.add(.get, "/api/deviceProfiles", self.list)
        routes.add(.get, "/api/deviceProfileInfos", self.listInfos)
        routes.add(.get, "/api/deviceProfileInfo/default", self.defaultInfo)
        routes.add(.get, "/api/deviceProfileInfo/{id}", self.info)
    }

    private func profile(_ id: DeviceProfileId) async throws -> DeviceProfile {
        guard let profile = try await self.devices.findDeviceProfileById(id) else {
            throw APIError.notFound("Device profile", id)
        }
        return profile
    }

    @Sendable private func save(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        var existing: DeviceProfile?
        if let id = try body.id("id", of: DeviceProfile.self) { existing = try await self.profile(id) }
        let profile = try DeviceProfile(from: body, replacing: existing, now: self.now())
        return .json(try await self.devices.saveDeviceProfile(profile).json)
    }

    @Sendable private func get(_ request: APIRequest) async throws -> Response {
        .json(try await self.profile(try request.id()).json)
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        try await self.devices.deleteDeviceProfile(try await self.profile(try request.id()).id)
        return .empty
    }

    @Sendable private func makeDefault(_ request: APIRequest) async throws -> Response {
        let profile = try await self.profile(try request.id())
        return .json(try await self.devices.setDefaultDeviceProfile(profile.id).json)
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        .json(try await self.devices.findDeviceProfiles(page: try request.pageLink()).json(\.json))
    }

    @Sendable private func listInfos(_ request: APIRequest) async throws -> Response {
        .json(try await self.devices.findDeviceProfiles(page: try request.pageLink()).json(\.infoJSON))
    }

    @Sendable private func defaultInfo(_ request: APIRequest) async throws -> Response {
        .json(try await self.devices.defaultDeviceProfile().infoJSON)
    }

    @Sendable private func info(_ request: APIRequest) async throws -> Response {
        .json(try await self.profile(try request.id()).infoJSON)
    }
}
