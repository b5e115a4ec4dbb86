import Crypto
import HTTPTypes
import NodeKit
import OTA
import Synchronization

/// Tells who sends a request, by an access token or an API key.
final class Authenticator: Sendable {
    private let tokens: TokenIssuer
    private let users: any UserService
    private let keys: any ApiKeyService
    private let now: @Sendable () -> Timestamp
    private let limiter: Mutex<LoginLimiter>

    init(
        tokens: TokenIssuer,
        services: ManagementServices,
        options: ManagementServer.Options,
        now: @escaping @Sendable () -> Timestamp
    ) {
        self.tokens = tokens
        self.users = services.users
        self.keys = services.keys
        self.now = now
        self.limiter = Mutex(LoginLimiter(options.keys))
    }

    /// Who sent a request with these header fields.
    ///
    /// A token or a key is in `X-Authorization`, as ThingsBoard's clients send it, or in `Authorization`.
    ///
    /// - Throws: ``APIError`` with 401 if they show nobody, and with 429 after many wrong keys from the address.
    func session(of headers: HTTPFields, from address: String) async throws -> Session {
        for name in [HTTPField.Name.xAuthorization, .authorization] {
            guard let value = headers[name] else { continue }
            let parts = value.split(separator: " ", maxSplits: 1)
            guard parts.count == 2 else { continue }
            switch parts[0].lowercased() {
            case "bearer": return try await self.tokens.session(accessToken: parts[1], users: self.users)
            case "apikey": return try await self.session(key: parts[1], from: address)
            default: continue
            }
        }
        throw APIError.notAuthenticated
    }

    private func session(key value: Substring, from address: String) async throws -> Session {
        let digest = ApiKeyValue.digest(value)
        let holder: ApiKeyHolder
        if case .hit(let known) = self.keys.knownHolder(digest: digest) {
            // Never slowed down by others that come from the same address.
            holder = known
        } else {
            holder = try await self.look(for: digest, from: address)
        }
        guard holder.key.isEnabled else { throw APIError(.unauthorized, 10, "API key is not active") }
        if let end = holder.key.expirationTime, end <= self.now() {
            throw APIError(.unauthorized, 10, "API key is expired")
        }
        guard holder.user.isEnabled else { throw APIError.accountNotActive }
        return Session(user: holder.user, proof: .key(holder.key))
    }

    private func look(for digest: [UInt8], from address: String) async throws -> ApiKeyHolder {
        switch self.limiter.withLock({ $0.begin(address, at: self.now()) }) {
        case .go: break
        case .wait(let milliseconds):
            let seconds = (milliseconds + 999) / 1000
            throw APIError(
                .tooManyRequests,
                33,
                "Too many wrong API keys; try again in \(seconds) seconds",
                headers: [.retryAfter: "\(seconds)"]
            )
        case .busy:
            throw APIError(.tooManyRequests, 33, "Too many API keys at once; try again", headers: [.retryAfter: "1"])
        }
        let result: Result<ApiKeyHolder?, any Error>
        do {
            result = .success(try await self.keys.holder(digest: digest))
        } catch {
            result = .failure(error)
        }
        let isWrong = if case .success(nil) = result { true } else { false }
        self.limiter.withLock { _ = $0.end(address, succeeded: !isWrong, at: self.now()) }
        guard let holder = try result.get() else { throw APIError.notAuthenticated }
        return holder
    }
}

/// The secret of an API key.
enum ApiKeyValue {
    /// What all of them begin with, as in ThingsBoard, so that tools that look for leaked secrets know them.
    static let prefix = "tb_"
    private static let randomCount = 32

    /// A new one: 256 bits that nobody can guess.
    static func random() -> String {
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<Self.randomCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        return Self.prefix + bytes.map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }.joined()
    }

    /// What is kept of one.
    ///
    /// One pass of SHA-256 is enough: unlike a password, nobody can guess it, however fast he tries.
    static func digest(_ value: some StringProtocol) -> [UInt8] { Array(SHA256.hash(data: Array(value.utf8))) }
}
