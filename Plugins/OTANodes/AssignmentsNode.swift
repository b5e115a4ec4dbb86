import Logging
public import NodeKit
import OTA

/// Sends one message for each device whose package changed: `PACKAGE_ASSIGNED` or `PACKAGE_UNASSIGNED`.
///
/// The same messages tell that an update begins again or that its device is to be told once more (`PACKAGE_ASSIGNED`), or that
/// it was cancelled (`PACKAGE_UNASSIGNED`); their `cause` says which.
///
/// An assignment is settled when the chain has handled its message, so one that was not handled when the host stopped comes
/// again. The messages of one device come one after the other, in the order of their assignments; those of different devices
/// side by side. A message that the chain could not handle *now* is sent again after a pause; one that it can never handle is
/// logged and settled. Memory does not grow with the number of assignments.
///
/// | Relation  | When                                           |
/// |-----------|------------------------------------------------|
/// | `Success` | A device has another package, or none any more. |
public struct AssignmentsNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "assignments",
        summary: "Sends one message for each device whose package changed.",
        relations: [
            RelationDescriptor(
                .success,
                "A device has another package (PACKAGE_ASSIGNED) or none (PACKAGE_UNASSIGNED)."
            )
        ],
        attributes: [
            .integer(
                "in-flight-max",
                default: 64,
                in: 1...4096,
                summary: "How many devices are handled side by side."
            )
        ],
        variables: [
            .packageType, VariableDescriptor(MessageKey.packageId, "The identifier of the new package."),
            VariableDescriptor(
                MessageKey.cause,
                "Why it comes: RETRIED, RESENT or CANCELLED; empty if the package is another."
            ),
        ],
        traits: [.isQueue, .startsDelivery]
    )

    /// How many assignments are read at once.
    static let pageSize = 256
    /// Above how many waiting assignments no more are read; all of them behind others of their device.
    static let backlogMax = 4096
    /// How many are settled in one step while there is more to do.
    static let settleBatchSize = 128
    /// The pause before a message is sent again the first time; it doubles up to ``retryPauseMax``.
    static let retryPauseMin = Duration.milliseconds(100)
    /// The longest pause before a message is sent again.
    static let retryPauseMax = Duration.seconds(30)

    private let inFlightMax: Int
    private let updates: any UpdateService
    private let clock: any Clock<Duration>
    private let tasks: BackgroundTasks
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.inFlightMax = Int(configuration.integer("in-flight-max"))
        self.updates = try services.require((any UpdateService).self)
        self.clock = services.clock
        self.tasks = services.tasks
        self.logger = services.logger
    }

    private enum Event {
        /// The chain is done with an assignment; `isHandled` is false if it is to come again.
        case finished(Assignment, isHandled: Bool)
        /// There may be more to read; the mark says what is known of.
        case arrived(mark: UInt64)
    }

    /// Hands on assignments until its task is cancelled.
    ///
    /// - Throws: What the store throws; nothing is lost then, for what is not settled comes again.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        try await withThrowingTaskGroup(of: Event.self) { group in
            var backlog = AssignmentBacklog()
            var handled: [Int64] = []
            /// Those that were read and are not settled; they are read again whenever more may be there.
            var held: Set<Int64> = []
            var inFlightCount = 0
            var last: Int64 = 0
            var mayHaveMore = true
            var isWatching = false
            var mark: UInt64?

            func start(_ assignment: Assignment) {
                inFlightCount += 1
                group.addTask {
                    .finished(assignment, isHandled: await self.deliver(assignment, to: outlet))
                }
            }

            while !Task.isCancelled {
                while inFlightCount < self.inFlightMax, let assignment = backlog.next() { start(assignment) }
                if mayHaveMore, inFlightCount < self.inFlightMax, backlog.count < Self.backlogMax {
                    let page = try await self.updates.assignments(after: last, limit: Self.pageSize)
                    mayHaveMore = page.count == Self.pageSize
                    last = page.last?.id ?? last
                    backlog.add(page.filter { held.insert($0.id).inserted })
                    continue
                }
                // With a place free there is nothing to begin: all that is left waits for something.
                if handled.count >= Self.settleBatchSize || inFlightCount < self.inFlightMax {
                    let settled = handled
                    try await self.settle(&handled)
                    held.subtract(settled)
                }
                if !mayHaveMore, !isWatching {
                    isWatching = true
                    group.addTask { [mark] in
                        .arrived(mark: try await self.updates.waitForAssignments(since: mark))
                    }
                }
                switch try await group.next() {
                case .finished(let assignment, let isHandled):
                    inFlightCount -= 1
                    if isHandled { handled.append(assignment.id) }
                    if let next = backlog.finished(assignment.device.id), !Task.isCancelled { start(next) }
                case .arrived(let newMark):
                    isWatching = false
                    mark = newMark
                    // From the first on: one that comes into sight later may have a smaller identifier.
                    last = 0
                    mayHaveMore = true
                case nil:
                    break
                }
            }

            // What the chain is done with need not come again after a restart.
            while let result = await group.nextResult() {
                if case .success(.finished(let assignment, isHandled: true)) = result { handled.append(assignment.id) }
            }
            try await self.settle(&handled)
        }
    }

    private func settle(_ handled: inout [Int64]) async throws {
        guard !handled.isEmpty else { return }
        let ids = handled
        // What is done must be noted also when the host is stopping and this task is cancelled.
        try await self.tasks.withoutCancellation { try await self.updates.settle(ids) }
        handled.removeAll(keepingCapacity: true)
    }

    /// Sends the message of an assignment until the chain is done with it.
    ///
    /// - Returns: Whether it is done; `false` only if the task was cancelled before.
    private func deliver(_ assignment: Assignment, to outlet: any Outlet) async -> Bool {
        let message = Self.message(for: assignment)
        var pause = Self.retryPauseMin
        while !Task.isCancelled {
            guard case .failed(let error) = await outlet.send(message) else { return true }
            guard error.isRetryable else {
                self.log(.error, "an assignment could not be handled and is given up", assignment, error)
                return true
            }
            guard !Task.isCancelled else { return false }
            self.log(
                pause == Self.retryPauseMin ? .warning : .debug,
                "an assignment could not be handled now and is tried again",
                assignment,
                error
            )
            do { try await self.clock.sleep(for: pause) } catch { return false }
            pause = min(pause * 2, Self.retryPauseMax)
        }
        return false
    }

    private static func message(for assignment: Assignment) -> Message {
        var message = Message(assignment)
        if assignment.cause == .cancelled { message.type = .packageUnassigned }
        return message
    }

    private func log(_ level: Logger.Level, _ text: Logger.Message, _ assignment: Assignment, _ error: NodeError) {
        self.logger.log(
            level: level,
            text,
            metadata: [
                "device.name": "\(assignment.device.name)",
                "package.type": "\(assignment.type.rawValue)",
                "assignment.id": "\(assignment.id)",
                "error": "\(error)",
            ]
        )
    }
}
