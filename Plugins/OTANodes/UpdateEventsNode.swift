import FoundationEssentials
import Logging
public import NodeKit
import OTA

/// Sends one message for each change of an update's state: `UPDATE_QUEUED` … `UPDATE_UPDATED`, `UPDATE_FAILED`, `UPDATE_CANCELLED`,
/// `UPDATE_TIMED_OUT`; and `UPDATE_INTERRUPTED` when a device restarts in the middle of its update.
///
/// Reads what is appended to the history of updates, so it costs nothing when an update changes and survives a restart: what the chain
/// has not handled when the host stops comes again, and what it has may, so each comes at least once. The messages of one device come in
/// order. A new node sends what happens from now on; it is known by its chain and its id.
///
/// | Relation  | When                                                                |
/// |-----------|---------------------------------------------------------------------|
/// | `Success` | An update came to another state, was retried, or was interrupted.   |
public struct UpdateEventsNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "update-events",
        summary:
            "Sends one message for each change of an update's state (UPDATE_QUEUED … UPDATE_FAILED, UPDATE_INTERRUPTED).",
        relations: [RelationDescriptor(.success, "An update came to another state, was retried, or was interrupted.")],
        attributes: [
            .integer(
                "in-flight-max",
                default: 64,
                in: 1...4096,
                summary: "How many devices' changes go on side by side."
            )
        ],
        variables: [
            .packageType,
            VariableDescriptor(MessageKey.packageId, "The identifier of the package, if it still exists."),
            VariableDescriptor(MessageKey.title, "The package's title."),
            VariableDescriptor(MessageKey.version, "The package's version."),
            VariableDescriptor(MessageKey.state, "The state that the update came to, or INTERRUPTED."),
            VariableDescriptor(
                MessageKey.cause,
                "Why the server changed it: RETRIED, RESENT, CANCELLED, TIMED_OUT, ALREADY_INSTALLED, ROLLED_BACK or OTHER_VERSION; else empty."
            ),
            VariableDescriptor(MessageKey.error, "Why the update failed, in words."),
        ]
    )

    /// How many changes are read at once, and so may come again after a restart.
    static let pageSize = 256
    /// The pause before a message is sent again the first time; it doubles up to ``retryPauseMax``.
    static let retryPauseMin = Duration.milliseconds(100)
    /// The longest pause before a message is sent again.
    static let retryPauseMax = Duration.seconds(30)

    private let reader: String
    private let inFlightMax: Int
    private let events: any UpdateEventService
    private let clock: any Clock<Duration>
    private let tasks: BackgroundTasks
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.reader = "\(services.chain)/\(services.node)"
        self.inFlightMax = Int(configuration.integer("in-flight-max"))
        self.events = try services.require((any UpdateEventService).self)
        self.clock = services.clock
        self.tasks = services.tasks
        self.logger = services.logger
    }

    /// Hands on changes until its task is cancelled.
    ///
    /// - Throws: What the store throws; nothing is lost then.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        try await self.events.addReader(self.reader)
        var mark = try await self.events.waitForUpdateEvents(since: nil)
        while !Task.isCancelled {
            let events = try await self.events.updateEvents(unreadBy: self.reader, limit: Self.pageSize)
            guard !events.isEmpty else {
                mark = try await self.events.waitForUpdateEvents(since: mark)
                continue
            }
            guard await self.deliver(events, to: outlet) else { return }
            // What the chain is done with is noted also when the host is stopping.
            try await self.tasks.withoutCancellation { try await self.events.noteRead(events, by: self.reader) }
        }
    }

    /// Sends changes, those of one device one after the other.
    ///
    /// - Returns: Whether the chain is done with all of them; `false` only if the task was cancelled before.
    private func deliver(_ events: [UpdateEvent], to outlet: any Outlet) async -> Bool {
        var lanes: [[UpdateEvent]] = []
        var laneIndexes: [UUID: Int] = [:]
        for event in events {
            if let index = laneIndexes[event.device.id] {
                lanes[index].append(event)
            } else {
                laneIndexes[event.device.id] = lanes.count
                lanes.append([event])
            }
        }
        return await withTaskGroup(of: Bool.self) { group in
            var isDone = true
            for (index, lane) in lanes.enumerated() {
                if index >= self.inFlightMax, await group.next() == false { isDone = false }
                group.addTask {
                    for event in lane {
                        guard await self.deliver(event, to: outlet) else { return false }
                    }
                    return true
                }
            }
            for await isLaneDone in group where !isLaneDone { isDone = false }
            return isDone
        }
    }

    private func deliver(_ event: UpdateEvent, to outlet: any Outlet) async -> Bool {
        let message = Self.message(for: event)
        var pause = Self.retryPauseMin
        while !Task.isCancelled {
            guard case .failed(let error) = await outlet.send(message) else { return true }
            self.logger.log(
                level: !error.isRetryable ? .error : pause == Self.retryPauseMin ? .warning : .debug,
                error.isRetryable
                    ? "a change of an update could not be handled now and is tried again"
                    : "a change of an update could not be handled and is given up",
                metadata: ["device.name": "\(event.device.name)", "error": "\(error)"]
            )
            guard error.isRetryable else { return true }
            do { try await self.clock.sleep(for: pause) } catch { return false }
            pause = min(pause * 2, Self.retryPauseMax)
        }
        return false
    }

    private static func message(for event: UpdateEvent) -> Message {
        let entry = event.entry
        let type: MessageType =
            switch entry.cause {
            case .cancelled: .updateCancelled
            case .timedOut: .updateTimedOut
            default: MessageType(rawValue: "UPDATE_\(entry.state)")
            }
        let known: JSON.Object = [
            MessageKey.packageType: .string(entry.type.rawValue),
            MessageKey.packageId: (event.packageId?.description).map(JSON.string) ?? .null,
            MessageKey.title: .string(entry.title),
            MessageKey.version: .string(entry.version),
            MessageKey.state: .string(entry.state),
            MessageKey.cause: (entry.cause?.rawValue).map(JSON.string) ?? .null,
            MessageKey.error: entry.error.map(JSON.string) ?? .null,
        ]
        var data: JSON.Object = [
            "eventId": .integer(entry.id),
            "ts": .integer(entry.timestamp.rawValue),
            "deviceId": .string(entry.deviceId.description),
            "deviceName": .string(event.device.name),
            "deviceType": .string(event.device.type),
        ]
        for member in known.members { data[member.name] = member.value }
        return Message(
            originator: event.device,
            type: type,
            metadata: Metadata(known.withoutNulls),
            data: .json(.object(data)),
            timestamp: entry.timestamp
        )
    }
}
