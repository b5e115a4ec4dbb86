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

/// Sees to it that there is an administrator.
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
/// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the name or the password is empty or too long, and what
///   the service throws.
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
    if var user = try await users.findUser(name: name) {
        let stored = user.passwordHash
        let isSame = try await onThread { try PasswordHash(stored)?.matches(password) ?? false }
        if isSame { return nil }
        try Task.checkCancellation()
        user.passwordHash = try await onThread { try PasswordHash(of: password, cost: cost).description }
        _ = try await users.saveUser(user)
    } else {
        let hash = try await onThread { try PasswordHash(of: password, cost: cost).description }
        _ = try await users.saveUser(User(name: name, passwordHash: hash))
    }
    return nil
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
