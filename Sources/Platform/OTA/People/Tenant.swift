public import NodeKit

/// Owns devices, profiles, packages and the users who look after them; nothing of one tenant is seen by another.
public struct Tenant: Sendable, Hashable {
    /// Unique identifier.
    public var id: TenantId
    /// When it was created.
    public var createdTime: Timestamp
    /// Name for people, 1…255 characters.
    @ExactText public var title: String
    /// Members of the REST API's form that Windlass does not act on (`email`, `country`, `additionalInfo`, …), kept as they are.
    public var details: JSON
    /// Whether the store has it; set by the store.
    ///
    /// Saving one that the store does not have creates it, and never replaces one with the same identifier.
    public var isSaved = false

    /// Describes a tenant that is not saved yet.
    public init(id: TenantId = .random(), createdTime: Timestamp = .now, title: String, details: JSON = [:]) {
        self.id = id
        self.createdTime = createdTime
        self.title = title
        self.details = details
    }
}

/// What a user may do, named as in ThingsBoard.
public enum Authority: String, Sendable, Hashable, CaseIterable {
    /// Looks after tenants and their administrators, and sees nothing of what the tenants own.
    case sysAdmin = "SYS_ADMIN"
    /// Does all work of one tenant.
    case tenantAdmin = "TENANT_ADMIN"
    /// Reads what one tenant owns, without its secrets, and changes nothing but itself.
    ///
    /// ThingsBoard has no other authority below that of an administrator, and clients know no other. There it reads what belongs
    /// to a customer of the tenant; there are no customers here, so it reads what belongs to the tenant.
    case customerUser = "CUSTOMER_USER"
}

/// A person who may log in to the management API.
public struct User: Sendable, Hashable {
    /// Unique identifier.
    public var id: UserId
    /// When it was created.
    public var createdTime: Timestamp
    /// Whose user this is; ``TenantId/system`` for system administrators, and for them alone.
    public var tenantId: TenantId
    /// The name to log in with, an e-mail address in ThingsBoard, 1…255 characters.
    ///
    /// Unique among all users of all tenants, compared without case.
    @ExactText public var name: String
    /// Salted hash of the password, with its parameters; never the password.
    ///
    /// Empty if the user has not chosen one yet, and so cannot log in.
    public var passwordHash: String
    /// What the user may do.
    public var authority: Authority
    /// Given name.
    public var firstName: String?
    /// Family name.
    public var lastName: String?
    /// Telephone number.
    public var phone: String?
    /// Anything an administrator wants to keep with the user.
    public var additionalInfo: JSON?
    /// Whether the user may log in.
    public var isEnabled: Bool
    /// Grows when all tokens of the user are to end.
    public var tokenVersion: Int64
    /// Whether the store has it; set by the store.
    ///
    /// Saving one that the store does not have creates it, and never replaces one with the same identifier.
    public var isSaved = false

    /// Describes a user that is not saved yet.
    public init(
        id: UserId = .random(),
        createdTime: Timestamp = .now,
        tenantId: TenantId = .main,
        name: String,
        passwordHash: String,
        authority: Authority = .tenantAdmin,
        firstName: String? = nil,
        lastName: String? = nil,
        phone: String? = nil,
        additionalInfo: JSON? = nil,
        isEnabled: Bool = true,
        tokenVersion: Int64 = 0
    ) {
        self.id = id
        self.createdTime = createdTime
        self.tenantId = tenantId
        self.name = name
        self.passwordHash = passwordHash
        self.authority = authority
        self.firstName = firstName
        self.lastName = lastName
        self.phone = phone
        self.additionalInfo = additionalInfo
        self.isEnabled = isEnabled
        self.tokenVersion = tokenVersion
    }

    /// Whether the user has a password.
    public var isActivated: Bool { !self.passwordHash.isEmpty }
}

/// What belongs to a tenant.
public protocol TenantOwned {
    /// Who owns it.
    var tenantId: TenantId { get }
}

extension Device: TenantOwned {}
extension DeviceProfile: TenantOwned {}
extension OtaPackage: TenantOwned {}
extension User: TenantOwned {}
