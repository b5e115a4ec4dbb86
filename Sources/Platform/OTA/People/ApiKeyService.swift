public import NodeKit

/// Keys of users.
public protocol ApiKeyService: Sendable {
    /// The key with this identifier, if it exists.
    func findApiKeyById(_ id: ApiKeyId) async throws -> ApiKey?
    /// A page of a user's keys.
    func findApiKeys(of user: UserId, page: PageLink) async throws -> Page<ApiKey>
    /// Makes a key whose value has this digest, 32 bytes.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if a rule is broken, or the user has too many keys.
    func createApiKey(_ key: ApiKey, digest: [UInt8]) async throws -> ApiKey
    /// Changes a key in one step; one that does not exist is ``NodeError/Code/notFound``. What it opens changes at once.
    func changeApiKey(_ id: ApiKeyId, _ change: @escaping @Sendable (inout ApiKey) throws -> Void) async throws
        -> ApiKey
    /// Removes a key, which opens nothing from then on; one that does not exist is ``NodeError/Code/notFound``.
    func deleteApiKey(_ id: ApiKeyId) async throws

    /// What ``holder(digest:)`` says, if that is in memory: it was found before, and nothing changed since.
    func knownHolder(digest: [UInt8]) -> Cached<ApiKeyHolder>
    /// The key whose value has this digest, with its user; `nil` if there is none.
    func holder(digest: [UInt8]) async throws -> ApiKeyHolder?
}
