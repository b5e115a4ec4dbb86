public import NodeKit

/// Packages and their bytes.
public protocol OtaPackageService: Sendable {
    /// The package with this identifier, if it exists.
    func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage?

    /// Creates a package that is not saved yet, or updates what may change of one that is; see ``OtaPackage/isSaved``.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` and the sentence of ThingsBoard if a rule is broken, with
    ///   ``NodeError/Code/conflict`` if a new one has the identifier of another, and with ``NodeError/Code/notFound`` if it has
    ///   been deleted.
    func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage

    /// Removes a package and, if no other uses them, its bytes.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if a device or a profile refers to it, and with
    ///   ``NodeError/Code/notFound`` if it does not exist.
    func deleteOtaPackage(_ id: OtaPackageId) async throws

    /// The package of a type that a profile assigns to its devices, if any.
    func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage?

    /// A page of a tenant's packages, newest first unless the link says otherwise; those for one profile and type if given.
    func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage>

    /// Begins to store the bytes of a saved package. Nothing is visible before ``OtaPackageUpload/finish(fileName:contentType:algorithm:checksum:)``.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/notFound`` or ``NodeError/Code/badRequest``.
    func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload

    /// Begins to store the bytes of a package that does not exist yet. The package is made together with them, in one step, when
    /// they have come in whole, so that an upload that is cut off leaves nothing.
    ///
    /// - Throws: ``NodeError`` as for saving such a package, before any bytes are sent; finishing the upload may throw it as well.
    func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload

    /// The bytes of a package, if they are stored here.
    func content(of id: OtaPackageId) async throws -> (any Content)?

    /// The package with this identifier and its bytes. Kept in memory: cheap enough to call for every chunk.
    func package(_ id: OtaPackageId) async throws -> EffectivePackage?

    /// The package that a device should have: its own, or its profile's. Kept in memory: cheap enough to call for every
    /// chunk.
    func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage?

    /// What ``package(_:)`` says, if that is in memory.
    func known(_ id: OtaPackageId) -> Cached<EffectivePackage>

    /// What ``effectivePackage(for:type:)`` says, if that is in memory.
    func known(effectiveFor device: DeviceId, type: OtaPackageType) -> Cached<EffectivePackage>
}

extension OtaPackageService {
    /// Nothing is in memory.
    public func known(_ id: OtaPackageId) -> Cached<EffectivePackage> { .unknown }
    /// Nothing is in memory.
    public func known(effectiveFor device: DeviceId, type: OtaPackageType) -> Cached<EffectivePackage> { .unknown }
}
