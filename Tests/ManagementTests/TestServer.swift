import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NodeKit
import OTA
import ServiceLifecycle
import Synchronization
import Testing

@testable import Management

/// A server on a port of its own with services in memory, and a client that has logged in.
struct TestServer: Sendable {
    /// What a test looks into and changes while the server runs.
    final class Parts: Sendable {
        let services = FakeServices()
        let clock = Mutex(Timestamp(milliseconds: 1_700_000_000_000))
        let isReady = Mutex(true)
        let token = Mutex("")
    }

    static let userName = "admin@windlass.local"
    static let password = "correct horse"
    static let cost = PasswordHash.Cost(log2Rounds: 2, blockSize: 1, parallelism: 1)

    let parts: Parts
    let port: Int

    var services: FakeServices { self.parts.services }

    /// A server that is not running yet.
    static func make(
        _ parts: Parts,
        services: ServiceRegistry? = nil,
        _ configure: (inout ManagementServer.Options) -> Void,
        onListening: @escaping @Sendable (Listener) -> Void
    ) async throws -> ManagementServer {
        var options = ManagementServer.Options()
        options.port = 0
        options.passwordCost = Self.cost
        configure(&options)
        let registry = services ?? parts.services.registry
        let users = try #require(registry[(any UserService).self])
        _ = try await users.saveUser(Self.user(Self.userName))
        return try ManagementServer(
            options: options,
            services: registry,
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            now: { parts.clock.withLock { $0 } },
            health: { ["store": true, "chains": parts.isReady.withLock { $0 }] },
            onListening: { onListening($0) }
        )
    }

    /// A user whose password is ``password``.
    static func user(
        _ name: String,
        of tenant: TenantId = .main,
        _ authority: Authority = .tenantAdmin
    ) throws -> User {
        let hash = try PasswordHash(of: Self.password, cost: Self.cost).description
        return User(tenantId: tenant, name: name, passwordHash: hash, authority: authority)
    }

    /// Runs a server while the body runs, on services in memory unless others are given.
    static func run(
        services: ServiceRegistry? = nil,
        _ configure: (inout ManagementServer.Options) -> Void = { _ in },
        logsIn: Bool = true,
        _ body: (TestServer) async throws -> Void
    ) async throws {
        let parts = Parts()
        let (listeners, continuation) = AsyncStream.makeStream(of: Listener.self)
        let server = try await Self.make(parts, services: services, configure) { continuation.yield($0) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { continuation.finish() }
                try await server.run()
            }
            var iterator = listeners.makeAsyncIterator()
            if let listener = await iterator.next() {
                let test = TestServer(parts: parts, port: listener.port)
                if logsIn {
                    let login = try await test.logIn()
                    test.parts.token.withLock { $0 = login["token"]?.string ?? "" }
                }
                try await body(test)
            }
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    /// Lets time pass.
    func advance(seconds: Int64) { self.parts.clock.withLock { $0.rawValue += seconds * 1000 } }

    func logIn(_ name: String = Self.userName, _ password: String = Self.password) async throws -> JSON {
        try await self.send(
            .POST,
            "/api/auth/login",
            json: ["username": .string(name), "password": .string(password)],
            token: nil
        ).json
    }

    /// The token of the login that was made at the start.
    var token: String { self.parts.token.withLock { $0 } }

    func get(_ path: String) async throws -> TestResponse { try await self.send(.GET, path) }

    func post(_ path: String, _ json: JSON) async throws -> TestResponse {
        try await self.send(.POST, path, json: json)
    }

    func delete(_ path: String) async throws -> TestResponse { try await self.send(.DELETE, path, json: [:]) }

    func send(_ method: HTTPMethod, _ path: String, json: JSON) async throws -> TestResponse {
        try await self.send(method, path, json: json, token: self.token)
    }

    func send(_ method: HTTPMethod, _ path: String, json: JSON, token: String?) async throws -> TestResponse {
        try await self.send(method, path, ["Content-Type": "text/plain"], json.bytes, token: token)
    }

    func send(_ method: HTTPMethod, _ path: String) async throws -> TestResponse {
        try await self.send(method, path, [:], ByteBuffer(), token: self.token)
    }

    /// Sends a request on a connection of its own and reads its answer to the end.
    func send(
        _ method: HTTPMethod,
        _ path: String,
        _ headers: [String: String],
        _ body: ByteBuffer,
        token: String?
    ) async throws -> TestResponse {
        var headers = headers
        headers["Host"] = "localhost"
        headers["Connection"] = "close"
        if let token { headers["X-Authorization"] = "Bearer \(token)" }
        if body.readableBytes > 0 { headers["Content-Length"] = String(body.readableBytes) }
        let head = HTTPRequestHead(
            version: .http1_1,
            method: method,
            uri: path,
            headers: HTTPHeaders(headers.map { ($0.key, $0.value) })
        )
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "127.0.0.1", port: self.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    return try NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>(
                        wrappingChannelSynchronously: channel
                    )
                }
            }
        return try await channel.executeThenClose { inbound, outbound in
            // In one go: the server may answer and close as soon as it has the last byte, and a write after that would fail.
            let parts: [HTTPClientRequestPart] = [.head(head), .body(.byteBuffer(body)), .end(nil)]
            try await outbound.write(contentsOf: parts)
            var response = TestResponse()
            for try await part in inbound {
                switch part {
                case .head(let head):
                    response.status = Int(head.status.code)
                    response.headers = head.headers
                case .body(let bytes): response.body.writeImmutableBuffer(bytes)
                case .end: return response
                }
            }
            return response
        }
    }

    /// Sends bytes as they are, then asks for what comes back until the server closes or the body has seen enough.
    func raw<Result: Sendable>(
        _ body:
            @Sendable (
                NIOAsyncChannelInboundStream<ByteBuffer>, NIOAsyncChannelOutboundWriter<ByteBuffer>, any Channel
            ) async throws -> Result
    ) async throws -> Result {
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "127.0.0.1", port: self.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        let raw = channel.channel
        return try await channel.executeThenClose { inbound, outbound in try await body(inbound, outbound, raw) }
    }

    /// Uploads a form to a package.
    func upload(
        to id: String,
        query: String = "",
        _ form: String,
        boundary: String = "XX"
    ) async throws -> TestResponse {
        try await self.send(
            .POST,
            "/api/otaPackage/\(id)\(query)",
            ["Content-Type": "multipart/form-data; boundary=\(boundary)"],
            ByteBuffer(string: form),
            token: self.token
        )
    }
}

struct TestResponse: Sendable {
    var status = 0
    var headers = HTTPHeaders()
    var body = ByteBuffer()

    var text: String { String(buffer: self.body) }
    var json: JSON { get throws { try JSON(parsing: self.body) } }

    /// Checks that this is an error in ThingsBoard's shape, exactly.
    func expectError(
        _ status: Int,
        _ code: Int64,
        _ message: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        #expect(self.status == status, sourceLocation: sourceLocation)
        let json = try self.json
        #expect(
            json.object?.names == ["status", "message", "errorCode", "timestamp"],
            "\(self.text)",
            sourceLocation: sourceLocation
        )
        #expect(json["status"]?.integer == Int64(status), sourceLocation: sourceLocation)
        #expect(json["errorCode"]?.integer == code, sourceLocation: sourceLocation)
        if let message { #expect(json["message"]?.string == message, sourceLocation: sourceLocation) }
    }
}

extension JSON {
    /// The text of the entity's identifier.
    var entityId: String { self["id"]?["id"]?.string ?? "" }
}
