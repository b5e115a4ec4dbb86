public import NodeKit

/// The rules of tenants, with the sentences that ThingsBoard's REST API answers when one is broken; see ``EntityRules``.
public enum TenantRules {
    /// Checks what a tenant says about itself.
    public static func check(_ tenant: Tenant) throws(NodeError) {
        try EntityRules.checkGiven(tenant.title, "Tenant title")
        try EntityRules.checkLength(tenant.title, of: "title")
    }

    /// Checks that a tenant may be removed: the first one stays.
    public static func checkRemoval(of id: TenantId) throws(NodeError) {
        guard id != .main else {
            throw EntityRules.broken("The first tenant cannot be deleted; delete what it owns instead")
        }
    }
}
