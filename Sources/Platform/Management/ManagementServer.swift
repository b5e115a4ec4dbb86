import HTTPKit
import Hummingbird
import HummingbirdCore
public import IngressKit
public import Logging
public import NIOCore
import NIOPosix
public import NodeKit
public import OTA
public import ServiceLifecycle

/// The management API: HTTP in ThingsBoard's shapes, on a listener of its own, for people and programs that have a login.
public struct ManagementServer: Service {
    /// Where to listen, and the limits of what clients may do.
    public struct Options: Sendable {
        /// The address to listen on; loopback unless told otherwise, because the API speaks plain HTTP by default.
        public var host = "127.0.0.1"
        /// The port to listen on, 0…65535; 0 takes any free one.
        public var port = 8081
        /// The most connections at once; more wait to be accepted.
        public var connectionsMax = 1024
        /// How many connections one address may begin in a second; 0 for no limit.
        public var addressConnectionsPerSecondMax = 1000
        /// The certificate and key of the server; `nil` to speak plain HTTP.
        public var tls: TLSSettings?
        /// The most bytes of a request's target and the names and values of its header fields together.
        public var headerBytesMax = 16 * 1024
        /// The most header fields of a request.
        public var headersMax = 100
        /// The most bytes of a body that is not an upload.
        public var bodyBytesMax = 1024 * 1024
        /// The most bytes of an upload's body.
        public var uploadBytesMax: Int64 = 16 * 1024 * 1024 * 1024
        /// The largest package that is answered as base64 in JSON, in bytes.
        public var inlineBytesMax: Int64 = 64 * 1024 * 1024
        /// What may be made of packages whose bytes are stored elsewhere.
        public var external = ExternalPackages()
        /// How long a connection may be silent: between requests, in the middle of one, or while an answer waits to be read.
        public var idleTimeout: Duration = .seconds(60)
        /// How long requests under way have to finish when the host stops.
        public var shutdownTimeout: Duration = .seconds(3)
        /// How long an access token is valid, in seconds.
        public var tokenLifetime: Int64 = 9000
        /// How long a refresh token is valid, in seconds.
        public var refreshTokenLifetime: Int64 = 604_800
        /// How failed logins slow further ones down.
        var logins = LoginLimiter.Limits()
        /// How wrong API keys slow further ones from their address down.
        var keys = LoginLimiter.Limits(failuresFree: 20, pendingMax: 256)
        /// What hashing a password costs; also what a login with an unknown name costs, so that both take the same time.
        var passwordCost = PasswordHash.Cost()

        /// Makes options with their defaults.
        public init() {}
    }

    private let options: Options
    private let services: ManagementServices
    private let eventLoopGroup: any EventLoopGroup
    private let logger: Logger
    private let now: @Sendable () -> Timestamp
    private let health: @Sendable () async -> [String: Bool]
    private let metrics: @Sendable () async throws -> [MetricFamily]
    private let runningQueues: @Sendable () -> [QueueName]
    private let onListening: @Sendable (Listener) async -> Void

    /// Prepares a server; opens nothing.
    ///
    /// - Parameters:
    ///   - options: Where to listen, and limits.
    ///   - services: Must have the services of packages, devices, attributes, time series, entity queries, updates, tenants,
    ///     users and their keys, and the audit log, message queues, and device calls.
    ///   - eventLoopGroup: The event loops that all connections share.
    ///   - logger: For failures of our own; requests are not logged.
    ///   - now: The time of day.
    ///   - health: The parts of the host and whether each is ready.
    ///   - metrics: The host's numbers.
    ///   - runningQueues: The queues of the running nodes.
    ///   - onListening: Called once, with the real address.
    /// - Throws: ``NodeError`` with code `missing-service` if a service is not there.
    public init(
        options: Options,
        services: ServiceRegistry,
        eventLoopGroup: any EventLoopGroup,
        logger: Logger,
        now: @escaping @Sendable () -> Timestamp = { .now },
        health: @escaping @Sendable () async -> [String: Bool],
        metrics: @escaping @Sendable () async throws -> [MetricFamily] = { [] },
        runningQueues: @escaping @Sendable () -> [QueueName] = { [] },
        onListening: @escaping @Sendable (Listener) async -> Void
    ) throws {
        self.options = options
        self.services = try ManagementServices(services)
        self.eventLoopGroup = eventLoopGroup
        self.logger = logger
        self.now = now
        self.health = health
        self.metrics = metrics
        self.runningQueues = runningQueues
        self.onListening = onListening
    }

    /// Serves until a graceful shutdown, which lets requests under way finish within a time limit, or until its task is
    /// cancelled, which does not.
    ///
    /// - Throws: An error of the system if the address cannot be bound.
    public func run() async throws {
        // Hashing a password computes for long; a thread of its own keeps that off the event loops and off the threads that
        // read files.
        let passwordThread = NIOThreadPool(numberOfThreads: 1)
        passwordThread.start()
        let result: Result<Void, any Error>
        do {
            try await self.serve(passwordThread: passwordThread)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        try await passwordThread.shutdownGracefully()
        try result.get()
    }

    private func serve(passwordThread: NIOThreadPool) async throws {
        let secret = try await self.services.users.secret(named: "management-tokens", count: 64)
        let tokens = await TokenIssuer(
            secret: secret,
            ended: try await self.services.users.endedLogins(),
            options: self.options,
            now: self.now
        )
        let logins = LoginService(
            users: self.services.users,
            passwordThread: passwordThread,
            options: self.options,
            now: self.now
        )
        let routes = Self.routes(
            services: self.services,
            options: self.options,
            logins: logins,
            tokens: tokens,
            now: self.now,
            health: self.health,
            metrics: self.metrics,
            runningQueues: self.runningQueues
        )
        let responder = APIResponder(
            routes: routes,
            authenticator: Authenticator(tokens: tokens, services: self.services, options: self.options, now: self.now),
            audit: AuditLog(service: self.services.audit, logger: self.logger, now: self.now),
            options: self.options,
            logger: self.logger,
            now: self.now
        )

        let (options, now, onListening) = (self.options, self.now, self.onListening)
        let host = options.host
        let tls = try options.tls.map {
            try TLSContext($0, applicationProtocols: ["http/1.1"], logger: self.logger)
        }
        // Hummingbird tells on level info what the host tells in its own words.
        var quiet = self.logger
        quiet.logLevel = max(quiet.logLevel, .notice)
        let application = Application(
            responder: responder,
            server: HTTPServerBuilder { responder in
                ManagementChannel(
                    options: options,
                    tls: tls,
                    beginnings: RateLimiter(perSecond: options.addressConnectionsPerSecondMax),
                    now: now,
                    responder: responder
                )
            },
            configuration: ApplicationConfiguration(
                address: .hostname(host, port: self.options.port),
                availableConnectionsDelegate: MaximumAvailableConnections(self.options.connectionsMax, logger: quiet)
            ),
            onServerRunning: { channel in
                let address = channel.localAddress
                await onListening(
                    Listener(scheme: "http", host: address?.ipAddress ?? host, port: address?.port ?? 0)
                )
            },
            eventLoopGroupProvider: .shared(self.eventLoopGroup),
            logger: quiet
        )
        let timeout = self.options.shutdownTimeout
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await application.run() }
            if let tls { group.addTask { await tls.watch(clock: ContinuousClock()) } }
            group.addTask {
                try? await gracefulShutdown()
                try? await Task.sleep(for: timeout)
            }
            // Whichever ends first ends the other: the server when all requests are answered, or the time for that.
            try await group.next()
            group.cancelAll()
            do {
                try await group.waitForAll()
            } catch is CancellationError {
                return
            }
        }
    }

    /// All paths, as they are served.
    static func routes(
        services: ManagementServices,
        options: Options,
        logins: LoginService,
        tokens: TokenIssuer,
        now: @escaping @Sendable () -> Timestamp,
        health: @escaping @Sendable () async -> [String: Bool],
        metrics: @escaping @Sendable () async throws -> [MetricFamily] = { [] },
        runningQueues: @escaping @Sendable () -> [QueueName] = { [] }
    ) -> RouteTable {
        var routes = RouteTable()
        AuthRoutes(logins: logins, tokens: tokens, users: services.users).add(to: &routes)
        PasswordRoutes(logins: logins, tokens: tokens, users: services.users).add(to: &routes)
        TenantRoutes(services: services, now: now).add(to: &routes)
        UserRoutes(services: services, tokens: tokens, now: now).add(to: &routes)
        ApiKeyRoutes(services: services, now: now).add(to: &routes)
        AuditRoutes(services: services).add(to: &routes)
        HealthRoutes(health: health).add(to: &routes)
        MetricsRoutes(metrics: metrics).add(to: &routes)
        PackageRoutes(services: services, options: options, now: now).add(to: &routes)
        DeviceRoutes(services: services, now: now).add(to: &routes)
        DeviceProfileRoutes(services: services, now: now).add(to: &routes)
        TelemetryRoutes(services: services, now: now).add(to: &routes)
        UpdateRoutes(services: services).add(to: &routes)
        QueueRoutes(services: services, running: runningQueues).add(to: &routes)
        RPCRoutes(services: services, now: now).add(to: &routes)
        EntityQueryRoutes(services: services, now: now).add(to: &routes)
        OpenAPIRoutes().add(to: &routes)
        return routes
    }
}

/// The services of the host that the API speaks for.
struct ManagementServices: Sendable {
    let packages: any OtaPackageService
    let devices: any DeviceService
    let profiles: any DeviceProfileService
    let credentials: any DeviceCredentialsService
    let attributes: any AttributesService
    let timeseries: any TimeseriesService
    let entities: any EntityQueryService
    let updates: any UpdateService
    let tenants: any TenantService
    let updateControl: any UpdateControlService
    let deviceQueries: any DeviceQueryService
    let users: any UserService
    let keys: any ApiKeyService
    let audit: any AuditService
    let calls: DeviceCalls
    let storedCalls: any PersistentCallService
    let queues: any MessageQueues

    init(_ registry: ServiceRegistry) throws(NodeError) {
        func require<Service>(_ type: Service.Type) throws(NodeError) -> Service {
            guard let service = registry[type] else {
                throw NodeError(
                    "missing-service",
                    "the management API needs '\(type)', which this host does not provide"
                )
            }
            return service
        }
        self.packages = try require((any OtaPackageService).self)
        self.devices = try require((any DeviceService).self)
        self.profiles = try require((any DeviceProfileService).self)
        self.credentials = try require((any DeviceCredentialsService).self)
        self.attributes = try require((any AttributesService).self)
        self.timeseries = try require((any TimeseriesService).self)
        self.entities = try require((any EntityQueryService).self)
        self.updates = try require((any UpdateService).self)
        self.tenants = try require((any TenantService).self)
        self.updateControl = try require((any UpdateControlService).self)
        self.deviceQueries = registry[(any DeviceQueryService).self] ?? EntityQueries(entities: self.entities)
        self.users = try require((any UserService).self)
        self.keys = try require((any ApiKeyService).self)
        self.audit = try require((any AuditService).self)
        self.calls = try require(DeviceCalls.self)
        self.storedCalls = try require((any PersistentCallService).self)
        self.queues = try require((any MessageQueues).self)
    }
}
