import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NodeKit
import NodeTesting
import OTA
import ServiceLifecycle
import Store
import Synchronization
import Testing

@testable import Management

/// A server on a port of its own with a domain in memory, and a client that has logged in.
struct TestServer: Sendable {
    /// What a test looks into and changes while the server runs.
    final class Parts: Sendable {
        let domain: TestDomain
        let registry: ServiceRegistry
        /// How far the time of day was set back.
        let setBack = Mutex(Duration.zero)
        let isReady = Mutex(true)
        /// The queues of the nodes that run.
        let runningQueues = Mutex<[QueueName]>([])
        let token = Mutex("")

        /// Makes the parts of a server with an empty domain, unless another one is given.
        ///
        /// - Parameters:
        ///   - domain: The domain.
        ///   - register: Puts other services in place of the domain's, such as one that fails.
        /// - Throws: ``NodeError`` if SQLite has no memory.
        init(_ domain: TestDomain? = nil, _ register: (inout ServiceRegistry) -> Void = { _ in }) throws {
            let domain = if let domain { domain } else { try TestDomain() }
            var registry = domain.registry
            register(&registry)
            self.domain = domain
            self.registry = registry
        }
    }

    static let userName = "admin@windlass.local"
    static let password = "correct horse"
    static let cost = PasswordHash.Cost(log2Rounds: 2, blockSize: 1, parallelism: 1)

    let parts: Parts
    let port: Int

    var domain: TestDomain { self.parts.domain }
    var store: SQLiteStore { self.domain.store }

    /// The identifier of the profile that devices and packages have if nothing is said.
    var defaultProfile: DeviceProfileId {
        get async throws { try await self.store.defaultDeviceProfile(of: .main).id }
    }

    /// A server that is not running yet.
    static func make(
        _ parts: Parts,
        _ configure: (inout ManagementServer.Options) -> Void,
        onListening: @escaping @Sendable (Listener) -> Void
    ) async throws -> ManagementServer {
        var options = ManagementServer.Options()
        options.port = 0
        options.passwordCost = Self.cost
        configure(&options)
        if try await parts.domain.store.findUser(name: Self.userName) == nil {
            _ = try await parts.domain.store.saveUser(Self.user(Self.userName))
        }
        return try ManagementServer(
            options: options,
            services: parts.registry,
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            now: { parts.domain.now().adding(.zero - parts.setBack.withLock { $0 }) },
            health: { ["store": true, "chains": parts.isReady.withLock { $0 }] },
            runningQueues: { parts.runningQueues.withLock { $0 } },
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

    /// Runs a server while the body runs, with an empty domain unless other parts are given.
    static func run(
        on parts: Parts? = nil,
        _ configure: (inout ManagementServer.Options) -> Void = { _ in },
        logsIn: Bool = true,
        _ body: (TestServer) async throws -> Void
    ) async throws {
        let parts = if let parts { parts } else { try Parts() }
        let (listeners, continuation) = AsyncStream.makeStream(of: Listener.self)
        let server = try await Self.make(parts, configure) { continuation.yield($0) }
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
    func advance(by duration: Duration) { self.domain.clock.advance(by: duration) }

    /// Sets the server's time of day back, as an operator does with a clock that was wrong.
    func setBack(by duration: Duration) { self.parts.setBack.withLock { $0 += duration } }

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
