import NodeKit
import OTA
import Testing

@Suite struct PeopleRulesTests {
    static let long = String(repeating: "x", count: 256)

    @Test(
        "a tenant needs a title that is not blank or too long",
        arguments: [
            ("\t", "Tenant title should be specified!"), (long, "title length must be equal or less than 255"),
            ("t", nil),
        ] as [(String, String?)]
    )
    func tenants(title: String, sentence: String?) {
        #expect(refusal { try TenantRules.check(Tenant(title: title)) } == sentence)
    }

    @Test("every tenant but the first may be removed")
    func tenantRemoval() {
        #expect(refusal { try TenantRules.checkRemoval(of: .random()) } == nil)
        #expect(
            refusal { try TenantRules.checkRemoval(of: .main) }
                == "The first tenant cannot be deleted; delete what it owns instead"
        )
    }

    static func user(_ change: (inout User) -> Void = { _ in }) -> User {
        var user = User(name: "me", passwordHash: "h")
        change(&user)
        return user
    }

    @Test(
        "a user needs a name, and the authority fits the tenant",
        arguments: [
            (user(), nil),
            (user { $0.name = " " }, "User email should be specified!"),
            (user { $0.name = long }, "email length must be equal or less than 255"),
            (user { $0.firstName = long }, "first name length must be equal or less than 255"),
            (user { $0.lastName = long }, "last name length must be equal or less than 255"),
            (user { $0.phone = long }, "phone length must be equal or less than 255"),
            (
                user { $0.authority = .sysAdmin },
                "System administrator can't be assigned neither to tenant nor to customer!"
            ),
            (user { ($0.authority, $0.tenantId) = (.sysAdmin, .system) }, nil),
            (user { $0.tenantId = .system }, "Tenant administrator should be assigned to tenant!"),
            (user { $0.authority = .customerUser }, nil),
            (
                user { ($0.authority, $0.tenantId) = (.customerUser, .system) },
                "Customer user should be assigned to tenant!"
            ),
        ] as [(User, String?)]
    )
    func users(user: User, sentence: String?) {
        #expect(refusal { try UserRules.check(user) } == sentence)
    }

    @Test("the tenant of a user exists, and the name is unique without case")
    func otherUsers() {
        let user = Self.user()
        let tenant = Tenant(id: user.tenantId, title: "t")
        #expect(refusal { try UserRules.check(user, tenant: tenant, isNameTaken: false) } == nil)
        #expect(
            refusal { try UserRules.check(user, tenant: nil, isNameTaken: true) }
                == "User is referencing to non-existent tenant!"
        )
        #expect(
            refusal { try UserRules.check(user, tenant: tenant, isNameTaken: true) }
                == "User with email 'me' already present in database!"
        )
        let system = Self.user { ($0.authority, $0.tenantId) = (.sysAdmin, .system) }
        #expect(refusal { try UserRules.check(system, tenant: nil, isNameTaken: false) } == nil)
        #expect(UserRules.folded("Me@X.Org") == UserRules.folded("mE@x.ORG"))
    }

    @Test("the last administrator of a tenant stays")
    func userRemoval() {
        let sentence = "At least one tenant administrator must remain!"
        #expect(refusal { try UserRules.checkRemoval(of: Self.user(), administrators: 2) } == nil)
        #expect(refusal { try UserRules.checkRemoval(of: Self.user(), administrators: 1) } == sentence)
        let customer = Self.user { $0.authority = .customerUser }
        #expect(refusal { try UserRules.checkRemoval(of: customer, administrators: 1) } == nil)
    }

    @Test("an API key needs a description and a user, who has so many and no more")
    func keys() {
        func sentence(_ description: String) -> String? {
            refusal { try ApiKeyRules.check(ApiKey(userId: .random(), description: description)) }
        }
        #expect(sentence("k") == nil)
        #expect(sentence("") == "API key description should be specified!")
        #expect(sentence(Self.long) == "description length must be equal or less than 255")
        #expect(refusal { try ApiKeyRules.checkNew(of: Self.user(), count: 99) } == nil)
        #expect(
            refusal { try ApiKeyRules.checkNew(of: Self.user(), count: 100) }
                == "The user has 100 API keys, and no more are allowed; delete one that is not used any more"
        )
        #expect(
            refusal { try ApiKeyRules.checkNew(of: nil, count: 0) } == "API key reference a non-existent user!"
        )
    }
}
