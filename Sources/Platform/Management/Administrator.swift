import Dispatch
import NodeKit
import OTA

/// A login that was made up and is told to a person once.
public struct GeneratedPassword: Sendable, Hashable {
    /// The name to log in with.
    public let name: String
    /// The password; only its hash is stored.
    public let password: String
}

/// The name of the first administrator if none is given.
public let administratorNameDefault = "admin@windlass.local"
/// The name of the system administrator if none is given.
public let systemAdministratorNameDefault = "sysadmin@windlass.local"

/// A login that the operator gives a host when it starts.
public struct GivenLogin: Sendable, Hashable {
    /// The name to log in with; `nil` for the one that the host has for this.
    public var name: String?
    /// The password, if it is given.
    public var password: String?

    /// Describes a login.
    public init(name: String? = nil, password: String? = nil) {
        self.name = name
        self.password = password
    }
}

/// Sees to it that there is an administrator of the first tenant.
///
/// If there is no user, the first one is made, of what is given and made up. If a password is given and there are users,
/// the user with the given name gets that password, and is made if there is none with the name. Otherwise nothing changes.
///
/// - Parameters:
///   - users: Where users are kept.
///   - name: The name to log in with; `nil` means ``administratorNameDefault``.
///   - password: The password; `nil` means one that is made up if a user has to be made.
///   - cost: What hashing the password costs.
/// - Returns: The password if it was made up: show it, it is not kept.
/// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the name or the password is empty or too long, or the name is
///   that of a user who is no tenant administrator, and what the service throws.
func bootstrapAdministrator(
    users: any UserService,
    name: String?,
    password: String?,
    cost: PasswordHash.Cost
) async throws -> GeneratedPassword? {
    let name = try checkedAdministratorName(name, password: password)
    guard let password else {
        guard try await users.countUsers() == 0 else { return nil }
        let generated = generatedPassword()
        let hash = try await onThread { try PasswordHash(of: generated, cost: cost).description }
        _ = try await users.saveUser(User(name: name, passwordHash: hash))
        return GeneratedPassword(name: name, password: generated)
    }
    let made = User(name: name, passwordHash: "", authority: .tenantAdmin)
    try await give(password, to: made, users: users, cost: cost)
    return nil
}

/// Sees to it that there is the system administrator whom the operator gives a password; without one, nothing changes.
///
/// A host with one tenant needs none, so none is made up. Throws as
/// ``bootstrapAdministrator(users:name:password:cost:)`` does.
func bootstrapSystemAdministrator(
    users: any UserService,
    login: GivenLogin,
    cost: PasswordHash.Cost
) async throws {
    guard let password = login.password else { return }
    let name = login.name ?? systemAdministratorNameDefault
    let made = User(tenantId: .system, name: name, passwordHash: "", authority: .sysAdmin)
    try await give(password, to: made, users: users, cost: cost)
}

/// Gives the user with a name a password, and lets him log in with it; makes him if there is none with the name.
private func give(
    _ password: String,
    to made: User,
    users: any UserService,
    cost: PasswordHash.Cost
) async throws {
    var user = try await users.findUser(name: made.name) ?? made
    guard user.authority == made.authority, user.tenantId == made.tenantId else {
        throw NodeError(
            .badRequest,
            "the user '\(made.name)' is no \(made.authority.rawValue) of the tenant it should be; give another name"
        )
    }
    let stored = user.passwordHash
    let isSame = try await onThread { try PasswordHash(stored)?.matches(password) ?? false }
    if isSame, user.isEnabled { return }
    if !isSame {
        try Task.checkCancellation()
        user.passwordHash = try await onThread { try PasswordHash(of: password, cost: cost).description }
    }
    user.isEnabled = true
    _ = try await users.saveUser(user)
}

/// The name of the administrator, once it and the password are known to be neither empty nor too long.
func checkedAdministratorName(_ name: String?, password: String?) throws(NodeError) -> String {
    let name = name ?? administratorNameDefault
    guard (1...255).contains(name.count) else {
        throw NodeError(.badRequest, "the administrator's name must have 1 to 255 characters; it has \(name.count)")
    }
    if let password, !(1...PasswordHash.passwordBytesMax).contains(password.utf8.count) {
        throw NodeError(
            .badRequest,
            "the password of '\(name)' must have 1 to \(PasswordHash.passwordBytesMax) bytes; it has \(password.utf8.count)"
        )
    }
    return name
}

/// Checks the login of the system administrator as ``checkedAdministratorName(_:password:)`` does.
func checkSystemAdministrator(_ login: GivenLogin, besides administrator: String) throws(NodeError) {
    guard login.password != nil else {
        guard let name = login.name else { return }
        throw NodeError(
            .badRequest,
            "the system administrator '\(name)' has no password; give one, or leave out the name"
        )
    }
    let name = try checkedAdministratorName(login.name ?? systemAdministratorNameDefault, password: login.password)
    guard name.lowercased() != administrator.lowercased() else {
        throw NodeError(
            .badRequest,
            "'\(name)' cannot be both the system administrator and that of a tenant; give two names"
        )
    }
}

/// Runs work that computes for long where it blocks neither an event loop nor the threads that read files.
private func onThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global().async { continuation.resume(with: Result { try work() }) }
    }
}

/// Twenty characters out of those that are not mixed up when read: 115 bits.
private func generatedPassword() -> String {
    let alphabet = Array("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789")
    var generator = SystemRandomNumberGenerator()
    return String((0..<20).compactMap { _ in alphabet.randomElement(using: &generator) })
}
