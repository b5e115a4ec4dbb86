import IngressKit
import Logging
import NIOCore
import NIOPosix
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing
import Waiting

@testable import HTTPKit
@testable import Management

/// What serves the requests of the framing tests.
enum FramingServer: String, CaseIterable, CustomTestStringConvertible {
    /// The server of ingress nodes.
    case node
    /// The server of nodes, reading single bytes.
    case nodeByteByByte
    /// The management API.
    case management

    var testDescription: String { self.rawValue }

    /// A server that runs.
    struct Running: Sendable {
        var port: Int
        /// The path in place of `/in`.
        var path = "/in"
        /// What it answers to `{}` there.
        var status = 200
        /// How many requests it has answered there; `nil` if it does not say.
        var served: @Sendable () -> Int? = { nil }
    }

    /// Runs a server while a test uses it.
    func run(_ body: (Running) async throws -> Void) async throws {
        switch self {
        case .node, .nodeByteByByte:
            let site = InSite()
            try await withNode(site, at: ["/in", "/wait"], readsBytes: self == .nodeByteByByte) { port in
                try await body(Running(port: port, served: { site.served.withLock { $0 } }))
            }
        case .management:
            try await withManagement { port in
                // A login without a name.
                try await body(Running(port: port, path: "/api/auth/login", status: 401))
            }
        }
    }
}

/// Takes a body at each of its paths.
final class InSite: HTTPSite, HTTPResponder {
    let served = Mutex(0)

    func route(_ method: RequestMethod, _ target: RequestTarget) throws(Rejection) -> HTTPRoute {
        guard method == .post else { throw .methodNotAllowed(allow: "POST") }
        return HTTPRoute(self, bodyBytesMax: 1000)
    }

    func begin(_ request: Request) -> HTTPAnswer {
        self.served.withLock { $0 += 1 }
        return .now(.empty(200))
    }
}

/// Runs the server of nodes with a site while a test uses it.
func withNode(
    _ site: any HTTPSite,
    at paths: [String],
    readsBytes: Bool = false,
    _ body: (Int) async throws -> Void
) async throws {
    let node = try TextNode.make(["host": "127.0.0.1", "port": "0"])
    var server = node.server
    if readsBytes { server.receiving = FixedSizeRecvByteBufferAllocator(capacity: 1) }
    let listeners = OneShot<[Listener]>()
    let running = Task { [server] in
        try await server.run(site, at: paths, services: node.services) { listeners.finish($0) }
    }
    let result: Result<Void, any Error>
    do {
        try await body(await listeners.value().first?.port ?? 0)
        result = .success(())
    } catch {
        result = .failure(error)
    }
    running.cancel()
    try await running.value
    try result.get()
}

/// Runs the management API on a domain in memory while a test uses it.
func withManagement(
    _ configure: (inout ManagementServer.Options) -> Void = { _ in },
    _ body: (Int) async throws -> Void
) async throws {
    var options = ManagementServer.Options()
    options.port = 0
    options.passwordCost = PasswordHash.Cost(log2Rounds: 2, blockSize: 1, parallelism: 1)
    configure(&options)
    let listener = OneShot<Listener>()
    let server = try ManagementServer(
        options: options,
        services: try TestDomain().registry,
        eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
        health: { [:] },
        onListening: { listener.finish($0) }
    )
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await server.run() }
        try await body(await listener.value().port)
        group.cancelAll()
        try await group.waitForAll()
    }
}
