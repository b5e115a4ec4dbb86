import FoundationEssentials
import IngressKit
import NIOSSL
import NodeTesting
import Testing

/// What the management API has from HTTPKit beside the framing.
@Suite(.timeLimit(.minutes(5))) struct ManagementChannelTests {
    private static let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    @Test("an address that begins too many connections in a second gets 429")
    func rate() async throws {
        try await withManagement {
            $0.addressConnectionsPerSecondMax = 1
        } _: { port in
            var statuses: Set<Int> = []
            // The second is too fast unless the machine is slow.
            while statuses.count < 2 {
                let client = try await RawHTTPClient.connect(port: port)
                await client.sendAnyway(Self.request)
                let response = try await client.response()
                statuses.insert(response.status)
                if response.status == 429 { #expect(response["Retry-After"] == "1") }
                try await client.close()
            }
            #expect(statuses == [200, 429])
        }
    }

    @Test("with a certificate the API speaks TLS and nothing else")
    func tls() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "api-\(UUID.random().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let files = try TestCertificate.server.write(to: folder, as: "server")
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates([
            try NIOSSLCertificate(bytes: Array(TestCertificate.authority.certificate.utf8), format: .pem)
        ])
        let context = try NIOSSLContext(configuration: configuration)
        try await withManagement {
            $0.tls = TLSSettings(certificateFile: files.certificate, privateKeyFile: files.privateKey)
        } _: { port in
            let client = try await RawHTTPClient.connect(port: port, tls: context)
            for _ in 0..<2 {
                try await client.send(Self.request)
                #expect(try await client.response().status == 200)
            }
            try await client.send("GET /health HTTP/1.1\r\n\r\n")
            #expect(try await client.response().status == 400)
            #expect(await client.rest() == "")
            try await client.close()
            let plain = try await RawHTTPClient.connect(port: port)
            await plain.sendAnyway(Self.request)
            await #expect(throws: ConnectionEnded.self) { try await plain.response() }
            try await plain.close()
        }
    }
}
