import FoundationEssentials
import NIOCore
import NIOSSL
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import HTTPIngress

@Suite(.timeLimit(.minutes(5))) struct TLSTests {
    private static let attributes = "/api/v1/A1/attributes"

    private static func get(_ path: String) -> String { "GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n" }

    /// What a client shakes hands with, and with which certificate of its own.
    private static func client(_ certificate: TestCertificate? = nil) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates([
            try NIOSSLCertificate(bytes: Array(TestCertificate.authority.certificate.utf8), format: .pem)
        ])
        if let certificate {
            configuration.certificateChain = [
                .certificate(try NIOSSLCertificate(bytes: Array(certificate.certificate.utf8), format: .pem))
            ]
            configuration.privateKey = .privateKey(
                try NIOSSLPrivateKey(bytes: Array(certificate.privateKey.utf8), format: .pem)
            )
        }
        return try NIOSSLContext(configuration: configuration)
    }

    /// Runs a server with both ports, whose certificate lies in a folder.
    private static func withSecureServer(
        _ attributes: [String: String] = [:],
        stopping: TimeAmount = .seconds(3),
        clock: (any Clock<Duration>)? = nil,
        answer: @escaping @Sendable (Message) async -> Outcome = { .completed(.json(.string($0.originator.name))) },
        body: (TestServer, _ folder: String) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "https-\(UUID.random().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let files = try TestCertificate.server.write(to: folder, as: "server")
        let attributes = [
            "tls-port": "0", "tls-certificate-file": files.certificate, "tls-private-key-file": files.privateKey,
        ].merging(attributes) { $1 }
        try await withServer(attributes, stopping: stopping, clock: clock, answer: answer) { server in
            try await body(server, folder)
        }
    }

    @Test("requests are answered over TLS as without it, on one connection and in order")
    func requests() async throws {
        try await Self.withSecureServer { server, _ in
            let secure = try await server.connect(tls: try Self.client())
            let plain = try await server.connect()
            for client in [secure, plain] {
                let post = "POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
                try await client.send(Self.get(Self.attributes) + post + Self.get("/nothing"))
                #expect(try await client.response().text == "\"d1\"")
                #expect(try await client.response().status == 200)
                #expect(try await client.response().status == 404)
                try await client.close()
            }
        }
    }

    @Test("a large package comes whole, and in ranges")
    func download() async throws {
        let content = BufferContent(size: 5_000_000)
        let path = "/api/v1/A1/firmware?title=t&version=v"
        try await Self.withSecureServer(answer: serve(content)) { server, _ in
            let client = try await server.connect(tls: try Self.client())
            try await client.send(Self.get(path))
            #expect(try await client.response().body == content.slice(0..<5_000_000))
            try await client.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\nRange: bytes=4000000-\r\n\r\n")
            #expect(try await client.response().body == content.slice(4_000_000..<5_000_000))
            try await client.close()
        }
    }

    @Test("a refused body does not keep the answer from the client, and a half-closed one gets its answers")
    func ends() async throws {
        try await Self.withSecureServer(["body-bytes-max": "1000"]) { server, _ in
            let refused = try await server.connect(tls: try Self.client())
            try await refused.send("POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{")
            #expect(try await refused.response().status == 413)
            #expect(await refused.rest() == "")
            let half = try await server.connect(tls: try Self.client())
            try await half.send(Self.get(Self.attributes))
            try await half.closeOutput()
            #expect(try await half.response().status == 200)
            #expect(await half.rest() == "")
        }
    }

    @Test("'me' is whoever has the client's certificate, and tokens count as ever")
    func certificates() async throws {
        try await Self.withSecureServer { server, _ in
            for (certificate, token, name) in [
                (.client, "me", "d4"), (.client, "A1", "d1"), (.stranger, "me", nil), (.stranger, "A1", "d1"),
                (nil, "me", nil), (nil, "A1", "d1"), (.client, "no", nil),
            ] as [(TestCertificate?, String, String?)] {
                let client = try await server.connect(tls: try Self.client(certificate))
                try await client.send(Self.get("/api/v1/\(token)/attributes"))
                let response = try await client.response()
                #expect(response.status == (name == nil ? 401 : 200))
                if let name { #expect(response.text == "\"\(name)\"") }
                try await client.close()
            }
            #expect(try await server.get("/api/v1/me/attributes").status == 401)
        }
    }

    @Test("a client that must show a certificate and does not is turned away")
    func required() async throws {
        try await Self.withSecureServer(["tls-client-certificates": "required"]) { server, _ in
            let without = try await server.connect(tls: try Self.client())
            // With TLS 1.3 a client learns of it only after it has sent its request.
            await without.sendAnyway(Self.get(Self.attributes))
            #expect(await without.rest() == "")
            let with = try await server.connect(tls: try Self.client(.client))
            try await with.send(Self.get(Self.attributes))
            #expect(try await with.response().status == 200)
            try await with.close()
            #expect(server.messages.count == 1)
        }
    }

    @Test("a renewed certificate is for new connections, and those before go on")
    func reload() async throws {
        try await Self.withSecureServer(clock: ImpatientClock()) { server, folder in
            let before = try await server.connect(tls: try Self.client())
            try await before.send(Self.get(Self.attributes))
            #expect(try await before.response().status == 200)
            #expect(try await before.certificate() == TestCertificate.server.der)
            _ = try TestCertificate.renewed.write(to: folder, as: "server")
            while true {
                let after = try await server.connect(tls: try Self.client())
                try await after.send(Self.get(Self.attributes))
                #expect(try await after.response().status == 200)
                let isRenewed = try await after.certificate() == TestCertificate.renewed.der
                try await after.close()
                if isRenewed { break }
            }
            try await before.send(Self.get(Self.attributes))
            #expect(try await before.response().status == 200)
            try await before.close()
        }
    }

    @Test(
        "a handshake that does not come to an end, or is none, closes the connection",
        arguments: ["", "GET / HTTP/1.1\r\n\r\n"]
    )
    func noHandshake(text: String) async throws {
        try await Self.withSecureServer(["header-timeout-seconds": "1"]) { server, _ in
            let client = try await RawHTTPClient.connect(port: try #require(server.tlsPort))
            await client.sendAnyway(text)
            #expect(!(await client.rest()).hasPrefix("HTTP"))
        }
    }

    @Test("connections of both ports count together, and one too many over TLS is closed without a word")
    func connections() async throws {
        try await Self.withSecureServer(["connections-max": "2"]) { server, _ in
            let plain = try await server.connect()
            try await plain.send(Self.get("/nothing"))
            #expect(try await plain.response().status == 404)
            let secure = try await server.connect(tls: try Self.client())
            try await secure.send(Self.get("/nothing"))
            #expect(try await secure.response().status == 404)
            #expect(try await server.connect().response().status == 503)
            let refused = try await RawHTTPClient.connect(port: try #require(server.tlsPort))
            #expect(await refused.rest() == "")
            try await plain.close()
            try await secure.close()
        }
    }

    @Test("a client that does not say farewell does not keep the node from stopping")
    func stopping() async throws {
        let gate = AsyncStream.makeStream(of: Void.self)
        let answer: @Sendable (Message) async -> Outcome = { _ in
            for await _ in gate.stream { break }
            return .completed(nil)
        }
        try await Self.withSecureServer(stopping: .milliseconds(100), answer: answer) { server, _ in
            let client = try await server.connect(tls: try Self.client())
            try await client.send(Self.get(Self.attributes))
            try await server.until { !server.messages.isEmpty }
        }
        gate.continuation.finish()
    }

    @Test("a port for TLS needs the files of a certificate, and files that are there")
    func files() async throws {
        let services = try TestDomain().live()
        let missing = #expect(throws: NodeError.self) { try HTTPIngress.make(["tls-port": "0"], services: services) }
        #expect(missing?.code == "tls-settings")
        let attributes = [
            "port": "0", "tls-port": "0", "tls-certificate-file": "/nowhere/a.pem",
            "tls-private-key-file": "/nowhere/a.key",
        ]
        let node = try HTTPIngress.make(attributes, services: services)
        let error = await #expect(throws: NodeError.self) { try await node.run(TestOutlet()) }
        #expect(error?.code == "tls-files")
    }
}

/// A clock whose waits are over at once.
private struct ImpatientClock: Clock {
    var now: ContinuousClock.Instant { ContinuousClock.now }
    var minimumResolution: Duration { .zero }

    func sleep(until deadline: ContinuousClock.Instant, tolerance: Duration?) async throws {
        try await Task.sleep(for: .milliseconds(1))
    }
}
