import FoundationEssentials
import Logging
import NIOCore
import NIOEmbedded
import NIOSSL
import NodeKit
import NodeTesting
import Testing

@testable import IngressKit

@Suite struct TLSTests {
    private static func configuration(_ texts: [String: String]) throws -> Configuration {
        var values: [String: ConfigurationValue] = [:]
        for attribute in TLSSettings.attributes {
            if let text = texts[attribute.name] ?? attribute.defaultText {
                values[attribute.name] = try attribute.parse(text)
            }
        }
        return Configuration(values)
    }

    private static func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "tls-\(UUID.random().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    private static func settings(
        _ folder: String,
        server: TestCertificate = .server,
        _ more: [String: String] = [:]
    ) throws -> TLSSettings {
        let (certificate, key) = try server.write(to: folder, as: "server")
        let texts = ["tls-certificate-file": certificate, "tls-private-key-file": key].merging(more) { $1 }
        return try #require(try TLSSettings(try Self.configuration(texts)))
    }

    private static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Shakes hands with a client in memory.
    ///
    /// - Returns: The common names of the certificates that the client and the server were shown.
    private static func shakeHands(
        _ context: TLSContext,
        client certificate: TestCertificate? = nil
    ) throws -> (server: [UInt8]?, client: [UInt8]?) {
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
        let client = EmbeddedChannel()
        let clientTLS = try NIOSSLClientHandler(
            context: NIOSSLContext(configuration: configuration),
            serverHostname: "localhost"
        )
        let server = EmbeddedChannel()
        let serverTLS = context.handler()
        let errors = Errors()
        try client.pipeline.syncOperations.addHandlers([clientTLS, errors])
        try server.pipeline.syncOperations.addHandlers([serverTLS, errors])
        defer {
            for channel in [client, server] {
                channel.close(promise: nil)
                // Closing waits for the other side's farewell, which does not come here.
                channel.embeddedEventLoop.advanceTime(by: .hours(1))
            }
        }
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: 1)
        server.connect(to: address, promise: nil)
        client.connect(to: address, promise: nil)
        var hasMoved = true
        while hasMoved {
            hasMoved = false
            for (from, to) in [(client, server), (server, client)] {
                from.embeddedEventLoop.run()
                while let bytes = try from.readOutbound(as: ByteBuffer.self) {
                    hasMoved = true
                    try to.writeInbound(bytes)
                }
            }
        }
        if let error = errors.first { throw error }
        return (try clientTLS.peerCertificate?.toDERBytes(), try serverTLS.peerCertificate?.toDERBytes())
    }

    private final class Errors: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        var first: (any Error)?
        func errorCaught(context: ChannelHandlerContext, error: any Error) { self.first = self.first ?? error }
    }

    private static func der(_ certificate: TestCertificate) throws -> [UInt8] {
        try NIOSSLCertificate(bytes: Array(certificate.certificate.utf8), format: .pem).toDERBytes()
    }

    @Test("certificate and key go together")
    func pairs() throws {
        #expect(try TLSSettings(try Self.configuration([:])) == nil)
        for name in ["tls-certificate-file", "tls-private-key-file"] {
            let error = #expect(throws: NodeError.self) { try TLSSettings(try Self.configuration([name: "x"])) }
            #expect(error?.code == "tls-settings")
        }
    }

    @Test("files that cannot be used are named")
    func badFiles() throws {
        try Self.withFolder { folder in
            var settings = try Self.settings(folder)
            try Data("nothing".utf8).write(to: URL(filePath: "\(folder)/nothing.pem"))
            settings.certificateFile = "\(folder)/nothing.pem"
            expectFault(settings, naming: "nothing.pem")
            settings.certificateFile = "\(folder)/absent.pem"
            expectFault(settings, naming: "absent.pem")
            settings = try Self.settings(folder)
            settings.privateKeyFile = try TestCertificate.renewed.write(to: folder, as: "renewed").privateKey
            expectFault(settings, naming: "renewed.key")
            settings = try Self.settings(folder, ["tls-client-ca-file": "\(folder)/absent-ca.pem"])
            expectFault(settings, naming: "absent-ca.pem")
        }
        func expectFault(_ settings: TLSSettings, naming file: String) {
            let error = #expect(throws: NodeError.self) { try TLSContext(settings, logger: Self.quiet) }
            #expect(error?.code == "tls-files")
            #expect(error?.message.contains(file) == true, "\(error?.message ?? "")")
        }
    }

    @Test("a client may show any certificate or none, unless it must or there is an authority")
    func clients() throws {
        try Self.withFolder { folder in
            let optional = try TLSContext(try Self.settings(folder), logger: Self.quiet)
            #expect(try Self.shakeHands(optional).client == nil)
            #expect(try Self.shakeHands(optional, client: .stranger).client == Self.der(.stranger))

            let none = try TLSContext(
                try Self.settings(folder, ["tls-client-certificates": "none"]),
                logger: Self.quiet
            )
            #expect(try Self.shakeHands(none, client: .client).client == nil)

            let required = try TLSContext(
                try Self.settings(folder, ["tls-client-certificates": "required"]),
                logger: Self.quiet
            )
            #expect(throws: (any Error).self) { try Self.shakeHands(required) }
            #expect(try Self.shakeHands(required, client: .client).client == Self.der(.client))

            let authority = try TestCertificate.authority.write(to: folder, as: "authority").certificate
            let issued = try TLSContext(
                try Self.settings(folder, ["tls-client-ca-file": authority]),
                logger: Self.quiet
            )
            #expect(try Self.shakeHands(issued, client: .client).client == Self.der(.client))
            #expect(try Self.shakeHands(issued).client == nil)
            #expect(throws: (any Error).self) { try Self.shakeHands(issued, client: .stranger) }
        }
    }

    @Test("a certificate that changes is used for the connections after, and one that cannot be used is not")
    func reload() throws {
        try Self.withFolder { folder in
            let context = try TLSContext(try Self.settings(folder), logger: Self.quiet)
            context.refresh()
            #expect(try Self.shakeHands(context).server == Self.der(.server))
            _ = try TestCertificate.renewed.write(to: folder, as: "server")
            #expect(try Self.shakeHands(context).server == Self.der(.server))
            context.refresh()
            #expect(try Self.shakeHands(context).server == Self.der(.renewed))
            try Data("broken".utf8).write(to: URL(filePath: "\(folder)/server.pem"), options: .atomic)
            context.refresh()
            #expect(try Self.shakeHands(context).server == Self.der(.renewed))
            _ = try TestCertificate.server.write(to: folder, as: "server")
            context.refresh()
            #expect(try Self.shakeHands(context).server == Self.der(.server))
        }
    }
}
