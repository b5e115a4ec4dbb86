/// Profiles of devices.
public protocol DeviceProfileService: Sendable {
    /// The profile with this identifier, if it exists.
    func findDeviceProfileById(_ id: DeviceProfileId) async throws -> DeviceProfile?
    /// A tenant's profile with this name, if it exists.
    func findDeviceProfileByName(_ name: String, of tenant: TenantId) async throws -> DeviceProfile?
    /// The profile of a tenant's devices that name none; every tenant has one.
    func defaultDeviceProfile(of tenant: TenantId) async throws -> DeviceProfile
    /// A page of a tenant's profiles.
    func findDeviceProfiles(of tenant: TenantId, page: PageLink) async throws -> Page<DeviceProfile>
    /// Creates a profile that is not saved yet, or replaces one that is; see ``DeviceProfile/isSaved``. If its package changes,
    /// the update of every device without its own is QUEUED in the same step, as urgent as `priority` says, 0…9.
    ///
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveDeviceProfile(_ profile: DeviceProfile, priority: Int) async throws -> DeviceProfile
    /// Makes a profile the default one.
    func setDefaultDeviceProfile(_ id: DeviceProfileId) async throws -> DeviceProfile
    /// Removes a profile that no device uses, with its packages.
    func deleteDeviceProfile(_ id: DeviceProfileId) async throws
}

extension DeviceProfileService {
    /// Creates or replaces a profile whose updates are as urgent as most.
    public func saveDeviceProfile(_ profile: DeviceProfile) async throws -> DeviceProfile {
        try await self.saveDeviceProfile(profile, priority: 0)
    }
}
