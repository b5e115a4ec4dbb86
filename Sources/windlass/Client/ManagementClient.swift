import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NodeKit

/// The management API of a host, as the commands use it: one request after another, failures with a sentence and an exit code.
final class ManagementClient {
    /// How long the host may be silent: at the end of an upload its disk has much to do.
    static let answerTimeout = TimeAmount.seconds(300)
    /// Entries of a list asked for at a time.
    static let pageSize = 500

    /// What proves who is asking; empty until that is known.
    var authorization = ""
    private let address: ServerAddress
    private let client: HTTPClient

    init(_ address: ServerAddress, caFile: String?) throws {
        self.address = address
        var tls: NIOSSLContext?
        if address.isTLS {
            var configuration = TLSConfiguration.makeClientConfiguration()
            do {
                if let caFile { configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(caFile)) }
                tls = try NIOSSLContext(configuration: configuration)
            } catch {
                throw CommandFailure(.failed, "cannot read certificates from '\(caFile ?? "")': \(error)")
            }
        }
        self.client = HTTPClient(
            DemoEndpoint(host: address.host, port: address.port),
            tls: tls,
            answerTimeout: Self.answerTimeout
        )
    }

    /// Takes a token for a name and a password.
    func logIn(user: String, password: String) async throws {
        let body: JSON = ["username": .string(user), "password": .string(password)]
        let answer = try await self.call(.POST, "/api/auth/login", body)
        guard let token = answer["token"]?.string else {
            throw CommandFailure(.failed, "\(self.address.description) answered the login without a token")
        }
        self.authorization = "Bearer \(token)"
    }

    func get(_ target: String) async throws -> JSON { try await self.call(.GET, target, nil) }

    func post(_ target: String, _ body: JSON) async throws -> JSON { try await self.call(.POST, target, body) }

    /// What is there, or `nil` if it is not.
    func getIfPresent(_ target: String) async throws -> JSON? {
        do {
            return try await self.get(target)
        } catch let failure as CommandFailure where failure.kind == .notFound {
            return nil
        }
    }

    /// Asks for a list page by page, given path and query without page and size, and hands on each page as it comes.
    func pages(_ target: String, _ body: ([JSON]) throws -> Void) async throws {
        let joint = target.contains("?") ? "&" : "?"
        for number in 0... {
            let page = try await self.get("\(target)\(joint)pageSize=\(Self.pageSize)&page=\(number)&sortOrder=ASC")
            try body(page["data"]?.array ?? [])
            guard page["hasNext"] == true else { return }
        }
    }

    /// All of a list that is not long, such as what one name matches.
    func list(_ target: String) async throws -> [JSON] {
        var all: [JSON] = []
        try await self.pages(target) { all += $0 }
        return all
    }

    /// Sends a body piece by piece.
    func upload(
        _ target: String,
        contentType: String,
        size: Int,
        body: (_ write: (ByteBuffer) async throws -> Void) async throws -> Void
    ) async throws -> JSON {
        var headers = self.headers
        headers.add(name: "Content-Type", value: contentType)
        let reply = try await self.exchange {
            try await self.client.send(.POST, target, headers: headers, size: size, body: body)
        }
        return try self.json(reply)
    }

    private var headers: HTTPHeaders {
        self.authorization.isEmpty ? [:] : ["X-Authorization": self.authorization]
    }

    private func call(_ method: HTTPMethod, _ target: String, _ body: JSON?) async throws -> JSON {
        var headers = self.headers
        if body != nil { headers.add(name: "Content-Type", value: "application/json") }
        let reply = try await self.exchange {
            try await self.client.send(method, target, headers: headers, body: body?.bytes)
        }
        return try self.json(reply)
    }

    private func exchange(_ body: () async throws -> HTTPReply) async throws -> HTTPReply {
        do {
            return try await body()
        } catch let failure as CommandFailure {
            throw failure
        } catch let error as NIOConnectionError {
            let reason =
                error.connectionErrors.last.map { "\($0.error)" } ?? error.dnsAError.map { "\($0)" } ?? "no answer"
            throw self.unreachable(reason)
        } catch {
            throw self.unreachable("\(error)")
        }
    }

    private func unreachable(_ reason: String) -> CommandFailure {
        CommandFailure(
            .unreachable,
            "cannot reach \(self.address.description) (\(reason)); is the host running, and is this its management address "
                + "(--server)?"
        )
    }

    private func json(_ reply: HTTPReply) throws -> JSON {
        let json = try? reply.json()
        if (200..<300).contains(reply.status.code) { return json ?? .null }
        let message = json?["message"]?.string ?? "it answered \(reply.status.code) \(reply.status.reasonPhrase)"
        let kind: CommandFailure.Kind =
            switch reply.status {
            case .unauthorized, .forbidden: .notLoggedIn
            case .notFound: .notFound
            case .serviceUnavailable, .gatewayTimeout, .badGateway: .unreachable
            default: .failed
            }
        throw CommandFailure(
            kind,
            "\(self.address.description): \(message)",
            refusal: (reply.status.code, message)
        )
    }
}

extension ManagementClient {
    /// The profile with a name or identifier; the default one if none is named.
    func profile(_ name: String?) async throws -> JSON {
        guard let name else { return try await self.get("/api/deviceProfileInfo/default") }
        let found = try await self.list("/api/deviceProfileInfos?textSearch=\(HTTPClient.escape(name))")
        if let profile = found.first(where: { $0["name"] == .string(name) }) { return profile }
        if name.isIdentifier, let profile = try await self.getIfPresent("/api/deviceProfile/\(name)") { return profile }
        throw CommandFailure(.notFound, "there is no device profile '\(name)'")
    }

    /// The device with a name or identifier.
    func device(_ name: String) async throws -> JSON {
        let target = "/api/tenant/device?deviceName=\(HTTPClient.escape(name))"
        if let device = try await self.getIfPresent(target) { return device }
        if name.isIdentifier, let device = try await self.getIfPresent("/api/device/\(name)") { return device }
        throw CommandFailure(.notFound, "there is no device '\(name)'")
    }
}

extension String {
    /// Whether it may be the identifier of an entity (RFC 9562 §4).
    var isIdentifier: Bool {
        let parts = self.split(separator: "-", omittingEmptySubsequences: false)
        return parts.map(\.count) == [8, 4, 4, 4, 12] && parts.allSatisfy { $0.allSatisfy(\.isHexDigit) }
    }
}

extension JSON {
    /// The identifier of an entity.
    var entityID: String { self["id"]?["id"]?.string ?? "" }

    /// The text of a member for people; `-` if there is none.
    func shown(_ name: String) -> String {
        guard let value = self[name], !value.isNull else { return "-" }
        return value.text
    }
}
