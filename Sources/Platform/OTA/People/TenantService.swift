/// Tenants.
public protocol TenantService: Sendable {
    /// The tenant with this identifier, if it exists.
    func findTenantById(_ id: TenantId) async throws -> Tenant?
    /// A page of tenants.
    func findTenants(page: PageLink) async throws -> Page<Tenant>
    /// Creates a tenant that is not saved yet, with a default profile, or replaces one that is; see ``Tenant/isSaved``.
    ///
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveTenant(_ tenant: Tenant) async throws -> Tenant
    /// Removes a tenant with all that it owns: its users first, so that nobody of it does anything any more.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` for the first tenant, which stays, and with
    ///   ``NodeError/Code/notFound`` if it does not exist.
    func deleteTenant(_ id: TenantId) async throws
}
