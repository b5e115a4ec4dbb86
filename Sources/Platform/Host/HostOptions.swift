public import Store

/// What an operator decides about a host on the command line.
public struct HostOptions: Sendable {
    /// The folder of the database and the packages' bytes; made if it does not exist.
    public var data: String
    /// The folder of the chain files.
    public var chains: String
    /// The folders of the plugins.
    public var plugins: [String]
    /// The address that the management API listens on.
    public var managementHost: String
    /// The port that the management API listens on, 0…65535; 0 takes any free one.
    public var managementPort: Int
    /// Whether a changed chain file is taken over without being asked to.
    public var watch: Bool
    /// Where the bytes of packages that are uploaded go.
    public var packageStorage = PackageStorage.files
    /// Settings as `NAME=VALUE`; see ``HostSettings``.
    public var settings: [String] = []
    /// What fills `${…}` in chain files, gives settings, and names the administrators.
    public var environment: [String: String]

    /// Makes options.
    public init(
        data: String,
        chains: String,
        plugins: [String],
        managementHost: String = "127.0.0.1",
        managementPort: Int = 8081,
        watch: Bool = false,
        environment: [String: String]
    ) {
        self.data = data
        self.chains = chains
        self.plugins = plugins
        self.managementHost = managementHost
        self.managementPort = managementPort
        self.watch = watch
        self.environment = environment
    }
}
