import Crypto
import FoundationEssentials
import JWTKit
import NodeKit
import OTA
import Synchronization

/// Who sends a request, as its token says.
struct Session: Sendable {
    let user: User
    /// The same for all tokens that stem from one login.
    let id: String

    var authority: Authority { self.user.authority }
    var tenantId: TenantId { self.user.tenantId }
}

/// Signs and checks tokens: JSON Web Tokens (RFC 7519) with HMAC and SHA-512.
final class TokenIssuer: Sendable {
    /// What a token says, in ThingsBoard's words.
    struct Claims: JWTPayload {
        var sub: String
        var userId: String
        var scopes: [String]
        var sessionId: String
        var iss: String
        var iat: Int64
        var exp: Int64
        var enabled: Bool
        var isPublic: Bool
        var tenantId: String
        var customerId: String
        /// A digest of what ends all tokens of a user when it changes, such as the password's hash.
        var passwordTag: String

        /// Checks nothing: expiry is checked with the clock of the issuer.
        func verify(using algorithm: some JWTAlgorithm) async throws {}
    }

    /// The most sessions that are remembered as logged out; past it, the one that expires first is forgotten.
    static let logoutsMax = 4096
    private static let refreshScope = "REFRESH_TOKEN"

    private let keys: JWTKeyCollection
    private let lifetime: Int64
    private let refreshLifetime: Int64
    private let now: @Sendable () -> Timestamp
    private let loggedOut = Mutex<[String: Int64]>([:])

    init(secret: [UInt8], options: ManagementServer.Options, now: @escaping @Sendable () -> Timestamp) async {
        self.keys = JWTKeyCollection()
        await self.keys.add(hmac: HMACKey(from: secret), digestAlgorithm: .sha512)
        self.lifetime = options.tokenLifetime
        self.refreshLifetime = options.refreshTokenLifetime
        self.now = now
    }

    private var seconds: Int64 { self.now().rawValue / 1000 }

    /// An access token and a refresh token, as a login is answered.
    func pair(for user: User, session: String) async throws -> JSON {
        let now = self.seconds
        var claims = Claims(
            sub: user.name,
            userId: user.id.description,
            scopes: [user.authority.rawValue],
            sessionId: session,
            iss: "windlass",
            iat: now,
            exp: now + self.lifetime,
            enabled: true,
            isPublic: false,
            tenantId: user.tenantId.description,
            customerId: EntityShape.nullCustomerId,
            passwordTag: Self.tag(of: user)
        )
        let token = try await self.keys.sign(claims)
        claims.scopes = [Self.refreshScope]
        claims.exp = now + self.refreshLifetime
        let refreshToken = try await self.keys.sign(claims)
        return ["token": .string(token), "refreshToken": .string(refreshToken)]
    }

    /// The session that an access token stands for.
    ///
    /// - Throws: ``APIError`` if it is not valid, or not any more.
    func session(accessToken: Substring, users: any UserService) async throws -> Session {
        try await self.session(accessToken, users: users, isRefresh: false)
    }

    /// The session that a refresh token stands for.
    ///
    /// - Throws: ``APIError`` if it is not valid, or not any more.
    func session(refreshToken: String, users: any UserService) async throws -> Session {
        try await self.session(refreshToken[...], users: users, isRefresh: true)
    }

    private func session(_ token: Substring, users: any UserService, isRefresh: Bool) async throws -> Session {
        guard let claims = try? await self.keys.verify(Array(token.utf8), as: Claims.self),
            (claims.scopes == [Self.refreshScope]) == isRefresh
        else { throw APIError.notAuthenticated }
        guard claims.exp > self.seconds else { throw APIError.tokenExpired }
        guard self.loggedOut.withLock({ $0[claims.sessionId] == nil }),
            let id = UserId(claims.userId),
            let user = try await users.findUserById(id),
            Self.tag(of: user) == claims.passwordTag
        else { throw APIError.notAuthenticated }
        guard user.isEnabled else { throw APIError.accountNotActive }
        return Session(user: user, id: claims.sessionId)
    }

    /// Ends a session: none of its tokens is accepted any more, until the host starts anew.
    func logOut(_ session: Session) {
        let now = self.seconds
        self.loggedOut.withLock { sessions in
            if sessions.count >= Self.logoutsMax {
                sessions = sessions.filter { $0.value > now }
                if sessions.count >= Self.logoutsMax, let first = sessions.min(by: { $0.value < $1.value }) {
                    sessions[first.key] = nil
                }
            }
            // No token of the session lives longer than one that would be issued now.
            sessions[session.id] = now + self.refreshLifetime
        }
    }

    private static func tag(of user: User) -> String {
        SHA256.hash(data: Array("\(user.passwordHash) \(user.tokenVersion)".utf8)).prefix(8)
            .map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }.joined()
    }
}
