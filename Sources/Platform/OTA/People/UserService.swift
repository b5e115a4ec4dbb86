public import NodeKit

/// People who may log in.
public protocol UserService: Sendable {
    /// The user with this name, of whatever tenant, compared without case.
    func findUser(name: String) async throws -> User?
    /// The user with this identifier.
    func findUserById(_ id: UserId) async throws -> User?
    /// A page of the users of a tenant, those with one authority if given.
    func findUsers(of tenant: TenantId, authority: Authority?, page: PageLink) async throws -> Page<User>
    /// Creates a user that is not saved yet, or replaces one that is; see ``User/isSaved``.
    ///
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveUser(_ user: User) async throws -> User
    /// Changes a user in one step, so that two changes at the same time do not undo each other.
    ///
    /// - Parameters:
    ///   - id: The user; one that does not exist is ``NodeError/Code/notFound``.
    ///   - change: Changes what is stored at that moment; what it throws is thrown, and nothing changes.
    /// - Returns: The user as it is now.
    /// - Throws: As ``saveUser(_:)`` does.
    func changeUser(_ id: UserId, _ change: @escaping @Sendable (inout User) throws -> Void) async throws -> User
    /// Removes a user; one that does not exist is ``NodeError/Code/notFound``, and the last administrator of a tenant is
    /// ``NodeError/Code/badRequest``.
    func deleteUser(_ id: UserId) async throws
    /// How many users there are.
    func countUsers() async throws -> Int
    /// Remembers that a login has ended, until all of its tokens have expired.
    func endLogin(_ id: String, until: Timestamp) async throws
    /// The logins that have ended and whose tokens have not expired, with the time when they have.
    func endedLogins() async throws -> [String: Timestamp]
    /// A secret with this name, made of `count` random bytes on first use and kept; for signing.
    func secret(named name: String, count: Int) async throws -> [UInt8]
}
