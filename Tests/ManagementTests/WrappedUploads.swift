import NodeKit
import OTA

/// The packages of a store, each of whose uploads a test puts into another one.
struct WrappedUploads: OtaPackageService {
    let packages: any OtaPackageService
    let wrap: @Sendable (any OtaPackageUpload) -> any OtaPackageUpload

    func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload {
        self.wrap(try await self.packages.upload(to: id))
    }

    func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload {
        self.wrap(try await self.packages.upload(creating: package))
    }

    func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage? {
        try await self.packages.findOtaPackageById(id)
    }

    func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage {
        try await self.packages.saveOtaPackage(package)
    }

    func deleteOtaPackage(_ id: OtaPackageId) async throws { try await self.packages.deleteOtaPackage(id) }

    func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage? {
        try await self.packages.findOtaPackageByDeviceProfileIdAndType(profileId, type)
    }

    func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage> {
        try await self.packages.findOtaPackages(
            of: tenant,
            deviceProfileId: deviceProfileId,
            type: type,
            hasData: hasData,
            page: page
        )
    }

    func content(of id: OtaPackageId) async throws -> (any Content)? { try await self.packages.content(of: id) }

    func package(_ id: OtaPackageId) async throws -> EffectivePackage? { try await self.packages.package(id) }

    func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage? {
        try await self.packages.effectivePackage(for: device, type: type)
    }
}
