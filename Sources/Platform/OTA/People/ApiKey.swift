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
