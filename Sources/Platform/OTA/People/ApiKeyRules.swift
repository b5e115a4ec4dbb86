public import NodeKit

/// The rules of API keys, with the sentences that ThingsBoard's REST API answers when one is broken; see ``EntityRules``.
public enum ApiKeyRules {
    /// The most keys of one user.
    public static let countMax = 100

    /// Checks what a key says about itself.
    public static func check(_ key: ApiKey) throws(NodeError) {
        try EntityRules.checkGiven(key.description, "API key description")
        try EntityRules.checkLength(key.description, of: "description")
    }

    /// Checks that a user may have another key.
    ///
    /// - Parameters:
    ///   - user: The user; `nil` if there is none with the identifier.
    ///   - count: How many keys the user has.
    /// - Throws: ``NodeError`` if there is no user, or there are too many keys.
    public static func checkNew(of user: User?, count: Int64) throws(NodeError) {
        guard user != nil else { throw EntityRules.broken("API key reference a non-existent user!") }
        guard count < Self.countMax else {
            throw EntityRules.broken(
                "The user has \(count) API keys, and no more are allowed; delete one that is not used any more"
            )
        }
    }
}
