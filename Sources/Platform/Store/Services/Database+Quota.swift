import GRDB
import OTA

extension Database {
    /// Checks that a tenant may store so many bytes more: its member `maxOtaPackagesInBytes` says how many its packages may have
    /// together, where ThingsBoard has it in the tenant's profile; 0 or nothing is no limit.
    ///
    /// - Throws: ``NodeError`` with ThingsBoard's sentence if they are too many.
    func checkQuota(of tenant: TenantId, adding size: Int64) throws {
        let max = try self.integer(
            "SELECT CAST(details ->> '$.maxOtaPackagesInBytes' AS INTEGER) FROM tenant WHERE id = ?",
            [tenant.uuid]
        )
        guard let max, max > 0 else { return }
        let used = try self.integer(
            "SELECT sum(data_size) FROM ota_package WHERE tenant_id = ? AND sha256 IS NOT NULL",
            [tenant.uuid]
        )
        // Neither is negative, so the difference does not overflow.
        guard size <= max - min(used ?? 0, max) else { throw OtaPackageRules.tooManyBytes(max: max) }
    }
}
