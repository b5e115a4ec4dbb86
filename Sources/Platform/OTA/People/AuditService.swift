/// The log of who changed what.
public protocol AuditService: Sendable {
    /// Appends an entry; returns when it is stored.
    func record(_ entry: AuditEntry) async throws
    /// Appends an entry soon; nobody waits for it, and its time tells nobody that it is written.
    func recordLater(_ entry: AuditEntry)
    /// A page of a tenant's entries, newest first unless the link says otherwise.
    ///
    /// Text is searched in kind and name of the entity, the user's name, the action and the status.
    func findAuditEntries(
        of tenant: TenantId,
        _ query: AuditQuery,
        page: PageLink
    ) async throws -> Page<AuditEntry>
}
