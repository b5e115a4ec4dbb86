import HTTPTypes
import Hummingbird
import NIOPosix
import NodeKit
import OTA
import Synchronization

/// Checks names and passwords.
final class LoginService: Sendable {
    /// The fewest characters of a password that somebody chooses, as in ThingsBoard.
    static let passwordLengthMin = 6

    private let users: any UserService
    private let passwordThread: NIOThreadPool
    private let cost: PasswordHash.Cost
    private let now: @Sendable () -> Timestamp
    private let limiter: Mutex<LoginLimiter>

    init(
        users: any UserService,
        passwordThread: NIOThreadPool,
        options: ManagementServer.Options,
        now: @escaping @Sendable () -> Timestamp
    ) {
        self.users = users
        self.passwordThread = passwordThread
        self.cost = options.passwordCost
        self.now = now
        self.limiter = Mutex(LoginLimiter(options.logins))
    }

    /// The user with this name and password.
    ///
    /// - Parameters:
    ///   - name: The name, in capitals or not.
    ///   - password: The password.
    ///   - address: Where the request comes from.
    ///   - trail: Is told whose name it is, if it is somebody's.
    /// - Returns: The user, who may log in.
    /// - Throws: ``APIError`` if there is none, or too many were tried.
    func user(name: String, password: String, from address: String, trail: AuditTrail) async throws -> User {
        guard name.unicodeScalars.count <= 255, password.utf8.count <= PasswordHash.passwordBytesMax else {
            throw APIError.invalidLogin
        }
        let key = "\(address) \(name.lowercased())"
        switch self.limiter.withLock({ $0.begin(key, at: self.now()) }) {
        case .go: break
        case .wait(let milliseconds):
            let seconds = (milliseconds + 999) / 1000
            throw APIError(
                .tooManyRequests,
                33,
                "Too many failed logins; try again in \(seconds) seconds",
                headers: [.retryAfter: "\(seconds)"]
            )
        case .busy:
            throw APIError(.tooManyRequests, 33, "Too many logins at once; try again", headers: [.retryAfter: "1"])
        }
        let result: Result<User?, any Error>
        do {
            result = .success(try await self.check(name: name, password: password, trail))
        } catch {
            result = .failure(error)
        }
        let user = try? result.get()
        let mustWait = self.limiter.withLock { $0.end(key, succeeded: user != nil, at: self.now()) }
        if mustWait { trail.did(.lockout) }
        guard let user = try result.get() else { throw APIError.invalidLogin }
        // Told only to who knows the password.
        guard user.isEnabled else { throw APIError.accountNotActive }
        return user
    }

    /// The hash of a password that somebody chose.
    ///
    /// - Throws: ``APIError`` if it is too short or too long.
    func hash(_ password: String) async throws -> String {
        guard password.count >= Self.passwordLengthMin else {
            throw APIError.badRequest("Password must be \(Self.passwordLengthMin) or more characters in length.")
        }
        guard password.utf8.count <= PasswordHash.passwordBytesMax else {
            throw APIError.badRequest("Password must be no more than \(PasswordHash.passwordBytesMax) bytes in length.")
        }
        let cost = self.cost
        return try await self.passwordThread.runIfActive { try PasswordHash(of: password, cost: cost).description }
    }

    private func check(name: String, password: String, _ trail: AuditTrail) async throws -> User? {
        let user = try await self.users.findUser(name: name)
        if let user { trail.isBy(user) }
        let cost = self.cost
        return try await self.passwordThread.runIfActive {
            guard let user, let hash = PasswordHash(user.passwordHash) else {
                // As much work as for a name that exists, so that the time tells nothing.
                _ = try PasswordHash(of: password, cost: cost)
                return nil
            }
            return try hash.matches(password) ? user : nil
        }
    }
}
