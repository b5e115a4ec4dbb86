import Logging
import NIOPosix
public import NodeKit
public import OTA
public import Store

/// The domain in memory, for one test: the store with all of its rules, and whatever else a host lends its nodes, in a time that
/// stands still until the test moves it.
///
/// Nothing is shared between two domains. What is written is stored when the call returns, without another thread.
public final class TestDomain: Sendable {
    /// The clock for waiting; the time of day moves with it.
    public let clock = ManualClock()
    /// Who listens on behalf of devices.
    public let sessions = DeviceSessions()
    /// Calls of devices, of which the first has the identifier 1.
    public let calls: DeviceCalls
    /// The links to the bytes of packages.
    public let links = DownloadLinks(secret: [1, 2, 3])
    /// What is stored: all services of the domain in one.
    public let store: SQLiteStore
    /// Where all that works on its own runs.
    public let executor = TestExecutor()
    /// The tasks that nodes leave behind.
    public let tasks: BackgroundTasks
    /// The time of day.
    public let now: @Sendable () -> Timestamp

    /// Makes an empty domain, with a tenant and its default profile.
    ///
    /// - Parameters:
    ///   - start: The time of day at first.
    ///   - options: What an operator decides about a store.
    /// - Throws: ``NodeError`` if SQLite has no memory.
    public init(
        at start: Timestamp = Timestamp(milliseconds: 1_700_000_000_000),
        options: SQLiteStore.Options = SQLiteStore.Options()
    ) throws {
        let clock = self.clock
        let now: @Sendable () -> Timestamp = { start.adding(clock.now.offset) }
        self.now = now
        self.tasks = BackgroundTasks(executor: self.executor)
        self.calls = DeviceCalls(sessions: self.sessions, clock: clock, lastRequest: 0)
        self.store = try SQLiteStore.inMemory(sessions: self.sessions, options: options, clock: clock, now: now)
    }

    /// All services of the domain.
    public var registry: ServiceRegistry {
        var registry = ServiceRegistry()
        self.store.register(in: &registry)
        registry.register(self.calls, as: DeviceCalls.self)
        registry.register(self.links, as: DownloadLinks.self)
        return registry
    }

    /// What the host lends a node.
    ///
    /// - Parameters:
    ///   - register: Adds services, or puts others in place of the domain's, such as one that fails.
    ///   - node: The node's identifier in its chain.
    ///   - clock: The clock for waiting, if it is not to be that of the domain.
    /// - Returns: The services of the node.
    public func services(
        _ register: (inout ServiceRegistry) -> Void = { _ in },
        node: String = "node",
        clock: (any Clock<Duration>)? = nil
    ) -> NodeServices {
        var registry = self.registry
        register(&registry)
        return NodeServices(
            chain: "test",
            node: node,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            clock: clock ?? self.clock,
            now: self.now,
            tasks: self.tasks,
            registry: registry
        )
    }

    /// What the host lends a node on a socket, where time passes by itself.
    ///
    /// - Parameters:
    ///   - register: Adds services, or puts others in place of the domain's.
    ///   - now: The time of day.
    /// - Returns: The services of the node.
    public func live(
        _ register: (inout ServiceRegistry) -> Void = { _ in },
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) -> NodeServices {
        var services = self.services(register, clock: ContinuousClock())
        services.now = now
        return services
    }
}

extension TestDomain: DomainFixture {
    /// The store, which has all services of the domain.
    public var stored: any DomainServices { self.store }
}
