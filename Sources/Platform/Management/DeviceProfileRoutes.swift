import Hummingbird
import NodeKit
import OTA

/// `/api/deviceProfile`: what many devices have in common.
struct DeviceProfileRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    private var profiles: any DeviceProfileService { self.services.profiles }

    /// What lists of profiles are sorted by.
    private static let sortProperties = [
        "createdTime", "name", "description", "default", "isDefault", "type", "transportType",
    ]

    /// Whoever only reads gets no whole profile: it holds the secret that makes devices.
    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/deviceProfile",
            for: .tenantAdministrators,
            Operation(
                "Saves a profile; what the body does not say is not there any more",
                query: [.priority],
                body: .json(.savedDeviceProfile),
                answer: .json(.deviceProfile)
            ),
            self.save
        )
        routes.add(
            .get,
            "/api/deviceProfile/{id}",
            for: .tenantAdministrators,
            Operation("Reads a profile", answer: .json(.deviceProfile)),
            self.get
        )
        routes.add(
            .delete,
            "/api/deviceProfile/{id}",
            for: .tenantAdministrators,
            Operation("Deletes a profile that no device uses, with its packages"),
            self.delete
        )
        routes.add(
            .post,
            "/api/deviceProfile/{id}/default",
            for: .tenantAdministrators,
            Operation("Makes a profile that of devices that name none", answer: .json(.deviceProfile)),
            self.makeDefault
        )
        routes.add(
            .get,
            "/api/deviceProfiles",
            for: .tenantAdministrators,
            Operation(
                "Lists profiles",
                query: .page(sortedBy: Self.sortProperties),
                answer: .json(Schema.deviceProfile.page)
            ),
            self.list
        )
        routes.add(
            .get,
            "/api/deviceProfile/names",
            for: .tenantUsers,
            Operation(
                "Lists the names of profiles",
                query: [.flag("activeOnly", "Only those that devices use")],
                answer: .json(Schema.profileName.list)
            ),
            self.names
        )
        routes.add(
            .get,
            "/api/deviceProfileInfos",
            for: .tenantUsers,
            Operation(
                "Lists what people want to know of profiles",
                query: .page(sortedBy: Self.sortProperties),
                answer: .json(Schema.deviceProfileInfo.page)
            ),
            self.listInfos
        )
        routes.add(
            .get,
            "/api/deviceProfileInfo/default",
            for: .tenantUsers,
            Operation(
                "Reads what people want to know of the profile of devices that name none",
                answer: .json(.deviceProfileInfo)
            ),
            self.defaultInfo
        )
        routes.add(
            .get,
            "/api/deviceProfileInfo/{id}",
            for: .tenantUsers,
            Operation("Reads what people want to know of a profile", answer: .json(.deviceProfileInfo)),
            self.info
        )
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
        let saved = try await self.profiles.saveDeviceProfile(profile, priority: try request.queryPriority())
        request.trail.saved(saved, isNew: existing == nil)
        request.trail.noteAssignments(from: { existing?.packageId(of: $0) }, to: saved.packageId(of:))
        return .json(saved.json)
    }

    @Sendable private func get(_ request: APIRequest) async throws -> Response {
        .json(try await self.profile(request).json)
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        try await self.profiles.deleteDeviceProfile(try await self.profile(request).id)
        return .empty
    }

    @Sendable private func makeDefault(_ request: APIRequest) async throws -> Response {
        let profile = try await self.profile(request)
        return .json(try await self.profiles.setDefaultDeviceProfile(profile.id).json)
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        .json(
            try await self.profiles.findDeviceProfiles(of: try request.tenantId(), page: try request.pageLink()).json(
                \.json
            )
        )
    }

    @Sendable private func listInfos(_ request: APIRequest) async throws -> Response {
        .json(
            try await self.profiles.findDeviceProfiles(of: try request.tenantId(), page: try request.pageLink()).json(
                \.infoJSON
            )
        )
    }

    @Sendable private func names(_ request: APIRequest) async throws -> Response {
        let tenant = try request.tenantId()
        var profiles = try await self.profiles.allDeviceProfiles(of: tenant)
        if try request.queryBool("activeOnly") == true {
            var used: [DeviceProfile] = []
            for profile in profiles {
                let one = PageLink(pageSize: 1)
                let filter = DeviceFilter(deviceProfileId: profile.id)
                if try await self.services.devices.findDeviceInfos(of: tenant, matching: filter, page: one)
                    .totalElements > 0
                {
                    used.append(profile)
                }
            }
            profiles = used
        }
        return .json(.array(profiles.map { ["id": $0.id.json, "name": .string($0.name)] }))
    }

    @Sendable private func defaultInfo(_ request: APIRequest) async throws -> Response {
        .json(try await self.profiles.defaultDeviceProfile(of: try request.tenantId()).infoJSON)
    }

    @Sendable private func info(_ request: APIRequest) async throws -> Response {
        .json(try await self.profile(request).infoJSON)
    }
}
