public import NodeKit

/// The rules of users, with the sentences that ThingsBoard's REST API answers when one is broken; see ``EntityRules``.
public enum UserRules {
    /// The most logins that are remembered as ended; past it, the one whose tokens expire first is forgotten.
    public static let endedLoginsMax = 4096

    /// The form of a name that is unique among users, and by which they are found: without case.
    public static func folded(_ name: String) -> String { name.lowercased() }

    /// Checks what a user says about itself: names, and that its authority fits its tenant.
    public static func check(_ user: User) throws(NodeError) {
        try EntityRules.checkGiven(user.name, "User email")
        try EntityRules.checkLength(user.name, of: "email")
        try EntityRules.checkLength(user.firstName, of: "first name")
        try EntityRules.checkLength(user.lastName, of: "last name")
        try EntityRules.checkLength(user.phone, of: "phone")
        switch (user.authority, user.tenantId == .system) {
        case (.sysAdmin, false):
            throw EntityRules.broken("System administrator can't be assigned neither to tenant nor to customer!")
        case (.tenantAdmin, true): throw EntityRules.broken("Tenant administrator should be assigned to tenant!")
        case (.customerUser, true): throw EntityRules.broken("Customer user should be assigned to tenant!")
        case (.sysAdmin, true), (.tenantAdmin, false), (.customerUser, false): break
        }
    }

    /// Checks a user beside others.
    ///
    /// - Parameters:
    ///   - user: The user, who was checked alone.
    ///   - tenant: The tenant that this names; `nil` if that does not exist.
    ///   - isNameTaken: Whether another user has the ``folded(_:)`` name.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func check(_ user: User, tenant: Tenant?, isNameTaken: Bool) throws(NodeError) {
        let exists = user.tenantId == .system || tenant != nil
        try EntityRules.checkReference(from: User.noun, to: "tenant", exists: exists)
        guard !isNameTaken else {
            throw EntityRules.broken("User with email '\(user.name)' already present in database!")
        }
    }

    /// Checks that a user may be removed.
    ///
    /// - Parameters:
    ///   - user: The user.
    ///   - administrators: How many administrators the tenant has.
    /// - Throws: ``NodeError`` if the tenant would have none.
    public static func checkRemoval(of user: User, administrators: Int64) throws(NodeError) {
        guard user.authority != .tenantAdmin || administrators > 1 else {
            throw EntityRules.broken("At least one tenant administrator must remain!")
        }
    }
}
