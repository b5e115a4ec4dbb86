/// Devices.
public protocol DeviceService: Sendable {
    /// The device with this identifier, if it exists.
    func findDeviceById(_ id: DeviceId) async throws -> Device?
    /// A tenant's device with this name, if it exists.
    func findDeviceByName(_ name: String, of tenant: TenantId) async throws -> Device?
    /// A page of a tenant's devices, of one profile if given.
    func findDevices(of tenant: TenantId, deviceProfileId: DeviceProfileId?, page: PageLink) async throws -> Page<
        Device
    >
    /// A page of a tenant's devices with what people want to know of them.
    func findDeviceInfos(of tenant: TenantId, matching filter: DeviceFilter, page: PageLink) async throws -> Page<
        DeviceInfo
    >
    /// What people want to know of a device.
    func deviceInfo(of device: Device) async throws -> DeviceInfo
    /// Creates a device that is not saved yet, or replaces one that is; see ``Device/isSaved``. If its effective package changes,
    /// the update is QUEUED in the same step.
    ///
    /// - Parameters:
    ///   - device: The device as it is to be.
    ///   - accessToken: The token of a new device; `nil` for a random one.
    ///   - priority: How urgent its update is, 0…9 (``Precedence/priority``).
    /// - Returns: The device as stored.
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveDevice(_ device: Device, accessToken: String?, priority: Int) async throws -> Device
    /// Creates or replaces a device as ``saveDevice(_:accessToken:)`` does, and its credentials, in one step: either both are
    /// stored or nothing is.
    func saveDevice(_ device: Device, credentials: DeviceCredentials) async throws -> Device
    /// Removes a device with all that is stored about it; one that does not exist is ``NodeError/Code/notFound``.
    func deleteDevice(_ id: DeviceId) async throws
    /// How many devices of a profile have no package of this type of their own.
    func countDevices(deviceProfileId: DeviceProfileId, withoutOwn type: OtaPackageType) async throws -> Int
}

extension DeviceService {
    /// Creates or replaces a device whose update is as urgent as most.
    public func saveDevice(_ device: Device, accessToken: String?) async throws -> Device {
        try await self.saveDevice(device, accessToken: accessToken, priority: 0)
    }
}
