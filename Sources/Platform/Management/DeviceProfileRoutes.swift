import Hummingbird
import NodeKit
import OTA

/// `/api/deviceProfile`: what many devices have in common.
struct DeviceProfileRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    private var devices: any DeviceService { self.services.devices }

    /// Whoever only reads gets no whole profile: it holds the secret that makes devices.
    func add(to routes: inout RouteTable) {
        routes.add(.post, "/api/deviceProfile", for: .tenantAdministrators, self.save)
        routes.add(.get, "/api/deviceProfile/{id}", for: .tenantAdministrators, self.get)
        routes.add(.delete, "/api/deviceProfile/{id}", for: .tenantAdministrators, self.delete)
        routes.add(.post, "/api/deviceProfile/{id}/default", for: .tenantAdministrators, self.makeDefault)
        routes.add(.get, "/api/deviceProfiles", for: .tenantAdministrators, self.list)
        routes.add(.get, "/api/deviceProfileInfos", for: .tenantUsers, self.listInfos)
        routes.add(.get, "/api/deviceProfileInfo/default", for: .tenantUsers, self.defaultInfo)
        routes.add(.get, "/api/deviceProfileInfo/{id}", for: .tenantUsers, self.info)
    }

    private func profile(_ request: APIRequest) async throws -> DeviceProfile {
        try await self.services.profile(try request.id(), for: request)
    }

    @Sendable private func save(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        var existing: DeviceProfile?
        if let id = try body.id("id", of: DeviceProfile.self) {
            existing = try await self.services.profile(id, for: request)
        }
        let tenant = try request.tenantId()
        let profile = try DeviceProfile(from: body, replacing: existing, of: tenant, now: self.now())
        let saved = try await self.devices.saveDeviceProfile(profile)
        request.trail.saved(saved, isNew: existing == nil)
        request.trail.noteAssignments(from: { existing?.packageId(of: $0) }, to: saved.packageId(of:))
        return .json(saved.json)
    }

    @Sendable private func get(_ request: APIRequest) async throws -> Response {
        .json(try await self.profile(request).json)
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        try await self.devices.deleteDeviceProfile(try await self.profile(request).id)
        return .empty
    }

    @Sendable private func makeDefault(_ request: APIRequest) async throws -> Response {
        let profile = try await self.profile(request)
        return .json(try await self.devices.setDefaultDeviceProfile(profile.id).json)
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        .json(
            try await self.devices.findDeviceProfiles(of: try request.tenantId(), page: try request.pageLink()).json(
                \.json
            )
        )
    }

    @Sendable private func listInfos(_ request: APIRequest) async throws -> Response {
        .json(
            try await self.devices.findDeviceProfiles(of: try request.tenantId(), page: try request.pageLink()).json(
                \.infoJSON
            )
        )
    }

    @Sendable private func defaultInfo(_ request: APIRequest) async throws -> Response {
        .json(try await self.devices.defaultDeviceProfile(of: try request.tenantId()).infoJSON)
    }

    @Sendable private func info(_ request: APIRequest) async throws -> Response {
        .json(try await self.profile(request).infoJSON)
    }
}
