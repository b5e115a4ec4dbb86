import CSystemShims
public import Chains
import Glibc
import IngressKit
public import Logging
import Management
import NIOCore
import NIOPosix
public import NodeKit
import OTA
import ServiceLifecycle
import Synchronization

/// One process: plugins, chains, store and management API, run together.
public struct Host: Sendable {
    /// What a host tells while it starts.
    public enum Event: Sendable {
        /// The first administrator was made, with a password that is shown only now.
        case administrator(name: String, password: String)
        /// A listener accepts connections or datagrams.
        case listening(Listener)
        /// Every listener is up.
        case ready
    }

    /// How long requests under way may take to end when the host is told to stop; then they are cut off.
    static let shutdownTimeMax = Duration.seconds(4)

    private let options: HostOptions
    private let logger: Logger
    /// Plugins beside those in the options' folders.
    private let plugins: [Plugin]
    private let openStore: StoreOpener

    /// Opens the store of a host; see ``HostStore/open(_:_:_:_:)``.
    typealias StoreOpener =
        @Sendable (HostOptions, HostSettings, DeviceSessions, Logger) async throws ->
        any StoreEngine

    /// Prepares a host; opens nothing and starts nothing.
    public init(options: HostOptions, logger: Logger) {
        self.init(options: options, logger: logger, plugins: [], openStore: HostStore.open)
    }

    init(options: HostOptions, logger: Logger, plugins: [Plugin], openStore: @escaping StoreOpener) {
        self.options = options
        self.logger = logger
        self.plugins = plugins
        self.openStore = openStore
    }

    /// Checks chain files as ``run(onEvent:)`` would.
    ///
    /// - Parameters:
    ///   - files: The chain files; empty for those of the options' folder.
    ///   - options: Where plugins and chain files are.
    /// - Returns: How many chain files there were, and what the checker warns of.
    /// - Throws: ``Chains/ChainFaults`` with every fault if one is an error, or ``NodeKit/NodeError`` for a plugin that cannot be loaded.
    public static func check(
        files: [String],
        options: HostOptions
    ) throws -> (files: Int, warnings: [ChainFault]) {
        let types = try PluginLoader().load(folders: options.plugins)
        let sources = try files.isEmpty ? ChainSource.read(folder: options.chains) : ChainSource.read(files: files)
        let chains = try ChainChecker(types: types, environment: options.environment).check(sources)
        return (sources.count, chains.warnings)
    }

    /// Runs until the process is told to stop by SIGTERM or SIGINT, or the task is cancelled.
    ///
    /// - Parameter onEvent: Called in order, before and when the host becomes ready.
    /// - Throws: ``Chains/ChainFaults`` or ``NodeKit/NodeError`` if the host cannot start; it then leaves nothing running.
    public func run(onEvent: @escaping @Sendable (Event) -> Void) async throws {
        Self.prepareProcess()
        let copies = self.pluginCopies()
        defer { copies?.remove() }
        var types = try PluginLoader(copies: copies, logger: self.logger).load(folders: self.options.plugins)
        for plugin in self.plugins { try types.add(plugin) }
        let sources = try ChainSource.read(folder: self.options.chains)
        _ = try ChainChecker(types: types, environment: self.options.environment).check(sources)

        let settings = try HostSettings(given: self.options.settings, environment: self.options.environment)
        let external = try settings.externalPackages()
        let managementTLS = try settings.managementTLS()
        let sessions = DeviceSessions()
        let store = try await self.openStore(self.options, settings, sessions, self.logger)
        do {
            try await self.run(
                types: types,
                sources: sources,
                store: store,
                sessions: sessions,
                external: external,
                managementTLS: managementTLS,
                onEvent: onEvent
            )
        } catch {
            await store.close()
            throw error
        }
        await store.close()
    }

    private func run(
        types: NodeTypes,
        sources: [ChainSource],
        store: any StoreEngine,
        sessions: DeviceSessions,
        external: ExternalPackages,
        managementTLS: TLSSettings?,
        onEvent: @escaping @Sendable (Event) -> Void
    ) async throws {
        var registry = ServiceRegistry()
        store.register(in: &registry)
        let counted = Metrics()
        registry.register(counted, as: Metrics.self)
        registry.register(DeviceCalls(sessions: sessions, clock: ContinuousClock()), as: DeviceCalls.self)
        guard let storedUsers = registry[(any UserService).self] else {
            throw NodeError(.internalError, "the store registers no users")
        }
        guard let queues = registry[(any MessageQueues).self] else {
            throw NodeError(.internalError, "the store registers no queues")
        }
        let linkSecret = try await storedUsers.secret(named: "download-links", count: 32)
        registry.register(DownloadLinks(secret: linkSecret), as: DownloadLinks.self)
        let password = self.options.environment["WINDLASS_ADMIN_PASSWORD"]
        let users = try BootstrappedUsers(
            storedUsers,
            name: self.options.environment["WINDLASS_ADMIN_USER"],
            password: password,
            system: GivenLogin(
                name: self.options.environment["WINDLASS_SYSADMIN_USER"],
                password: self.options.environment["WINDLASS_SYSADMIN_PASSWORD"]
            )
        )
        if password == nil, let made = try await users.bootstrap() {
            onEvent(.administrator(name: made.name, password: made.password))
        }
        registry.register(users, as: (any UserService).self)
        let services = registry
        let tasks = BackgroundTasks()
        let eventLoops = MultiThreadedEventLoopGroup.singleton

        let logger = self.logger
        let runtime = ChainRuntime(
            types: types,
            environment: self.options.environment,
            services: { chain, node in
                var logger = logger
                logger[metadataKey: "chain"] = "\(chain)"
                logger[metadataKey: "node"] = "\(node)"
                return NodeServices(
                    chain: chain,
                    node: node,
                    logger: logger,
                    eventLoopGroup: eventLoops,
                    tasks: tasks,
                    registry: services
                )
            },
            logger: logger
        )
        let startup = Startup(onEvent: onEvent)
        let health = HostHealth(runtime: runtime, store: store)
        let metrics = HostMetrics(runtime: runtime, store: store, sessions: sessions, registry: counted)
        var managementOptions = ManagementServer.Options()
        managementOptions.host = self.options.managementHost
        managementOptions.port = self.options.managementPort
        managementOptions.external = external
        managementOptions.tls = managementTLS
        let management = try ManagementServer(
            options: managementOptions,
            services: services,
            eventLoopGroup: eventLoops,
            logger: logger,
            health: { await health.parts(isStarted: startup.isReady) },
            metrics: { try await metrics.families() },
            runningQueues: { runtime.queues },
            onListening: { listener in
                // Devices and administrators are told apart by what the address is for.
                startup.finished(
                    .management,
                    [Listener(scheme: "management", host: listener.host, port: listener.port)]
                )
            }
        )
        let stranded = StrandedQueues(queues: queues, running: { runtime.queues }, logger: logger)
        let chains = ClosureService("chains") {
            do {
                try await runtime.run(sources) { listeners in
                    startup.finished(.chains, listeners)
                    await stranded.warn()
                }
                await tasks.close()
            } catch {
                await tasks.close()
                throw error
            }
        }
        let reloader = ChainReloader(
            runtime: runtime,
            folder: self.options.chains,
            watch: self.options.watch,
            logger: logger,
            onReload: { await stranded.warn() }
        )

        // Started in this order and stopped in the reverse one: devices first, the store last.
        var configuration = ServiceGroupConfiguration(
            services: [
                .init(service: ClosureService("store") { await store.run() }),
                // Beside the others, because hashing a password takes long; nobody is let in before it is done.
                .init(
                    service: ClosureService("administrator") { if password != nil { _ = try await users.bootstrap() } },
                    successTerminationBehavior: .ignore
                ),
                .init(service: management),
                .init(service: chains),
                .init(service: reloader),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: logger
        )
        configuration.maximumGracefulShutdownDuration = Self.shutdownTimeMax
        try await Self.run(ServiceGroup(configuration: configuration))
    }

    /// The folder for copies of plugins; `nil` if it cannot be made, and the plugins are loaded where they are.
    private func pluginCopies() -> PluginCopies? {
        do {
            return try PluginCopies()
        } catch {
            self.logger.warning(
                "plugins are loaded where they are; overwriting a file of theirs ends the host",
                metadata: ["plugin.copy": "\(error.message)"]
            )
            return nil
        }
    }

    /// Runs a group until it ends; a cancelled task stops it as SIGTERM does.
    private static func run(_ group: ServiceGroup) async throws {
        // Not a child task: cancelling that would cut off what is under way at once, instead of letting it finish. It ends
        // with the group, which this function waits for.
        let running = Task { try await group.run() }
        try await withTaskCancellationHandler {
            try await running.value
        } onCancel: {
            // Ends at once: it leaves a word to the group.
            Task { await group.triggerGracefulShutdown() }
        }
    }

    /// What a server needs of its process.
    ///
    /// A peer that went away is an error, not a signal; there may be as many connections as the system allows; and large
    /// memory, such as the 16 MiB that hashing a password takes, goes back to the system at once, which the allocator by
    /// itself would keep for the next time (`man 3 mallopt`, M_MMAP_THRESHOLD). There is an event loop for each processor that
    /// the process may use; by itself NIO asks how many there are, of which a process that is bound to some has fewer.
    private static func prepareProcess() {
        signal(SIGPIPE, SIG_IGN)
        windlass_return_large_memory()
        let processors = Int(windlass_processors())
        if processors > 0, processors < System.coreCount {
            // By the environment, where an operator's choice goes before; the value itself may be set but once.
            setenv("NIO_SINGLETON_GROUP_LOOP_COUNT", "\(processors)", 0)
        }
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

/// Knows when every part that listens is up, and then tells so once.
private final class Startup: Sendable {
    enum Part { case chains, management }

    private struct State {
        var chains: [Listener]?
        var management: [Listener]?
        var isReady = false
    }

    private let state = Mutex(State())
    private let onEvent: @Sendable (Host.Event) -> Void

    init(onEvent: @escaping @Sendable (Host.Event) -> Void) { self.onEvent = onEvent }

    var isReady: Bool { self.state.withLock { $0.isReady } }

    func finished(_ part: Part, _ listeners: [Listener]) {
        let all: [Listener]? = self.state.withLock { state in
            switch part {
            case .chains: state.chains = listeners
            case .management: state.management = listeners
            }
            guard !state.isReady, let chains = state.chains, let management = state.management else { return nil }
            state.isReady = true
            return chains + management
        }
        guard let all else { return }
        for listener in all { self.onEvent(.listening(listener)) }
        self.onEvent(.ready)
    }
}

/// A part that works until its task is cancelled, as a service that is stopped gracefully by cancelling it.
struct ClosureService: Service, CustomStringConvertible {
    let description: String
    private let body: @Sendable () async throws -> Void

    init(_ description: String, _ body: @escaping @Sendable () async throws -> Void) {
        self.description = description
        self.body = body
    }

    func run() async throws {
        try await cancelWhenGracefulShutdown { [body] in
            do {
                try await body()
            } catch is CancellationError {
                // The expected end of a part that is told to stop.
            }
        }
    }
}
