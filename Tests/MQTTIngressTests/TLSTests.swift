import FoundationEssentials
import NIOCore
import NIOSSL
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("TLS", .timeLimit(.minutes(5))) struct TLSTests {
    /// Runs a server with all four ports.
    static func run(
        _ attributes: [String: String] = [:],
        _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "mqtt-\(UUID.random().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let (certificate, key) = try TestCertificate.server.write(to: folder, as: "server")
        let all = [
            "tls-port": "0", "websocket-port": "0", "websocket-tls-port": "0", "tls-certificate-file": certificate,
            "tls-private-key-file": key,
        ]
        try await TestServer.run(all.merging(attributes) { $1 }, body)
    }

    static func certificate(_ certificate: TestCertificate) throws -> NIOSSLCertificate {
        try NIOSSLCertificate(bytes: Array(certificate.certificate.utf8), format: .pem)
    }

    /// How a client speaks that shows a certificate, or none.
    static func context(_ certificate: TestCertificate? = nil) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates([try Self.certificate(.authority)])
        if let certificate {
            configuration.certificateChain = [.certificate(try Self.certificate(certificate))]
            let key = try NIOSSLPrivateKey(bytes: Array(certificate.privateKey.utf8), format: .pem)
            configuration.privateKey = .privateKey(key)
        }
        return try NIOSSLContext(configuration: configuration)
    }

    static func client(
        _ server: TestServer,
        _ certificate: TestCertificate? = nil,
        _ connect: ConnectPacket
    ) async throws -> TestClient {
        let port = try #require(server.ports["mqtts"])
        let client = try await TestClient(port: port, version: connect.version, tls: try Self.context(certificate))
        client.send(.connect(connect))
        return client
    }

    @Test("a device may connect over TLS, with its sessions counted together with those of the other ports")
    func token() async throws {
        try await Self.run { server in
            #expect(Set(server.ports.keys) == ["mqtt", "mqtts", "ws", "wss"])
            let plain = try await server.connected()
            let connect = ConnectPacket(version: .v5, clientId: "t", userName: TestServer.token)
            let client = try await Self.client(server, nil, connect)
            #expect(ConnectionTests.code(try await client.next()) == 0)
            #expect(await DeviceSessionTests.farewell(plain) == .sessionTakenOver)
            client.publish("v2/t", "{}")
            #expect(try await client.acknowledgement() == (1, 0))
        }
    }

    @Test(
        "a device is known by its certificate, whatever else it says; another certificate is refused",
        arguments: [(.v3_1_1, 5), (.v5, 0x87)] as [(ProtocolVersion, UInt8)]
    )
    func clientCertificate(version: ProtocolVersion, code: UInt8) async throws {
        try await Self.run { server in
            let device = Originator(id: UUID.random(), name: "with certificate", type: "default")
            try await server.domain.add(device)
            try await server.domain.certify(DeviceId(device.id), by: .client)
            for userName in [nil, "wrong", TestServer.token] {
                let connect = ConnectPacket(version: version, clientId: "x", userName: userName)
                let client = try await Self.client(server, .client, connect)
                #expect(ConnectionTests.code(try await client.next()) == 0)
                client.publish("v2/t", "{}")
                #expect(try await client.acknowledgement() == (1, 0))
                #expect(try #require(server.sent.last).message.originator == device)
            }
            // Of the certificate of nobody, the token is not looked at.
            let connect = ConnectPacket(version: version, clientId: "x", userName: TestServer.token)
            let stranger = try await Self.client(server, .server, connect)
            #expect(await stranger.rest().map(ConnectionTests.code) == [code])
            // Who wants to be made a device may show any.
            let provision = ConnectPacket(version: version, clientId: "x", userName: "provision")
            let newcomer = try await Self.client(server, .server, provision)
            #expect(ConnectionTests.code(try await newcomer.next()) == 0)
        }
    }

    @Test("a WebSocket may be opened over TLS")
    func webSocket() async throws {
        try await Self.run { server in
            let client = try await RawClient(port: try #require(server.ports["wss"]), tls: try Self.context())
            client.send(WebSocketTests.request())
            #expect(try await client.head().first?.contains(" 101 ") == true)
            client.send(WebSocketTests.frame(2, WebSocketTests.bytes(WebSocketTests.connect)))
            guard case .connack(let connack) = try await WebSocketTests.packet(client) else {
                throw NodeError(.internalError, "no CONNACK")
            }
            #expect(connack.code == 0)
        }
    }

    @Test("a port for TLS without a certificate is refused with a sentence that says what is missing")
    func noCertificate() throws {
        for port in ["tls-port", "websocket-tls-port"] {
            let error = #expect(throws: NodeError.self) { try MQTTIngressNode.make([port: "0"]) }
            #expect(error?.message.contains("tls-certificate-file") == true)
        }
    }

    @Test("devices may connect over IPv6")
    func ipv6() async throws {
        try await TestServer.run(["host": "::1"]) { server in
            let client = try await TestClient(port: server.port, host: "::1", version: .v3_1_1)
            client.send(.connect(ConnectPacket(version: .v3_1_1, clientId: "c", userName: TestServer.token)))
            #expect(ConnectionTests.code(try await client.next()) == 0)
        }
    }
}
