import NodeKit
import OTA

/// An audit log that can be neither written nor read.
struct FailingAudit: AuditService {
    let error: NodeError

    func record(_ entry: AuditEntry) async throws { throw self.error }
    func recordLater(_ entry: AuditEntry) {}

    func findAuditEntries(
        of tenant: TenantId,
        _ query: AuditQuery,
        page: PageLink
    ) async throws -> Page<AuditEntry> { throw self.error }
}
