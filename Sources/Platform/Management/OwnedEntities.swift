import OTA

/// The one way of routes to entities that a request names: nobody gets one of another tenant.
extension ManagementServices {
    /// The device with this identifier.
    ///
    /// - Throws: ``APIError``: 404 if it does not exist, 403 if it is not of the caller's tenant, as in ThingsBoard.
    func device(_ id: DeviceId, for request: APIRequest) async throws -> Device {
        try self.own(try await self.devices.findDeviceById(id), "Device", id, request)
    }

    /// The profile with this identifier; throws as ``device(_:for:)`` does.
    func profile(_ id: DeviceProfileId, for request: APIRequest) async throws -> DeviceProfile {
        try self.own(try await self.devices.findDeviceProfileById(id), "Device profile", id, request)
    }

    /// The package with this identifier; throws as ``device(_:for:)`` does.
    func package(_ id: OtaPackageId, for request: APIRequest) async throws -> OtaPackage {
        try self.own(try await self.packages.findOtaPackageById(id), "Ota package", id, request)
    }

    /// Refuses a reference to a profile of another tenant; what a missing one means is for whoever follows the reference.
    func checkReference(to id: DeviceProfileId, for request: APIRequest) async throws {
        guard let profile = try await self.devices.findDeviceProfileById(id) else { return }
        _ = try self.own(profile, "Device profile", id, request)
    }

    /// An entity that was looked up, if it is there and of the caller's tenant.
    private func own<Entity: TenantOwned>(
        _ entity: Entity?,
        _ kind: String,
        _ id: EntityID<Entity>,
        _ request: APIRequest
    ) throws -> Entity {
        guard let entity else { throw APIError.notFound(kind, id) }
        guard entity.tenantId == (try request.tenantId()) else { throw APIError.forbidden }
        return entity
    }
}
