import Logging
public import NodeKit
import OTA

/// Sends one message for each update that stands still for too long: `UPDATE_STALLED`.
///
/// What counts is the host's clock and when the update's state or progress changed last, so a slow download is none that stands
/// still. The message decides nothing: lead it to `retry-update` or `fail-update`. An update that the chain leaves as it is comes
/// again after the same time. Nothing is kept in memory; each look reads only what is due, by an index.
///
/// | Relation  | When                                                     |
/// |-----------|----------------------------------------------------------|
/// | `Success` | An update did not move for the time that its state has.  |
public struct StalledNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "stalled",
        summary: "Sends one message for each update that stands still for too long (UPDATE_STALLED).",
        relations: [RelationDescriptor(.success, "An update did not move for the time that its state has.")],
        attributes: Self.watchable.map { state in
            .duration(
                Self.attributeName(of: state),
                .seconds,
                default: 0,
                in: 0...315_360_000,
                summary: "How long an update may stand still in \(state.rawValue); 0 for as long as it likes."
            )
        } + [
            .duration(
                "look-interval-seconds",
                .seconds,
                default: 60,
                in: 1...86_400,
                summary: "How often to look; an update is told of up to this much later."
            ),
            .integer(
                "in-flight-max",
                default: 64,
                in: 1...4096,
                summary: "How many messages go on side by side."
            ),
        ],
        variables: [
            .packageType, VariableDescriptor(MessageKey.packageId, "The identifier of the package."),
            VariableDescriptor(MessageKey.title, "The package's title."),
            VariableDescriptor(MessageKey.version, "The package's version."),
            VariableDescriptor(MessageKey.state, "The state in which the update stands still."),
            VariableDescriptor(MessageKey.attempts, "How many attempts there were, this one included."),
            VariableDescriptor(MessageKey.activeTime, "When it moved last, in milliseconds since 1970."),
            VariableDescriptor("stalledSeconds", "How long it has stood still."),
        ]
    )

    /// The states in which an update can stand still.
    static let watchable = OtaUpdateState.allCases.filter { !$0.isFinal }
    /// How many updates are read at once.
    static let pageSize = 256

    private let limits: [(state: OtaUpdateState, limit: Duration)]
    private let lookInterval: Duration
    private let inFlightMax: Int
    private let stalled: any StalledUpdateService
    private let clock: any Clock<Duration>
    private let now: @Sendable () -> Timestamp
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.limits = Self.watchable.compactMap { state in
            let limit = configuration.duration(Self.attributeName(of: state))
            return limit == .zero ? nil : (state, limit)
        }
        self.lookInterval = configuration.duration("look-interval-seconds")
        self.inFlightMax = Int(configuration.integer("in-flight-max"))
        self.stalled = try services.require((any StalledUpdateService).self)
        self.clock = services.clock
        self.now = services.now
        self.logger = services.logger
    }

    private static func attributeName(of state: OtaUpdateState) -> String { "\(state.rawValue.lowercased())-seconds" }

    /// Looks now and then until its task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        while !Task.isCancelled {
            for (state, limit) in self.limits { try await self.tell(of: state, limit, outlet) }
            // Cancellation shows in the loop's condition.
            try? await self.clock.sleep(for: self.lookInterval)
        }
    }

    /// Tells of all updates that stand still in a state.
    private func tell(of state: OtaUpdateState, _ limit: Duration, _ outlet: any Outlet) async throws {
        while !Task.isCancelled {
            let now = self.now()
            let page = try await self.stalled.stalledUpdates(
                in: state,
                since: now.adding(.zero - limit),
                limit: Self.pageSize
            )
            let handledCount = try await withThrowingTaskGroup(of: Bool.self) { group in
                var handledCount = 0
                for (index, update) in page.enumerated() {
                    if index >= self.inFlightMax, try await group.next() == true { handledCount += 1 }
                    group.addTask { try await self.tell(update, at: now, outlet) }
                }
                for try await isHandled in group where isHandled { handledCount += 1 }
                return handledCount
            }
            // What could not be handled now is found again the next time.
            guard page.count == Self.pageSize, handledCount > 0 else { return }
        }
    }

    private func tell(_ update: StalledUpdate, at now: Timestamp, _ outlet: any Outlet) async throws -> Bool {
        guard !Task.isCancelled else { return false }
        if case .failed(let error) = await outlet.send(Self.message(for: update, at: now)) {
            self.logger.log(
                level: error.isRetryable ? .debug : .error,
                "an update that stands still could not be handled",
                metadata: ["device.name": "\(update.device.name)", "error": "\(error)"]
            )
            guard !error.isRetryable else { return false }
        }
        try await self.stalled.toldStalled(update)
        return true
    }

    private static func message(for update: StalledUpdate, at now: Timestamp) -> Message {
        let record = update.record
        var message = Message(
            originator: update.device,
            type: .updateStalled,
            metadata: [
                MessageKey.packageType: .string(record.type.rawValue),
                MessageKey.title: .string(record.title),
                MessageKey.version: .string(record.version),
                MessageKey.state: .string(record.state.rawValue),
                MessageKey.attempts: .integer(Int64(max(1, record.attempts))),
                MessageKey.activeTime: .integer(record.activeTime.rawValue),
                "stalledSeconds": .integer(record.activeTime.duration(to: now).components.seconds),
            ],
            timestamp: now
        )
        message.metadata[MessageKey.packageId] = (record.packageId?.description).map(JSON.string)
        return message
    }
}
