import Logging
public import NodeKit
import OTA
import Synchronization
import Waiting

/// Tells when devices become active and inactive.
///
/// All messages of devices pass it and go on at once; what it tells are messages of its own, whose data is what ThingsBoard keeps
/// as server attributes of the device. A device is active from its first message on, until nothing was heard of it for some
/// time. Which devices are active is in memory; after a restart those are whose attribute `active` is true, and they have the
/// whole time again.
///
/// | Relation       | When                                                            |
/// |----------------|-----------------------------------------------------------------|
/// | `Success`      | A device sent a message.                                        |
/// | `Active`       | A device became active (`ACTIVITY_EVENT`).                      |
/// | `Inactive`     | It became inactive (`INACTIVITY_EVENT`).                        |
/// | `Seen`         | It is active as before, and was heard of again.                 |
/// | `Connected`    | A session of it began (`CONNECT_EVENT`).                        |
/// | `Disconnected` | A session of it ended (`DISCONNECT_EVENT`).                     |
public struct ActivityNode: ImmediateNode, IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "activity",
        summary: "Tells when devices become active and inactive, with what is to be kept as server attributes.",
        relations: [
            RelationDescriptor(.success, "A device sent a message; it goes on as it came."),
            RelationDescriptor("Active", "A device became active (ACTIVITY_EVENT)."),
            RelationDescriptor("Inactive", "A device became inactive (INACTIVITY_EVENT)."),
            RelationDescriptor("Seen", "A device is active as before, and its 'lastActivityTime' is another."),
            RelationDescriptor("Connected", "A session of a device began (CONNECT_EVENT)."),
            RelationDescriptor("Disconnected", "A session of a device ended (DISCONNECT_EVENT)."),
        ],
        attributes: [
            .duration(
                "inactivity-timeout-seconds",
                .seconds,
                default: 600,
                in: 1...31_536_000,
                summary: "After how much silence a device is inactive; told up to a tenth of it, at most 60 s, later."
            ),
            .duration(
                "seen-interval-seconds",
                .seconds,
                default: 300,
                in: 0...31_536_000,
                summary:
                    "How often 'lastActivityTime' is told of an active device; 0 for only when it becomes inactive."
            ),
            .integer(
                "devices-max",
                default: 1_000_000,
                in: 1...100_000_000,
                summary: "About how many devices may be active; what others do is not noticed."
            ),
        ]
    )

    /// The longest time between two looks for devices that became inactive.
    static let lookIntervalMax = Duration.seconds(60)
    /// How many messages go on side by side.
    static let inFlightMax = 64
    /// How many devices are read at once after a restart.
    static let pageSize = 1000

    private let timeout: Duration
    private let seenInterval: Duration?
    private let table: ActivityTable
    private let news = Signal()
    private let attributes: any AttributesService
    private let clock: any Clock<Duration>
    private let now: @Sendable () -> Timestamp
    private let logger: Logger
    private let fullness = Fullness()

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.timeout = configuration.duration("inactivity-timeout-seconds")
        let interval = configuration.duration("seen-interval-seconds")
        self.seenInterval = interval == .zero ? nil : interval
        self.table = ActivityTable(countMax: Int(configuration.integer("devices-max")))
        self.attributes = try services.require((any AttributesService).self)
        self.clock = services.clock
        self.now = services.now
        self.logger = services.logger
    }

    /// Notes that the device was heard of, and lets the message go on.
    public func decide(_ message: consuming Message) throws -> Emission {
        guard !message.originator.isUnknown else { return .route(message, to: .success) }
        switch message.type {
        case .connectEvent:
            self.heard(of: message)
            return Self.route(message, and: "Connected", ["lastConnectTime": .integer(message.timestamp.rawValue)])
        case .disconnectEvent:
            // Its end is no sign of life.
            let values: JSON.Object = ["lastDisconnectTime": .integer(message.timestamp.rawValue)]
            return Self.route(message, and: "Disconnected", values)
        default:
            self.heard(of: message)
            return .route(message, to: .success)
        }
    }

    private static func route(_ message: Message, and relation: Relation, _ values: JSON.Object) -> Emission {
        var event = message
        event.data = .json(.object(values))
        return .routes([(message, .success), (event, relation)])
    }

    private func heard(of message: Message) {
        switch self.table.heard(of: message.originator, at: message.timestamp) {
        case .known: break
        case .new: self.news.raise()
        case .full:
            guard self.fullness.isFirst() else { return }
            self.logger.warning(
                "more devices are active than are watched; raise 'devices-max'",
                metadata: ["devices.count": "\(self.table.count)"]
            )
        }
    }

    /// Tells what becomes of devices until its task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        try await self.restore()
        await withDiscardingTaskGroup { group in
            let lookInterval = max(.seconds(1), min(Self.lookIntervalMax, self.timeout / 10))
            group.addTask {
                while (try? await self.clock.sleep(for: lookInterval)) != nil { self.news.raise() }
            }
            while !Task.isCancelled {
                let seen = self.news.count
                await self.tell(outlet)
                await self.news.wait(since: seen)
            }
            group.cancelAll()
        }
    }

    /// Takes over which devices were active when the host last ran.
    private func restore() async throws {
        var last: DeviceId?
        while !Task.isCancelled {
            let page = try await self.attributes.devices(
                withAttribute: "active",
                equalTo: true,
                in: .server,
                after: last,
                limit: Self.pageSize
            )
            let now = self.now()
            for device in page { self.table.restore(device, at: now) }
            guard page.count == Self.pageSize else { return }
            last = page.last.map { DeviceId($0.id) }
        }
    }

    /// Tells what is due: of each device at most one message, so that its messages are in order.
    func tell(_ outlet: any Outlet) async {
        let due = self.table.takeDue(at: self.now(), timeout: self.timeout, interval: self.seenInterval)
        await withTaskGroup(of: Void.self) { group in
            var count = 0
            func start(_ entry: ActivityTable.Entry, _ event: ActivityEvent) async {
                count += 1
                if count > Self.inFlightMax { await group.next() }
                group.addTask { await self.tell(event, of: entry, outlet) }
            }
            for entry in due.inactive { await start(entry, .inactive) }
            for entry in due.active { await start(entry, .active) }
            for entry in due.seen { await start(entry, .seen) }
        }
    }

    private func tell(_ event: ActivityEvent, of entry: ActivityTable.Entry, _ outlet: any Outlet) async {
        // What is not begun when the host stops is found again after the restart.
        guard !Task.isCancelled else { return self.table.giveBack(entry) }
        let message = event.message(of: entry, at: self.now())
        guard case .failed(let error) = await outlet.send(message, by: event.relation) else { return }
        if error.isRetryable {
            self.table.giveBack(entry)
        } else if error.code == .notFound {
            // The device was removed since it was last heard of.
            self.table.forget(entry.device.id)
        }
        self.logger.log(
            level: error.isRetryable || error.code == .notFound ? .debug : .error,
            "the activity of a device could not be told",
            metadata: ["device.name": "\(entry.device.name)", "error": "\(error)"]
        )
    }
}

/// What is told of a device.
private enum ActivityEvent {
    case active, inactive, seen

    var relation: Relation {
        switch self {
        case .active: "Active"
        case .inactive: "Inactive"
        case .seen: "Seen"
        }
    }

    func message(of entry: ActivityTable.Entry, at now: Timestamp) -> Message {
        let lastActivity = JSON.integer(entry.lastActivity.rawValue)
        let values: JSON.Object =
            switch self {
            case .active: ["active": true, "lastActivityTime": lastActivity]
            case .inactive:
                ["active": false, "inactivityAlarmTime": .integer(now.rawValue), "lastActivityTime": lastActivity]
            case .seen: ["lastActivityTime": lastActivity]
            }
        return Message(
            originator: entry.device,
            type: self == .inactive ? .inactivityEvent : .activityEvent,
            data: .json(.object(values)),
            timestamp: now
        )
    }
}
