import IngressKit
public import NIOCore
public import NodeKit

/// The HTTP server of an ingress node: what its operator configures, and the listener that serves its site.
///
/// Nodes that name the same address share one listener, each with its own paths. All of the attributes are the listener's, so
/// these nodes must have the same.
public struct HTTPServer: Sendable {
    /// The attributes that configure it; the descriptor of a node that has a server declares them.
    public static let attributes: [AttributeDescriptor] =
        [
            .integer(
                "port",
                default: 8080,
                in: 0...65_535,
                summary: "The TCP port to listen on; 0 takes any that is free."
            ),
            .integer(
                "tls-port",
                in: 0...65_535,
                optional: true,
                summary:
                    "The TCP port to listen on for HTTP over TLS, with the tls- files; 0 takes any that is free."
            ),
            .string("host", default: "0.0.0.0", summary: "The address to listen on, IPv4 or IPv6; '::' for both."),
        ] + TLSSettings.attributes + HTTPLimits.attributes + [RateLimits.addressConnections]

    /// What an operator says, read from the configuration.
    struct Settings: Sendable {
        var host: String
        var port: Int
        var tls: (port: Int, settings: TLSSettings)?
        var limits: HTTPLimits
        var connectionsPerSecondMax: Int
        /// The values as texts, by their attributes' names.
        var values: [String: String] = [:]

        /// The address, for people.
        var place: String { "\(self.host):\(self.port)" }

        /// The first attribute that has another value there; the port does not count.
        func difference(from other: Settings) -> (name: String, mine: String, theirs: String)? {
            for attribute in HTTPServer.attributes where attribute.name != "port" {
                let (mine, theirs) = (self.values[attribute.name], other.values[attribute.name])
                if mine != theirs { return (attribute.name, mine ?? "none", theirs ?? "none") }
            }
            return nil
        }
    }

    /// How long requests under way may take when the node stops.
    public var stopping = HTTPLimits.stopping
    /// How many bytes are read from a connection at once.
    public var receiving: any RecvByteBufferAllocator = AdaptiveRecvByteBufferAllocator(
        minimum: 512,
        initial: 2048,
        maximum: HTTPLimits.readBytes
    )
    let settings: Settings

    /// Takes the settings from the configuration of a node that declares ``attributes``; opens nothing.
    ///
    /// - Throws: ``NodeError`` with code `tls-settings` if there is a port for TLS without its files.
    public init(_ configuration: Configuration) throws(NodeError) {
        let files = try TLSSettings(configuration)
        var tls: (port: Int, settings: TLSSettings)?
        if let port = configuration.integerIfPresent("tls-port") {
            guard let files else {
                throw NodeError("tls-settings", "tls-port needs tls-certificate-file and tls-private-key-file")
            }
            tls = (Int(port), files)
        }
        self.settings = Settings(
            host: configuration.string("host"),
            port: Int(configuration.integer("port")),
            tls: tls,
            limits: HTTPLimits(configuration),
            connectionsPerSecondMax: Int(configuration.integer(RateLimits.addressConnections.name)),
            values: Dictionary(
                uniqueKeysWithValues: Self.attributes.compactMap { attribute in
                    configuration.text(attribute).map { (attribute.name, $0) }
                }
            )
        )
    }

    /// Serves a site until the task is cancelled, then answers what is under way and returns.
    ///
    /// Called once, by the node's ``IngressNode/run(_:)``.
    ///
    /// - Parameters:
    ///   - site: What is served.
    ///   - paths: Where, each beginning with a slash. One that ends with a slash stands for all paths that begin with it,
    ///     any other for itself only. The server answers 404 below all others.
    ///   - services: Those of the node.
    ///   - ready: Called once, as soon as the site is served, with the addresses.
    /// - Throws: ``NodeError`` with code `cannot-listen` if the address cannot be listened on, `tls-files` if the files of TLS
    ///   cannot be used, `route-conflict` if another node serves one of the paths there, `listener-settings` if another node
    ///   listens there with other settings, and `listener-closed` if the system closes the listener.
    public func run(
        _ site: any HTTPSite,
        at paths: [String],
        services: NodeServices,
        ready: ([Listener]) -> Void
    ) async throws {
        let mount = Mount(
            site,
            at: paths,
            owner: "node '\(services.node)' of chain '\(services.chain)'",
            metrics: TransportMetrics("http", services: services)
        )
        let listener = try await SharedListeners.all.join(
            mount,
            self.settings,
            receiving: self.receiving,
            services: services
        )
        ready(listener.addresses)
        await withTaskGroup { group in
            // Where nodes share a listener each of them looks at the files: whichever is first reads them again.
            if let tls = listener.tls { group.addTask { await tls.watch(clock: services.clock) } }
            await listener.untilClosed()
            group.cancelAll()
        }
        await listener.unmount(mount, within: self.stopping)
        guard Task.isCancelled else {
            throw NodeError("listener-closed", "a listener on '\(self.settings.place)' was closed by the system")
        }
    }
}

extension Configuration {
    /// The value of an attribute as a text; `nil` if it has none.
    fileprivate func text(_ attribute: AttributeDescriptor) -> String? {
        switch attribute.kind {
        case .string, .condition: self.stringIfPresent(attribute.name)
        case .integer: self.integerIfPresent(attribute.name).map(String.init)
        case .boolean: String(self.boolean(attribute.name))
        case .duration: self.durationIfPresent(attribute.name)?.description
        }
    }
}
