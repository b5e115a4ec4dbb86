import Logging
public import NodeKit
import OTA

/// Lets an update that failed or stands still begin again, after a pause that doubles with each attempt.
///
/// When its time has come the update is QUEUED again, as a new attempt, and its message comes from `assignments`, as that of a new
/// package does. Until then it is FAILED; a device that begins again by itself, and an administrator who retries or cancels, is
/// not held up. What waits is stored.
///
/// | Relation    | When                                                                                     |
/// |-------------|------------------------------------------------------------------------------------------|
/// | `Success`   | The update begins again at `retryTime`.                                                  |
/// | `Exhausted` | There were as many attempts as allowed; nothing was changed.                             |
/// | `Unchanged` | The update is neither FAILED nor stands still, was cancelled, or its package is another. |
/// | `Failure`   | The kind of package is not known, or the store could not answer.                         |
public struct RetryUpdateNode: Node, IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "retry-update",
        summary:
            "Lets an update that failed or stands still begin again, after a pause that doubles with each attempt.",
        relations: [
            RelationDescriptor(.success, "The update begins again at 'retryTime'."),
            RelationDescriptor("Exhausted", "There were as many attempts as allowed; nothing was changed."),
            RelationDescriptor(
                "Unchanged",
                "The update is neither FAILED nor stands still, was cancelled, or its package is another."
            ),
            RelationDescriptor(.failure, "The kind of package is not known, or the store could not answer."),
        ],
        attributes: [
            .integer(
                "attempts-max",
                default: 3,
                in: 1...1000,
                summary: "How many attempts an update has, the first one included."
            ),
            .duration(
                "backoff-seconds",
                .seconds,
                default: 60,
                in: 0...31_536_000,
                summary: "The pause before the second attempt; it doubles with each further one."
            ),
            .duration(
                "backoff-max-seconds",
                .seconds,
                default: 86_400,
                in: 0...31_536_000,
                summary: "The longest pause."
            ),
        ],
        variables: [
            VariableDescriptor(MessageKey.attempts, "How many attempts there were."),
            VariableDescriptor("retryTime", "When the update begins again, in milliseconds since 1970."),
        ]
    )

    /// How often to look what is due.
    static let lookInterval = Duration.seconds(1)
    /// How many updates begin again in one transaction.
    static let batchSize = 1000

    private let attemptsMax: Int
    private let backoff: Duration
    private let backoffMax: Duration
    private let updates: any UpdateService
    private let retries: any UpdateRetryService
    private let clock: any Clock<Duration>
    private let now: @Sendable () -> Timestamp

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.attemptsMax = Int(configuration.integer("attempts-max"))
        self.backoff = configuration.duration("backoff-seconds")
        self.backoffMax = configuration.duration("backoff-max-seconds")
        self.updates = try services.require((any UpdateService).self)
        self.retries = try services.require((any UpdateRetryService).self)
        self.clock = services.clock
        self.now = services.now
    }

    /// Stores when the update begins again.
    public func process(_ message: Message) async throws -> Emission {
        let type = try message.packageType()
        guard let record = try await self.updates.updateRecord(of: message.device, type: type) else {
            return .route(message, to: "Unchanged")
        }
        let attempts = max(1, record.attempts)
        var message = message
        message.metadata[MessageKey.attempts] = .integer(Int64(attempts))
        guard attempts < self.attemptsMax else { return .route(message, to: "Exhausted") }
        let time = self.now().adding(self.pause(after: attempts))
        let isScheduled: Bool
        if let reason = message.stallReason {
            isScheduled = try await self.retries.fail(
                message.device,
                type,
                ifUnmovedSince: message.unmovedSince,
                cause: .timedOut,
                reason: "\(reason); attempt \(attempts + 1) of \(self.attemptsMax) follows",
                retryAt: time
            )
        } else {
            isScheduled = try await self.retries.scheduleRetry(of: message.device, type, at: time)
        }
        guard isScheduled else { return .route(message, to: "Unchanged") }
        message.metadata["retryTime"] = .integer(time.rawValue)
        return .route(message, to: .success)
    }

    /// The pause after so many attempts.
    private func pause(after attempts: Int) -> Duration {
        var pause = self.backoff
        // Ends early: no number of doublings overflows.
        for _ in 1..<attempts where pause < self.backoffMax { pause *= 2 }
        return min(pause, self.backoffMax)
    }

    /// Lets updates begin whose time has come, until its task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        while !Task.isCancelled {
            let released = try await self.retries.releaseRetries(until: self.now(), limit: Self.batchSize)
            guard released.count < Self.batchSize else { continue }
            // Cancellation shows in the loop's condition.
            try? await self.clock.sleep(for: Self.lookInterval)
        }
    }
}
