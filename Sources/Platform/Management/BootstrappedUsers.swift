public import NodeKit
public import OTA
import Waiting

/// The users of a service, found only once the administrator's password is the one that was given at the start.
///
/// To compare a given password with the stored one takes as long as a login, on purpose, so a host does that beside the rest
/// of its start. Until it is done every look-up waits, and with it every login and every request that carries a token: a
/// password that was to be replaced, and the tokens that were got with it, never open anything again. Nothing that is
/// quicker to compare is kept, because it would be quicker to guess from a stolen database, too.
public final class BootstrappedUsers: UserService {
    private let users: any UserService
    private let name: String
    private let password: String?
    private let system: GivenLogin
    private let cost: PasswordHash.Cost
    private let outcome = OneShot<Result<Void, any Error>>()

    /// Puts users behind the administrator's password; ``bootstrap()`` lets them be found.
    ///
    /// - Parameters:
    ///   - users: Where users are kept.
    ///   - name: The administrator's name; `nil` means ``administratorNameDefault``.
    ///   - password: The administrator's password; `nil` means one that is made up if there is no user.
    ///   - system: The system administrator's login; without a password there is none but who is stored.
    /// - Throws: ``NodeKit/NodeError`` with code `bad-request` if a name or a password is empty or too long, or the system
    ///   administrator has a name and no password.
    public convenience init(
        _ users: any UserService,
        name: String?,
        password: String?,
        system: GivenLogin = GivenLogin()
    ) throws(NodeError) {
        try self.init(users, name: name, password: password, system: system, cost: PasswordHash.Cost())
    }

    init(
        _ users: any UserService,
        name: String?,
        password: String?,
        system: GivenLogin = GivenLogin(),
        cost: PasswordHash.Cost
    ) throws(NodeError) {
        self.users = users
        self.name = try checkedAdministratorName(name, password: password)
        self.password = password
        try checkSystemAdministrator(system, besides: self.name)
        self.system = system
        self.cost = cost
    }

    /// Sees to the administrators as `bootstrapAdministrator` and `bootstrapSystemAdministrator` do, and then lets users be found.
    ///
    /// Call it once.
    ///
    /// - Returns: The password if it was made up: show it, it is not kept.
    /// - Throws: What the service throws; nobody is found then.
    public func bootstrap() async throws -> GeneratedPassword? {
        do {
            let made = try await bootstrapAdministrator(
                users: self.users,
                name: self.name,
                password: self.password,
                cost: self.cost
            )
            try await bootstrapSystemAdministrator(users: self.users, login: self.system, cost: self.cost)
            self.outcome.finish(.success(()))
            return made
        } catch {
            self.outcome.finish(.failure(error))
            throw error
        }
    }

    /// Returns when users may be found.
    ///
    /// Those who wait are as many as there are connections to the management API at most.
    private func ended() async throws { try await self.outcome.value().get() }

    /// The user with this name, compared without case.
    public func findUser(name: String) async throws -> User? {
        try await self.ended()
        return try await self.users.findUser(name: name)
    }

    /// The user with this identifier.
    public func findUserById(_ id: UserId) async throws -> User? {
        try await self.ended()
        return try await self.users.findUserById(id)
    }

    /// A page of the users of a tenant, those with one authority if given.
    public func findUsers(of tenant: TenantId, authority: Authority?, page: PageLink) async throws -> Page<User> {
        try await self.ended()
        return try await self.users.findUsers(of: tenant, authority: authority, page: page)
    }

    /// Creates a user that is not saved yet, or replaces one that is.
    public func saveUser(_ user: User) async throws -> User {
        try await self.ended()
        return try await self.users.saveUser(user)
    }

    /// Changes a user in one step.
    public func changeUser(
        _ id: UserId,
        _ change: @escaping @Sendable (inout User) throws -> Void
    ) async throws -> User {
        try await self.ended()
        return try await self.users.changeUser(id, change)
    }

    /// Removes a user.
    public func deleteUser(_ id: UserId) async throws {
        try await self.ended()
        try await self.users.deleteUser(id)
    }

    /// How many users there are.
    public func countUsers() async throws -> Int {
        try await self.ended()
        return try await self.users.countUsers()
    }

    /// Remembers that a login has ended.
    public func endLogin(_ id: String, until: Timestamp) async throws {
        try await self.ended()
        try await self.users.endLogin(id, until: until)
    }

    /// The logins that have ended.
    ///
    /// Does not wait.
    public func endedLogins() async throws -> [String: Timestamp] { try await self.users.endedLogins() }

    /// A secret with this name, made of random bytes on first use and kept.
    ///
    /// Does not wait.
    public func secret(named name: String, count: Int) async throws -> [UInt8] {
        try await self.users.secret(named: name, count: count)
    }
}
