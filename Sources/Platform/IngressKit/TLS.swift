import FoundationEssentials
public import Logging
public import NIOSSL
public import NodeKit
import Synchronization

/// What an operator says about TLS on an ingress node: where the certificate is, and whether clients show one of theirs.
public struct TLSSettings: Sendable, Hashable {
    /// Whether clients show a certificate.
    public enum ClientCertificates: String, Sendable, Hashable, CaseIterable {
        /// Clients are not asked for one.
        case none
        /// Clients are asked for one, and may do without.
        case optional
        /// Clients without one are turned away.
        case required
    }

    /// A PEM file with the server's certificate first, then those of the authorities between it and the root.
    public var certificateFile: String
    /// A PEM file with the certificate's private key, not encrypted.
    public var privateKeyFile: String
    /// A PEM file with the authorities that client certificates must be issued by.
    ///
    /// Without it a client may show any certificate, and is who has stored exactly this one as credentials.
    public var clientCAFile: String?
    /// Whether clients show a certificate.
    public var clientCertificates: ClientCertificates

    /// The attributes of an ingress node that configure TLS.
    public static let attributes: [AttributeDescriptor] = [
        .string(
            "tls-certificate-file",
            optional: true,
            summary:
                "PEM file with the server's certificate and those between it and the root; read again when it changes."
        ),
        .string(
            "tls-private-key-file",
            optional: true,
            summary: "PEM file with the certificate's private key, not encrypted."
        ),
        .string(
            "tls-client-ca-file",
            optional: true,
            summary:
                "PEM file with the authorities that issue client certificates; without it any is taken that a device has as credentials."
        ),
        .string(
            "tls-client-certificates",
            default: ClientCertificates.optional.rawValue,
            oneOf: ClientCertificates.allCases.map(\.rawValue),
            summary: "Whether clients over TLS are asked for a certificate, and must have one."
        ),
    ]

    /// Makes settings by which clients show no certificate.
    ///
    /// - Parameters:
    ///   - certificateFile: The path of the certificate's PEM file.
    ///   - privateKeyFile: The path of the key's PEM file.
    public init(certificateFile: String, privateKeyFile: String) {
        self.certificateFile = certificateFile
        self.privateKeyFile = privateKeyFile
        self.clientCertificates = .none
    }

    /// Takes the settings from the configuration of a node that declares ``attributes``; `nil` if it names no files.
    ///
    /// - Throws: ``NodeError`` with code `tls-settings` if one of certificate and key is named without the other.
    public init?(_ configuration: Configuration) throws(NodeError) {
        let certificate = configuration.stringIfPresent("tls-certificate-file")
        let key = configuration.stringIfPresent("tls-private-key-file")
        switch (certificate, key) {
        case (let certificate?, let key?):
            self.certificateFile = certificate
            self.privateKeyFile = key
            self.clientCAFile = configuration.stringIfPresent("tls-client-ca-file")
            self.clientCertificates =
                ClientCertificates(rawValue: configuration.string("tls-client-certificates")) ?? .optional
        case (nil, nil):
            return nil
        default:
            throw NodeError(
                "tls-settings",
                "tls-certificate-file and tls-private-key-file belong together; name both or none"
            )
        }
    }
}

/// The server's side of TLS for one listener: makes the handler of each connection, always with the newest certificate.
///
/// TLS 1.2 and 1.3. A connection keeps the certificate that it began with.
public final class TLSContext: Sendable {
    /// How often the files are looked at.
    public static let watchInterval = Duration.seconds(5)

    private struct State {
        var context: NIOSSLContext
        var fingerprint: [String]
    }

    private let settings: TLSSettings
    private let applicationProtocols: [String]
    private let logger: Logger
    private let state: Mutex<State>

    /// Reads the files.
    ///
    /// - Parameters:
    ///   - settings: Where they are.
    ///   - applicationProtocols: Names for ALPN (RFC 7301) that the listener speaks, such as `http/1.1`; none for no ALPN.
    ///   - logger: For what becomes of files that change.
    /// - Throws: ``NodeError`` with code `tls-files` that names the file and says what is wrong with it.
    public init(_ settings: TLSSettings, applicationProtocols: [String] = [], logger: Logger) throws(NodeError) {
        self.settings = settings
        self.applicationProtocols = applicationProtocols
        self.logger = logger
        // The fingerprint is taken first: files that change in between are read once more, not missed.
        let fingerprint = Self.fingerprint(of: settings)
        let context = try Self.context(settings, applicationProtocols)
        self.state = Mutex(State(context: context, fingerprint: fingerprint))
    }

    /// The TLS handler of a new connection; the first in its pipeline.
    public func handler() -> NIOSSLServerHandler {
        let context = self.state.withLock { $0.context }
        guard self.settings.clientCertificates != .none, self.settings.clientCAFile == nil else {
            return NIOSSLServerHandler(context: context)
        }
        // TLS proves that the client has the certificate's private key; whose the certificate is, the credentials tell.
        return NIOSSLServerHandler(
            context: context,
            customVerificationCallback: { _, promise in promise.succeed(.certificateVerified) }
        )
    }

    /// Reads the files again whenever they change, until the task is cancelled.
    ///
    /// Files that cannot be used are logged once, and the certificate before stays.
    public func watch(clock: any Clock<Duration>) async {
        while (try? await clock.sleep(for: Self.watchInterval)) != nil { self.refresh() }
    }

    /// Reads the files again if they changed.
    func refresh() {
        let fingerprint = Self.fingerprint(of: self.settings)
        guard self.state.withLock({ $0.fingerprint != fingerprint }) else { return }
        do {
            let context = try Self.context(self.settings, self.applicationProtocols)
            self.state.withLock { $0 = State(context: context, fingerprint: fingerprint) }
            self.logger.notice(
                "TLS certificate reloaded",
                metadata: ["tls.certificate-file": "\(self.settings.certificateFile)"]
            )
        } catch {
            self.state.withLock { $0.fingerprint = fingerprint }
            self.logger.error(
                "TLS certificate not reloaded; the one before stays",
                metadata: ["error": "\(error)"]
            )
        }
    }

    /// What tells one state of the files from another: times of change, sizes and file numbers.
    private static func fingerprint(of settings: TLSSettings) -> [String] {
        [settings.certificateFile, settings.privateKeyFile, settings.clientCAFile].compactMap(\.self).map { path in
            let attributes = try? FileManager.default.attributesOfItem(atPath: path)
            let changed = (attributes?[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
            return "\(changed) \(attributes?[.size] as? UInt64 ?? 0) \(attributes?[.systemFileNumber] as? UInt64 ?? 0)"
        }
    }

    private static func context(_ settings: TLSSettings, _ protocols: [String]) throws(NodeError) -> NIOSSLContext {
        let chain = try Self.read(settings.certificateFile, "certificates") {
            try NIOSSLCertificate.fromPEMFile($0).map { NIOSSLCertificateSource.certificate($0) }
        }
        guard !chain.isEmpty else {
            throw NodeError("tls-files", "'\(settings.certificateFile)' holds no certificate in PEM form")
        }
        let key = try Self.read(settings.privateKeyFile, "the private key") {
            try NIOSSLPrivateKey(file: $0, format: .pem)
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain,
            privateKey: .privateKey(key)
        )
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = protocols
        if settings.clientCertificates != .none {
            // There is no host name to check on a client's certificate.
            configuration.certificateVerification =
                settings.clientCertificates == .required ? .noHostnameVerification : .optionalVerification
            if let file = settings.clientCAFile {
                let authorities = try Self.read(file, "certificates") { try NIOSSLCertificate.fromPEMFile($0) }
                configuration.trustRoots = .certificates(authorities)
                configuration.sendCANameList = true
            }
        }
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw NodeError(
                "tls-files",
                "'\(settings.certificateFile)' and '\(settings.privateKeyFile)' cannot be used for TLS, \(error); the key must be the certificate's",
                cause: error
            )
        }
    }

    private static func read<Value>(
        _ file: String,
        _ what: String,
        _ body: (String) throws -> Value
    ) throws(NodeError) -> Value {
        do {
            return try body(file)
        } catch {
            throw NodeError("tls-files", "could not read \(what) in '\(file)', \(error)", cause: error)
        }
    }
}
