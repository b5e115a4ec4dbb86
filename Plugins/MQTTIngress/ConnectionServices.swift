import FoundationEssentials
import IngressKit
import Logging
import NIOCore
import NodeKit
import OTA
import Synchronization

/// What all connections of a node share.
final class ConnectionServices: Sendable {
    let limits: Limits
    let outlet: any Outlet
    let authenticator: any DeviceAuthenticator
    let packages: any OtaPackageService
    let deviceSessions: DeviceSessions
    let connections: Connections
    let kept: KeptSessions
    let profileTopics = ProfileTopicsTable()
    /// By device.
    let deviceLimiter: RateLimiter<UUID>
    /// By address.
    let addressLimiter: RateLimiter<String>
    let rateLimits: RateLimits
    let metrics: TransportMetrics
    let now: @Sendable () -> Timestamp
    let tasks: BackgroundTasks
    let logger: Logger
    private let loops = Mutex<[ObjectIdentifier: LoopServices]>([:])

    init(
        limits: Limits,
        rateLimits: RateLimits,
        outlet: any Outlet,
        authenticator: any DeviceAuthenticator,
        packages: any OtaPackageService,
        deviceSessions: DeviceSessions,
        connections: Connections,
        metrics: TransportMetrics = TransportMetrics(),
        now: @escaping @Sendable () -> Timestamp,
        tasks: BackgroundTasks,
        logger: Logger
    ) {
        self.limits = limits
        self.outlet = outlet
        self.authenticator = authenticator
        self.packages = packages
        self.deviceSessions = deviceSessions
        self.connections = connections
        self.rateLimits = rateLimits
        self.deviceLimiter = RateLimiter(perSecond: rateLimits.deviceRequestsPerSecondMax)
        self.addressLimiter = RateLimiter(perSecond: rateLimits.addressConnectionsPerSecondMax)
        self.kept = KeptSessions(limits: limits, deviceSessions: deviceSessions)
        self.metrics = metrics
        self.now = now
        self.tasks = tasks
        self.logger = logger
    }

    /// The answer to a request that failed, which is counted if it is dropped.
    func failure(_ error: NodeError) -> Answer {
        if error.isNullCharacter { self.metrics.droppedForNull.add() }
        return .failure(error)
    }

    /// What the connections of an event loop share; call on it.
    func services(of eventLoop: any EventLoop) -> LoopServices {
        self.loops.withLock { loops in
            if let services = loops[ObjectIdentifier(eventLoop)] { return services }
            let services = LoopServices(eventLoop, connections: self.connections)
            loops[ObjectIdentifier(eventLoop)] = services
            return services
        }
    }

    /// Carries out the wills of sessions that ended or whose devices did not come back in time; call on the event loop.
    ///
    /// No connection is left to wait for them: each ends when the chain is done with one message.
    func publishWills(of departures: [KeptSessions.Departure], on eventLoop: any EventLoop) {
        for departure in departures {
            guard let will = departure.will else { continue }
            let isBegun = self.tasks.spawn(on: self.services(of: eventLoop).executor) {
                _ = await DeviceRequests(device: departure.device, services: self).answer(will.request)
            }
            guard !isBegun else { continue }
            self.logger.warning(
                "a will was not published: too many tasks are under way, or the host stops",
                metadata: ["device.name": "\(departure.device.name)"]
            )
        }
    }
}

/// What the connections of one event loop share.
final class LoopServices: Sendable {
    let executor: EventLoopTaskExecutor
    private let wheel: NIOLoopBound<DeadlineWheel>

    init(_ eventLoop: any EventLoop, connections: Connections) {
        self.executor = EventLoopTaskExecutor(eventLoop)
        self.wheel = NIOLoopBound(DeadlineWheel(eventLoop, connections: connections), eventLoop: eventLoop)
    }

    /// The deadlines of these connections; on their event loop only.
    var deadlines: DeadlineWheel { self.wheel.value }
}
