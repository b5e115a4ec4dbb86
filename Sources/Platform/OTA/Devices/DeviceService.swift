/// Devices, their profiles and credentials.
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
    /// - Returns: The device as stored.
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveDevice(_ device: Device, accessToken: String?) async throws -> Device
    /// Creates or replaces a device as ``saveDevice(_:accessToken:)`` does, and its credentials, in one step: either both are
    /// stored or nothing is.
    func saveDevice(_ device: Device, credentials: DeviceCredentials) async throws -> Device
    /// Removes a device with all that is stored about it; one that does not exist is ``NodeError/Code/notFound``.
    func deleteDevice(_ id: DeviceId) async throws
    /// How many devices of a profile have no package of this type of their own.
    func countDevices(deviceProfileId: DeviceProfileId, withoutOwn type: OtaPackageType) async throws -> Int

    /// The credentials of a device.
    func findCredentials(of id: DeviceId) async throws -> DeviceCredentials?
    /// Replaces the credentials of a device.
    func saveCredentials(_ credentials: DeviceCredentials) async throws -> DeviceCredentials

    /// The profile with this identifier, if it exists.
    func findDeviceProfileById(_ id: DeviceProfileId) async throws -> DeviceProfile?
    /// A tenant's profile with this name, if it exists.
    func findDeviceProfileByName(_ name: String, of tenant: TenantId) async throws -> DeviceProfile?
    /// The profile of a tenant's devices that name none; every tenant has one.
    func defaultDeviceProfile(of tenant: TenantId) async throws -> DeviceProfile
    /// A page of a tenant's profiles.
    func findDeviceProfiles(of tenant: TenantId, page: PageLink) async throws -> Page<DeviceProfile>
    /// Creates a profile that is not saved yet, or replaces one that is; see ``DeviceProfile/isSaved``. If its package changes,
    /// the update of every device without its own is QUEUED in the same step.
    ///
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveDeviceProfile(_ profile: DeviceProfile) async throws -> DeviceProfile
    /// Makes a profile the default one.
    func setDefaultDeviceProfile(_ id: DeviceProfileId) async throws -> DeviceProfile
    /// Removes a profile that no device uses, with its packages.
    func deleteDeviceProfile(_ id: DeviceProfileId) async throws
}
