import Hummingbird
import NodeKit
import OTA

/// `/api/device`: devices and their credentials.
struct DeviceRoutes: Sendable {
    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    private var devices: any DeviceService { self.services.devices }
    private var profiles: any DeviceProfileService { self.services.profiles }
    private var credentials: any DeviceCredentialsService { self.services.credentials }

    /// What lists of devices are sorted by.
    private static let sortProperties = ["createdTime", "name", "label", "type", "deviceProfileName", "active"]

    /// A list of what people want to know of devices, which has three paths.
    private static let listing = Operation(
        "Lists what people want to know of devices",
        query: .page(sortedBy: Self.sortProperties) + [
            .id("deviceProfileId", "Their profile"), .text("type", "The name of their profile"),
            .flag("active", "Those that were heard of lately, or those that were not"),
        ],
        answer: .json(Schema.deviceInfo.page)
    )

    /// Whoever only reads gets no credentials: they would make a device of him.
    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/device",
            for: .tenantAdministrators,
            Operation(
                "Saves a device; what the body does not say is not there any more",
                query: [
                    .text("accessToken", "The token of a new device; a random one if it is left out"), .priority,
                ],
                body: .json(.savedDevice),
                answer: .json(.device)
            ),
            self.save
        )
        routes.add(
            .get,
            "/api/device/{id}",
            for: .tenantUsers,
            Operation("Reads a device", answer: .json(.device)),
            self.get
        )
        routes.add(
            .delete,
            "/api/device/{id}",
            for: .tenantAdministrators,
            Operation("Deletes a device with all that is stored about it"),
            self.delete
        )
        routes.add(
            .get,
            "/api/device/info/{id}",
            for: .tenantUsers,
            Operation("Reads a device with what people want to know of it", answer: .json(.deviceInfo)),
            self.info
        )
        routes.add(
            .get,
            "/api/tenant/devices",
            for: .tenantUsers,
            Operation(
                "Lists devices, or reads the one with a name",
                query: .page(sortedBy: Self.sortProperties, isOptional: true) + [
                    .text("type", "The name of the devices' profile"),
                    .text("deviceName", "The name of the one device to read"),
                ],
                answer: .json(.deviceOrPage),
                failures: [(.notFound, "There is no device with this name")]
            ),
            self.list
        )
        routes.add(
            .get,
            "/api/tenant/device",
            for: .tenantUsers,
            Operation(
                "Reads the device with a name",
                query: [.text("deviceName", "The name", required: true)],
                answer: .json(.device),
                failures: [(.notFound, "There is no device with this name")]
            ),
            self.named
        )
        routes.add(.get, "/api/tenant/deviceInfos", for: .tenantUsers, Self.listing, self.listInfos)
        // Newer clients ask for the same list here.
        routes.add(.get, "/api/deviceInfos/all", for: .tenantUsers, Self.listing, self.listInfos)
        routes.add(
            .get,
            "/api/device/types",
            for: .tenantUsers,
            Operation(
                "Lists the types of devices, which are the names of profiles",
                answer: .json(Schema.deviceType.list)
            ),
            self.deviceTypes
        )
        routes.add(
            .get,
            "/api/devices",
            for: .tenantUsers,
            Operation(
                "Reads several devices; those that are not there are left out",
                query: [.list("deviceIds", "Their identifiers", required: true)],
                answer: .json(Schema.device.list)
            ),
            self.several
        )
        routes.add(
            .get,
            "/api/customer/{customerId}/devices",
            for: .tenantUsers,
            Operation(
                "Lists the devices of a customer, of whom there is none but the one who stands for nobody",
                query: .page(sortedBy: Self.sortProperties) + [.text("type", "The name of the devices' profile")],
                answer: .json(Schema.device.page)
            ),
            self.listOfCustomer
        )
        routes.add(
            .get,
            "/api/customer/{customerId}/deviceInfos",
            for: .tenantUsers,
            Self.listing,
            self.listInfosOfCustomer
        )
        routes.add(
            .post,
            "/api/device-with-credentials",
            for: .tenantAdministrators,
            Operation(
                "Saves a device and its credentials",
                body: .json(.deviceWithCredentials),
                answer: .json(.device)
            ),
            self.saveWithCredentials
        )
        routes.add(
            .get,
            "/api/device/{id}/credentials",
            for: .tenantAdministrators,
            logs: .action(.credentialsRead),
            Operation("Reads the credentials of a device", answer: .json(.credentials)),
            self.credentials
        )
        routes.add(
            .post,
            "/api/device/credentials",
            for: .tenantAdministrators,
            logs: .action(.credentialsUpdated),
            Operation(
                "Replaces the credentials of a device, whose connections end",
                body: .json(.savedCredentials),
                answer: .json(.credentials)
            ),
            self.saveCredentials
        )
    }

    private func device(_ request: APIRequest) async throws -> Device {
        try await self.services.device(try request.id(), for: request)
    }

    /// The names of the profiles of some devices, which are the devices' types.
    private func types(of devices: [Device]) async throws -> [DeviceProfileId: String] {
        var types: [DeviceProfileId: String] = [:]
        for device in devices where types[device.deviceProfileId] == nil {
            types[device.deviceProfileId] = try await self.profiles.findDeviceProfileById(device.deviceProfileId)?.name
        }
        return types
    }

    private func json(_ device: Device) async throws -> JSON {
        device.json(type: try await self.types(of: [device])[device.deviceProfileId] ?? "")
    }

    /// Saves the device that a body describes in full.
    ///
    /// - Parameters:
    ///   - body: What describes it.
    ///   - request: The request.
    ///   - store: What saves it.
    /// - Returns: The device as stored.
    /// - Throws: ``APIError`` or ``NodeError``.
    private func save(
        _ body: BodyReader,
        _ request: APIRequest,
        by store: (Device) async throws -> Device
    ) async throws -> Device {
        let tenant = try request.tenantId()
        var existing: Device?
        if let id = try body.id("id", of: Device.self) { existing = try await self.services.device(id, for: request) }
        let profileId: DeviceProfileId
        if let id = try body.id("deviceProfileId", of: DeviceProfile.self) {
            try await self.services.checkReference(to: id, for: request)
            profileId = id
        } else if let type = try body.string("type"), !type.isEmpty {
            // ThingsBoard finds or makes a profile with the name that the device's type is.
            if let profile = try await self.profiles.findDeviceProfileByName(type, of: tenant) {
                profileId = profile.id
            } else {
                let profile = DeviceProfile(createdTime: self.now(), tenantId: tenant, name: type)
                profileId = try await self.profiles.saveDeviceProfile(profile).id
            }
        } else {
            profileId = try await self.profiles.defaultDeviceProfile(of: tenant).id
        }
        let device = try Device(
            from: body,
            replacing: existing,
            of: tenant,
            profileId: profileId,
            now: self.now()
        )
        let saved = try await store(device)
        request.trail.saved(saved, isNew: existing == nil)
        request.trail.noteAssignments(from: { existing?.packageId(of: $0) }, to: saved.packageId(of:))
        return saved
    }

    @Sendable private func save(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        let accessToken = request.queryText("accessToken")
        let priority = try request.queryPriority()
        let device = try await self.save(body, request) {
            try await self.devices.saveDevice($0, accessToken: accessToken, priority: priority)
        }
        return .json(try await self.json(device))
    }

    @Sendable private func saveWithCredentials(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        guard let described = try body.nested("device") else { throw APIError.missing(parameter: "device") }
        guard let secret = try body.nested("credentials") else { throw APIError.missing(parameter: "credentials") }
        var wanted = DeviceCredentials(deviceId: .random(), credentialsId: "")
        try wanted.update(from: secret)
        let isNew = described["id"] == nil
        // In one step: a device without these credentials would be in the way of the same request.
        let device = try await self.save(described, request) { device in
            if isNew, wanted.kind == .accessToken {
                return try await self.devices.saveDevice(device, accessToken: wanted.credentialsId)
            }
            return try await self.devices.saveDevice(
                device,
                credentials: try await self.credentials(of: device.id, by: secret)
            )
        }
        return .json(try await self.json(device))
    }

    @Sendable private func get(_ request: APIRequest) async throws -> Response {
        .json(try await self.json(try await self.device(request)))
    }

    @Sendable private func info(_ request: APIRequest) async throws -> Response {
        let device = try await self.device(request)
        return .json(try await self.devices.deviceInfo(of: device).json)
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        try await self.devices.deleteDevice(try await self.device(request).id)
        return .empty
    }

    @Sendable private func named(_ request: APIRequest) async throws -> Response {
        guard let name = request.queryText("deviceName") else { throw APIError.missing(parameter: "deviceName") }
        guard let device = try await self.devices.findDeviceByName(name, of: try request.tenantId()) else {
            throw APIError.itemNotFound
        }
        return .json(try await self.json(device))
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        // Older clients ask for one device by name on this path.
        if request.queryText("deviceName") != nil { return try await self.named(request) }
        return .json(try await self.found(request, DeviceFilter(request)).json(\.deviceJSON))
    }

    @Sendable private func listInfos(_ request: APIRequest) async throws -> Response {
        .json(try await self.found(request, DeviceFilter(request)).json(\.json))
    }

    /// The devices of a customer: all of them, if it is the one who stands for nobody, as there are no others.
    @Sendable private func listOfCustomer(_ request: APIRequest) async throws -> Response {
        try Self.checkCustomer(request)
        return .json(try await self.found(request, DeviceFilter(request)).json(\.deviceJSON))
    }

    @Sendable private func listInfosOfCustomer(_ request: APIRequest) async throws -> Response {
        try Self.checkCustomer(request)
        return try await self.listInfos(request)
    }

    private static func checkCustomer(_ request: APIRequest) throws {
        let id = try request.id("customerId", of: Customer.self)
        guard id.description == EntityShape.nullCustomerId else { throw APIError.notFound("Customer", id) }
    }

    private func found(_ request: APIRequest, _ filter: DeviceFilter) async throws -> Page<DeviceInfo> {
        if let profile = filter.deviceProfileId { try await self.services.checkReference(to: profile, for: request) }
        return try await self.devices.findDeviceInfos(
            of: try request.tenantId(),
            matching: filter,
            page: try request.pageLink()
        )
    }

    @Sendable private func deviceTypes(_ request: APIRequest) async throws -> Response {
        let tenant = try request.tenantId()
        let profiles = try await self.profiles.allDeviceProfiles(of: tenant)
        return .json(
            .array(
                profiles.map { ["tenantId": tenant.json, "entityType": "DEVICE", "type": .string($0.name)] }
            )
        )
    }

    @Sendable private func several(_ request: APIRequest) async throws -> Response {
        guard let ids = try request.queryList("deviceIds") else { throw APIError.missing(parameter: "deviceIds") }
        let tenant = try request.tenantId()
        var devices: [Device] = []
        for text in ids {
            let device = try await self.devices.findDeviceById(try APIRequest.parse(text, "deviceIds"))
            // As in ThingsBoard, those that are not there and those of others are left out.
            if let device, device.tenantId == tenant { devices.append(device) }
        }
        let types = try await self.types(of: devices)
        return .json(.array(devices.map { $0.json(type: types[$0.deviceProfileId] ?? "") }))
    }

    @Sendable private func credentials(_ request: APIRequest) async throws -> Response {
        let device = try await self.device(request)
        guard let credentials = try await self.credentials.findCredentials(of: device.id) else {
            throw APIError.itemNotFound
        }
        return .json(credentials.json)
    }

    @Sendable private func saveCredentials(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        guard let id = try body.id("deviceId", of: Device.self) else { throw APIError.missing(parameter: "deviceId") }
        let device = try await self.services.device(id, for: request)
        let credentials = try await self.credentials(of: device.id, by: body)
        return .json(try await self.credentials.saveCredentials(credentials).json)
    }

    /// The credentials that a body describes, for a device that may not be there yet.
    private func credentials(of id: DeviceId, by body: BodyReader) async throws -> DeviceCredentials {
        var credentials =
            try await self.credentials.findCredentials(of: id) ?? DeviceCredentials(deviceId: id, credentialsId: "")
        try credentials.update(from: body)
        return credentials
    }
}

/// Names a kind of entity that ThingsBoard assigns devices to.
///
/// Windlass has none of them.
private enum Customer {}

extension DeviceFilter {
    /// What the query of a list says.
    fileprivate init(_ request: APIRequest) throws {
        let profile: DeviceProfileId? = try request.queryText("deviceProfileId").map {
            try APIRequest.parse($0, "deviceProfileId")
        }
        self.init(
            deviceProfileId: profile,
            type: request.queryText("type"),
            isActive: try request.queryBool("active")
        )
    }
}

extension DeviceProfileService {
    /// All profiles of a tenant, by their names.
    func allDeviceProfiles(of tenant: TenantId) async throws -> [DeviceProfile] {
        var profiles: [DeviceProfile] = []
        var link = PageLink(pageSize: Int(APIRequest.pageSizes.upperBound), sortProperty: "name", ascending: true)
        while true {
            let page = try await self.findDeviceProfiles(of: tenant, page: link)
            profiles += page.data
            guard page.hasNext else { return profiles }
            link.page += 1
        }
    }
}
