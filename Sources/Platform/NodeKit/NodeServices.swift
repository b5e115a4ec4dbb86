public import Logging
public import NIOCore

/// What the host lends a node.
///
/// A node takes from it, in its initializer, the narrow things that it uses.
public struct NodeServices: Sendable {
    /// The name of the chain that the node is in.
    public var chain: String
    /// The node's identifier in its chain.
    public var node: String
    /// A logger that carries chain and node.
    public var logger: Logger
    /// The event loops that all connections share.
    public var eventLoopGroup: any EventLoopGroup
    /// The clock for waiting; tests pass their own.
    public var clock: any Clock<Duration>
    /// The time of day; tests pass their own.
    public var now: @Sendable () -> Timestamp
    /// Tasks that outlive the call that begins them, shared by all nodes of the host.
    public var tasks: BackgroundTasks
    private var registry: ServiceRegistry

    /// Lends services to one node.
    public init(
        chain: String,
        node: String,
        logger: Logger,
        eventLoopGroup: any EventLoopGroup,
        clock: any Clock<Duration> = ContinuousClock(),
        now: @escaping @Sendable () -> Timestamp = { .now },
        tasks: BackgroundTasks = BackgroundTasks(),
        registry: ServiceRegistry
    ) {
        self.chain = chain
        self.node = node
        self.logger = logger
        self.eventLoopGroup = eventLoopGroup
        self.clock = clock
        self.now = now
        self.tasks = tasks
        self.registry = registry
    }

    /// Starts a task that outlives the call; see ``BackgroundTasks/spawn(on:_:)``.
    @discardableResult
    public func spawn(on executor: (any TaskExecutor)? = nil, _ body: @escaping @Sendable () async -> Void) -> Bool {
        self.tasks.spawn(on: executor, body)
    }

    /// The service of this type, if the host provides it.
    public func find<Service>(_ type: Service.Type) -> Service? { self.registry[type] }

    /// The service of this type, such as `(any DeviceAuthenticator).self`.
    ///
    /// - Throws: ``NodeError`` with code `missing-service` if the host does not provide it.
    public func require<Service>(_ type: Service.Type) throws(NodeError) -> Service {
        guard let service = self.registry[type] else {
            throw NodeError("missing-service", "node '\(self.node)' needs '\(type)', which this host does not provide")
        }
        return service
    }

    /// The queue of this node for messages that wait and must survive a restart.
    ///
    /// Its type declares ``NodeDescriptor/Traits/isQueue``: the host warns of messages in queues of which no running node has that trait.
    public func messageQueue() throws(NodeError) -> any MessageQueue {
        let name = QueueName(chain: self.chain, node: self.node)
        return try self.require((any MessageQueues).self).queue(named: name.description)
    }
}

/// The services of a host, one of each type.
public struct ServiceRegistry: Sendable {
    private var services: [ObjectIdentifier: any Sendable] = [:]

    /// Makes a registry without services.
    public init() {}

    /// The service registered under a type, which is usually that of a protocol: `(any MessageQueues).self`.
    public subscript<Service>(type: Service.Type) -> Service? {
        self.services[ObjectIdentifier(type)] as? Service
    }

    /// Registers a service under a type, in place of one registered before.
    public mutating func register<Service>(_ service: any Sendable, as type: Service.Type) {
        precondition(service is Service, "a service must be of the type that it is registered as")
        self.services[ObjectIdentifier(type)] = service
    }
}
