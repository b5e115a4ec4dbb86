public import NodeKit

/// A secret with which programs do what a user may, without the user's password.
///
/// Its value is told once, when it is made; only a digest of it is kept.
public struct ApiKey: Sendable, Hashable {
    /// Unique identifier.
    public var id: ApiKeyId
    /// When it was made.
    public var createdTime: Timestamp
    /// Whose it is.
    public var userId: UserId
    /// What it is for, in words for people, 1…255 characters.
    public var description: String
    /// Whether it opens anything.
    public var isEnabled: Bool
    /// Until when it opens anything; `nil` for ever.
    public var expirationTime: Timestamp?

    /// Describes a key that is not saved yet.
    public init(
        id: ApiKeyId = .random(),
        createdTime: Timestamp = .now,
        userId: UserId,
        description: String,
        isEnabled: Bool = true,
        expirationTime: Timestamp? = nil
    ) {
        self.id = id
        self.createdTime = createdTime
        self.userId = userId
        self.description = description
        self.isEnabled = isEnabled
        self.expirationTime = expirationTime
    }
}

/// A key with the user who has it.
public struct ApiKeyHolder: Sendable, Hashable {
    /// The key.
    public var key: ApiKey
    /// Whose it is.
    public var user: User

    /// Joins a key and its user.
    public init(key: ApiKey, user: User) {
        self.key = key
        self.user = user
    }
}

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

    /// The key whose value has this digest, if it is in memory: it was found before, and nothing changed since.
    func knownHolder(digest: [UInt8]) -> ApiKeyHolder?
    /// The key whose value has this digest, with its user; `nil` if there is none.
    func holder(digest: [UInt8]) async throws -> ApiKeyHolder?
}
