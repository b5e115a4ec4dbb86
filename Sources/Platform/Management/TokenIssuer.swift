import Crypto
import FoundationEssentials
import JWTKit
import NodeKit
import OTA
import Synchronization

/// Who sends a request.
struct Session: Sendable {
    /// What showed who it is.
    enum Proof: Sendable, Equatable {
        /// An access token; the text is the same for all tokens that stem from one login.
        case login(String)
        /// An API key.
        case key(ApiKey)
    }

    let user: User
    let proof: Proof

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

    /// The most logins that are remembered as ended; past it, the one whose tokens expire first is forgotten.
    static let logoutsMax = 4096
    /// How long an activation token is valid, in seconds; as in ThingsBoard.
    static let activationLifetime: Int64 = 86_400

    /// What a token is for, which its scopes tell.
    private enum Purpose: String {
        /// Its scopes are the user's authority.
        case access
        case refresh = "REFRESH_TOKEN"
        case activation = "ACTIVATION_TOKEN"

        init?(_ scopes: [String]) {
            guard let scope = scopes.first, scopes.count == 1 else { return nil }
            if Authority(rawValue: scope) != nil { self = .access } else { self.init(rawValue: scope) }
        }
    }

    private let keys: JWTKeyCollection
    private let lifetime: Int64
    private let refreshLifetime: Int64
    private let now: @Sendable () -> Timestamp
    /// The logins that have ended, and when all of their tokens have expired.
    private let loggedOut: Mutex<[String: Timestamp]>

    init(
        secret: [UInt8],
        ended: [String: Timestamp] = [:],
        options: ManagementServer.Options,
        now: @escaping @Sendable () -> Timestamp
    ) async {
        self.loggedOut = Mutex(ended)
        self.keys = JWTKeyCollection()
        await self.keys.add(hmac: HMACKey(from: secret), digestAlgorithm: .sha512)
        self.lifetime = options.tokenLifetime
        self.refreshLifetime = options.refreshTokenLifetime
        self.now = now
    }

    private var seconds: Int64 { self.now().rawValue / 1000 }

    /// An access token and a refresh token, as a login is answered.
    func pair(for user: User, session: String) async throws -> JSON {
        var claims = self.claims(of: user, session: session, scope: user.authority.rawValue, for: self.lifetime)
        let token = try await self.keys.sign(claims)
        claims.scopes = [Purpose.refresh.rawValue]
        claims.exp = claims.iat + self.refreshLifetime
        let refreshToken = try await self.keys.sign(claims)
        return ["token": .string(token), "refreshToken": .string(refreshToken)]
    }

    /// A token with which a user who has no password yet chooses one.
    ///
    /// It ends when he has one.
    func activationToken(for user: User) async throws -> String {
        let lifetime = Self.activationLifetime
        let claims = self.claims(of: user, session: "", scope: Purpose.activation.rawValue, for: lifetime)
        return try await self.keys.sign(claims)
    }

    private func claims(of user: User, session: String, scope: String, for lifetime: Int64) -> Claims {
        let now = self.seconds
        return Claims(
            sub: user.name,
            userId: user.id.description,
            scopes: [scope],
            sessionId: session,
            iss: "windlass",
            iat: now,
            exp: now + lifetime,
            enabled: user.isEnabled,
            isPublic: false,
            tenantId: user.tenantId.description,
            customerId: EntityShape.nullCustomerId,
            passwordTag: Self.tag(of: user)
        )
    }

    /// The session that an access token stands for.
    ///
    /// - Throws: ``APIError`` if it is not valid, or not any more.
    func session(accessToken: Substring, users: any UserService) async throws -> Session {
        let (user, session) = try await self.user(accessToken, .access, users)
        return Session(user: user, proof: .login(session))
    }

    /// The user and the session that a refresh token stands for.
    ///
    /// - Throws: ``APIError`` if it is not valid, or not any more.
    func session(refreshToken: String, users: any UserService) async throws -> (user: User, session: String) {
        try await self.user(refreshToken[...], .refresh, users)
    }

    /// The user who may choose his password.
    ///
    /// - Throws: ``APIError`` if the token is not valid, or not any more.
    func user(activationToken: String, users: any UserService) async throws -> User {
        try await self.user(activationToken[...], .activation, users).user
    }

    private func user(
        _ token: Substring,
        _ purpose: Purpose,
        _ users: any UserService
    ) async throws -> (user: User, session: String) {
        guard let claims = try? await self.keys.verify(Array(token.utf8), as: Claims.self),
            Purpose(claims.scopes) == purpose
        else { throw APIError.notAuthenticated }
        // One that was issued when the clock was ahead would be valid for as long as it was.
        let issued = Timestamp(milliseconds: claims.iat.multipliedReportingOverflow(by: 1000).partialValue)
        let now = self.now()
        guard claims.exp > now.rawValue / 1000, issued.believed(at: now) == issued else { throw APIError.tokenExpired }
        guard self.loggedOut.withLock({ $0[claims.sessionId] == nil }),
            let id = UserId(claims.userId),
            let user = try await users.findUserById(id)
        else { throw APIError.notAuthenticated }
        // Before the tag, which changes with this.
        guard user.isEnabled else { throw APIError.accountNotActive }
        guard Self.tag(of: user) == claims.passwordTag else { throw APIError.notAuthenticated }
        return (user, claims.sessionId)
    }

    /// Ends a login: none of its tokens is accepted any more.
    ///
    /// Ends it here also if that cannot be stored, which is thrown.
    func logOut(_ session: String, users: any UserService) async throws {
        let now = self.now()
        // No token of the login lives longer than one that would be issued now.
        let until = Timestamp(milliseconds: now.rawValue + self.refreshLifetime * 1000)
        self.loggedOut.withLock { sessions in
            // None is forgotten because of the clock, which may be ahead and be set back.
            if sessions.count >= Self.logoutsMax, let first = sessions.min(by: { $0.value < $1.value }) {
                sessions[first.key] = nil
            }
            sessions[session] = until
        }
        try await users.endLogin(session, until: until)
    }

    private static func tag(of user: User) -> String {
        SHA256.hash(data: Array("\(user.passwordHash) \(user.tokenVersion)".utf8)).prefix(8)
            .map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }.joined()
    }
}
