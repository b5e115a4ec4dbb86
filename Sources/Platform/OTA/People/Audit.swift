public import FoundationEssentials
public import NodeKit

/// What was done, named as in ThingsBoard's audit log.
public enum AuditAction: String, Sendable, Hashable, CaseIterable {
    /// An entity was created.
    case added = "ADDED"
    /// An entity was removed.
    case deleted = "DELETED"
    /// An entity was changed.
    case updated = "UPDATED"
    /// Attributes were written.
    case attributesUpdated = "ATTRIBUTES_UPDATED"
    /// Attributes were removed.
    case attributesDeleted = "ATTRIBUTES_DELETED"
    /// Points of time series were written.
    case timeseriesUpdated = "TIMESERIES_UPDATED"
    /// Points of time series were removed.
    case timeseriesDeleted = "TIMESERIES_DELETED"
    /// A method of a device was called.
    case rpcCall = "RPC_CALL"
    /// What somebody or something logs in with was changed.
    case credentialsUpdated = "CREDENTIALS_UPDATED"
    /// What a device logs in with was read.
    case credentialsRead = "CREDENTIALS_READ"
    /// A user may log in from now on.
    case activated = "ACTIVATED"
    /// A user may not log in any more.
    case suspended = "SUSPENDED"
    /// Somebody logged in, or tried.
    case login = "LOGIN"
    /// Somebody logged out.
    case logout = "LOGOUT"
    /// So many logins failed that the next ones have to wait.
    case lockout = "LOCKOUT"
}

/// What an entry of the audit log is about.
public struct AuditEntity: Sendable, Hashable {
    /// Its kind, such as `DEVICE`, named as in ThingsBoard.
    public var type: String
    /// Its identifier.
    public var id: UUID
    /// Its name at that time.
    public var name: String

    /// Names an entity.
    public init(type: String, id: UUID, name: String) {
        self.type = type
        self.id = id
        self.name = name
    }
}

/// One line of the audit log: who did what to what, when, from where, and what came of it.
///
/// Holds no secret: neither passwords nor tokens, nor values of attributes.
public struct AuditEntry: Sendable, Hashable {
    /// Unique identifier.
    public var id: EntityID<AuditEntry>
    /// When.
    public var createdTime: Timestamp
    /// The tenant of who did it, which reads it.
    public var tenantId: TenantId
    /// Who did it.
    public var userId: UserId?
    /// The user's name at that time.
    public var userName: String?
    /// To what, if it is known.
    public var entity: AuditEntity?
    /// What.
    public var action: AuditAction
    /// Where from, by login or key, on which path, and what is worth knowing of the change.
    public var data: JSON
    /// Why it failed; `nil` if it succeeded.
    public var failure: String?

    /// Makes an entry.
    public init(
        id: EntityID<AuditEntry> = .random(),
        createdTime: Timestamp,
        tenantId: TenantId,
        userId: UserId?,
        userName: String?,
        entity: AuditEntity?,
        action: AuditAction,
        data: JSON,
        failure: String? = nil
    ) {
        self.id = id
        self.createdTime = createdTime
        self.tenantId = tenantId
        self.userId = userId
        self.userName = userName
        self.entity = entity
        self.action = action
        self.data = data
        self.failure = failure
    }
}

extension AuditEntry {
    /// What came of it, named as in ThingsBoard.
    public enum Status: String, Sendable, Hashable, CaseIterable {
        /// It was done.
        case success = "SUCCESS"
        /// It was not.
        case failure = "FAILURE"
    }

    /// What came of it: a failure has a reason.
    public var status: Status { self.failure == nil ? .success : .failure }
}

/// Which entries of a tenant's audit log; those that fulfil all that is set.
public struct AuditQuery: Sendable, Hashable {
    /// By this user.
    public var userId: UserId?
    /// About an entity of this kind.
    public var entityType: String?
    /// About the entity with this identifier.
    public var entityId: UUID?
    /// Of these actions.
    public var actions: [AuditAction]?
    /// Not before this time.
    public var start: Timestamp?
    /// Not after this time.
    public var end: Timestamp?

    /// Asks for all entries.
    public init() {}
}
