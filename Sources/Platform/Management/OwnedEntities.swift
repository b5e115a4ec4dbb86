import OTA

/// The one way of routes to entities that a request names: nobody gets one of another tenant.
extension ManagementServices {
    /// The device with this identifier.
    ///
    /// - Throws: ``APIError``: 404 if it does not exist, 403 if it is not of the caller's tenant, as in ThingsBoard.
    func device(_ id: DeviceId, for request: APIRequest) async throws -> Device {
        try self.own(try await self.devices.findDeviceById(id), id, request)
    }

    /// The profile with this identifier; throws as ``device(_:for:)`` does.
    func profile(_ id: DeviceProfileId, for request: APIRequest) async throws -> DeviceProfile {
        try self.own(try await self.profiles.findDeviceProfileById(id), id, request)
    }

    /// The package with this identifier; throws as ``device(_:for:)`` does.
    func package(_ id: OtaPackageId, for request: APIRequest) async throws -> OtaPackage {
        try self.own(try await self.packages.findOtaPackageById(id), id, request)
    }

    /// Refuses a reference to a profile of another tenant; what a missing one means is for whoever follows the reference.
    func checkReference(to id: DeviceProfileId, for request: APIRequest) async throws {
        guard let profile = try await self.profiles.findDeviceProfileById(id) else { return }
        guard profile.tenantId == (try request.tenantId()) else { throw APIError.forbidden }
    }

    /// The tenant with this identifier; system administrators get any, others their own.
    func tenant(_ id: TenantId, for request: APIRequest) async throws -> Tenant {
        let caller = try request.caller()
        let tenant = try await EntityRules.found(self.tenants.findTenantById(id), id)
        guard caller.authority == .sysAdmin || caller.tenantId == id else { throw APIError.forbidden }
        request.trail.concerns(tenant)
        return tenant
    }

    /// The user with this identifier.
    ///
    /// - Parameters:
    ///   - id: Whom to look for.
    ///   - request: Who asks.
    ///   - changes: Whether to change the user, which is logged as a change of that user.
    /// - Returns: The user.
    /// - Throws: ``APIError``: 404 if there is none, 403 if he is not the caller's to see.
    func user(_ id: UserId, for request: APIRequest, changes: Bool) async throws -> User {
        let user = try await EntityRules.found(self.users.findUserById(id), id)
        guard try request.caller().maySee(user) else { throw APIError.forbidden }
        if changes { request.trail.concerns(user) }
        return user
    }

    /// The API key with this identifier and whose it is; throws as ``user(_:for:changes:)`` does.
    func key(_ id: ApiKeyId, for request: APIRequest) async throws -> (ApiKey, User) {
        let key = try await EntityRules.found(self.keys.findApiKeyById(id), id)
        let user = try await self.user(key.userId, for: request, changes: false)
        request.trail.concerns(key)
        return (key, user)
    }

    /// An entity that was looked up, if it is there and of the caller's tenant.
    private func own<Entity: TenantOwned & NamedEntity & Audited>(
        _ entity: Entity?,
        _ id: EntityID<Entity>,
        _ request: APIRequest
    ) throws -> Entity {
        let entity = try EntityRules.found(entity, id)
        guard entity.tenantId == (try request.tenantId()) else { throw APIError.forbidden }
        request.trail.concerns(entity)
        return entity
    }
}

extension Session {
    /// Whether this is somebody who may see and change a user: system administrators everybody, administrators of tenants those of
    /// their tenant, others themselves.
    func maySee(_ user: User) -> Bool {
        switch self.authority {
        case .sysAdmin: true
        case .tenantAdmin: user.tenantId == self.tenantId
        case .customerUser: user.id == self.user.id
        }
    }
}
