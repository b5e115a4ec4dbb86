import NodeKit
import OTA

/// The shapes of users, tenants and keys.
extension Schema {
    private static let authorities = Self.choice(of: Authority.allCases.map(\.rawValue))

    static let user = Schema(
        "User",
        Self.object([
            "id": Self.id("USER"), "createdTime": Self.time, "tenantId": Self.id("TENANT"),
            "customerId": Self.id("CUSTOMER"), "email": Self.string, "name": Self.string, "authority": Self.authorities,
            "firstName": Self.optionalString, "lastName": Self.optionalString, "phone": Self.optionalString,
            "additionalInfo": Self.anything, "version": ["type": "null"],
        ])
    )

    /// A path that answers the one or the other.
    static let usersOrPage = Schema(
        "UsersOrPage",
        ["anyOf": [Self.user.list.reference, Self.user.page.reference]],
        parts: [Self.user.list, Self.user.page]
    )

    static let savedUser = Schema(
        "SavedUser",
        Self.object(
            ["email": Self.text(1...255)],
            optional: [
                "id": Self.optional(Self.reference("USER")), "tenantId": Self.optional(Self.reference("TENANT")),
                "authority": Self.optional(Self.authorities), "firstName": Self.optionalString,
                "lastName": Self.optionalString, "phone": Self.optionalString, "additionalInfo": Self.optionalObject,
            ]
        )
    )

    static let activationLink = Schema(
        "ActivationLink",
        Self.object(["value": Self.string, "ttlMs": Self.integer(in: 0...Int64.max)])
    )

    static let activation = Schema("Activation", Self.object(["activateToken": Self.string, "password": Self.string]))

    static let changedPassword = Schema(
        "ChangedPassword",
        Self.object(["currentPassword": Self.string, "newPassword": Self.string])
    )

    private static let tenantMembers: JSON = [
        "id": Self.id("TENANT"), "createdTime": Self.time, "title": Self.string, "name": Self.string,
        "region": Self.anything, "country": Self.anything, "email": Self.anything, "phone": Self.anything,
        "additionalInfo": Self.anything,
    ]

    static let tenant = Schema("Tenant", Self.object(Self.tenantMembers))

    static let tenantInfo = Schema(
        "TenantInfo",
        Self.object(Self.tenantMembers.adding("tenantProfileName", Self.string))
    )

    /// Members that are not named here are kept and answered as they are.
    static let savedTenant = Schema(
        "SavedTenant",
        Self.object(
            ["title": Self.text(1...255)],
            optional: [
                "id": Self.optional(Self.reference("TENANT")), "email": Self.optionalString,
                "maxOtaPackagesInBytes": Self.optional(Self.integer(in: 0...Int64.max)),
            ]
        )
    )

    private static let apiKeyMembers: JSON = [
        "id": Self.id("API_KEY"), "createdTime": Self.time, "tenantId": Self.id("TENANT"), "userId": Self.id("USER"),
        "expirationTime": ["type": "integer", "description": "In milliseconds; 0 if it does not expire"],
        "description": Self.string, "enabled": Self.boolean, "expired": Self.boolean,
    ]

    /// `value` is the key itself, which is told when it is made and never again.
    static let apiKey = Schema("ApiKey", Self.object(Self.apiKeyMembers, optional: ["value": Self.string]))

    static let savedApiKey = Schema(
        "SavedApiKey",
        Self.object(
            [:],
            optional: [
                "id": Self.optional(Self.reference("API_KEY")), "userId": Self.optional(Self.reference("USER")),
                "description": Self.optionalString, "enabled": Self.optional(Self.boolean),
                "expirationTime": Self.optionalInteger,
            ]
        )
    )

    static let text = Schema("Text", Self.string)

    static let auditEntry = Schema(
        "AuditLog",
        Self.object([
            "id": Self.object(["id": Self.uuid]), "createdTime": Self.time, "tenantId": Self.id("TENANT"),
            "customerId": Self.id("CUSTOMER"),
            "entityId": Self.optional(Self.object(["entityType": Self.string, "id": Self.uuid])),
            "entityName": Self.optionalString, "userId": Self.optional(Self.id("USER")),
            "userName": Self.optionalString,
            "actionType": Self.choice(of: AuditAction.allCases.map(\.rawValue)), "actionData": Self.anything,
            "actionStatus": Self.choice(of: AuditEntry.Status.allCases.map(\.rawValue)),
            "actionFailureDetails": Self.string,
        ])
    )
}

/// The shapes of logins and of the host's health.
extension Schema {
    static let login = Schema("Login", Self.object(["username": Self.string, "password": Self.string]))
    static let refresh = Schema("Refresh", Self.object(["refreshToken": Self.string]))
    static let tokens = Schema("Tokens", Self.object(["token": Self.string, "refreshToken": Self.string]))
    static let life = Schema("Life", Self.object(["live": ["const": true]]))
    static let health = Schema(
        "Health",
        Self.object([
            "live": Self.boolean, "ready": Self.boolean,
            "parts": ["type": "object", "additionalProperties": Self.boolean],
        ])
    )
    static let document = Schema("OpenAPI", Self.anyObject)
}
