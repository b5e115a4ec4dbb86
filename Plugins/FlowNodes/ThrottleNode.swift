import FoundationEssentials
import Logging
public import NodeKit
import Waiting

/// Holds messages back and lets one go on at a time, at a pace.
///
/// A message ends here, well, once it is stored, and starts again from here when its turn comes; a restart of the host does
/// not lose it. A lone message goes on at once: the pause comes after it, less the time that the chain spent on it. With no
/// pause, messages go on as fast as the chain can take them, those of different devices side by side.
///
/// A message that the chain could not handle *now* stays and is tried again after a pause, while others go on; those of the
/// same device wait behind it. One that it can never handle is logged and removed.
///
/// | Relation  | When                                                                   |
/// |-----------|------------------------------------------------------------------------|
/// | `Success` | It is the message's turn.                                              |
/// | `Failure` | The message could not be stored, or too many wait (`unavailable`).     |
public struct ThrottleNode: Node, IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "throttle",
        summary: "Holds messages back and lets one go on at a time, at a pace; they survive a restart.",
        relations: [
            RelationDescriptor(.success, "It is the message's turn."),
            RelationDescriptor(.failure, "The message could not be stored, or too many wait ('unavailable')."),
        ],
        attributes: [
            .duration(
                "interval-milliseconds",
                .milliseconds,
                default: 600,
                in: 0...86_400_000,
                summary: "From one message to the next; 0 for no pause."
            ),
            .integer(
                "waiting-max",
                default: 1_000_000,
                in: 1...100_000_000,
                unit: "messages",
                summary: "How many messages may wait."
            ),
            .integer(
                "in-flight-max",
                default: 32,
                in: 1...1024,
                unit: "messages",
                summary: "How many go on side by side if there is no pause."
            ),
        ],
        traits: .isQueue
    )

    /// How many messages are read at once, beside those that are passed over.
    static let batchSize = 256
    /// The same if there is a pause after each: few, so that one to be tried again does not wait for long.
    static let pacedBatchSize = 16

    private let interval: Duration
    private let waitingMax: Int
    private let inFlightMax: Int
    private let queue: any MessageQueue
    private let waitingCount: WaitingCount
    private let signal = Signal()
    private let clock: any Clock<Duration>
    private let tasks: BackgroundTasks
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.interval = configuration.duration("interval-milliseconds")
        self.waitingMax = Int(configuration.integer("waiting-max"))
        self.inFlightMax = Int(configuration.integer("in-flight-max"))
        self.queue = try services.messageQueue()
        self.waitingCount = WaitingCount(of: self.queue)
        self.clock = services.clock
        self.tasks = services.tasks
        self.logger = services.logger
    }

    /// Stores the message, which ends here.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/unavailable`` if too many wait, and what the store throws.
    public func process(_ message: Message) async throws -> Emission {
        guard try await self.waitingCount.take(of: self.waitingMax) else {
            throw NodeError(
                .unavailable,
                "\(self.waitingMax) messages wait already; raise 'waiting-max' or lower 'interval-milliseconds'"
            )
        }
        do {
            try await self.queue.append(message)
        } catch {
            try await self.waitingCount.give(1)
            throw error
        }
        self.signal.raise()
        return .end
    }

    /// Lets messages go on until its task is cancelled.
    ///
    /// - Throws: What the store throws; what it still holds goes on the next time.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        try await self.drain(to: outlet, clock: self.clock)
    }

    private func drain<C: Clock>(to outlet: any Outlet, clock: C) async throws where C.Duration == Duration {
        var retries = Retries<C.Instant>()
        let batchSize = self.interval == .zero ? Self.batchSize : Self.pacedBatchSize
        while !Task.isCancelled {
            let seen = self.signal.count
            let limit = batchSize + retries.passedOverCount
            let messages = try await self.queue.first(limit)
            let due = retries.due(of: messages, now: clock.now)
            if due.isEmpty {
                // All of them wait for their time; there may be others behind them.
                if messages.count == limit, retries.passedOverCount < Retries<C.Instant>.passedOverMax { continue }
                await self.waitForMore(since: seen, until: retries.nextDue, clock: clock)
            } else if self.interval == .zero {
                try await self.sendSideBySide(due, to: outlet, clock: clock, retries: &retries)
            } else {
                try await self.sendPaced(due, to: outlet, clock: clock, retries: &retries)
            }
        }
    }

    /// Sends messages one after the other with pauses.
    private func sendPaced<C: Clock>(
        _ messages: [QueuedMessage],
        to outlet: any Outlet,
        clock: C,
        retries: inout Retries<C.Instant>
    ) async throws where C.Duration == Duration {
        for message in messages where !Task.isCancelled {
            guard !retries.isBehindAnother(message) else { continue }
            let start = clock.now
            if await self.send(message, to: outlet) {
                try await self.remove([message.id])
                retries.finished(message)
            } else {
                retries.postpone(message, now: clock.now)
            }
            let pause = self.interval - start.duration(to: clock.now)
            // Cancellation shows in the loop's condition.
            if pause > .zero { try? await clock.sleep(for: pause) }
        }
    }

    /// Sends messages of different devices side by side, and those of one device in order, then removes what is done.
    private func sendSideBySide<C: Clock>(
        _ messages: [QueuedMessage],
        to outlet: any Outlet,
        clock: C,
        retries: inout Retries<C.Instant>
    ) async throws where C.Duration == Duration {
        var lanes: [[QueuedMessage]] = []
        var laneIndexes: [UUID: Int] = [:]
        for message in messages {
            if let index = laneIndexes[message.message.originator.id] {
                lanes[index].append(message)
            } else {
                laneIndexes[message.message.originator.id] = lanes.count
                lanes.append([message])
            }
        }
        // Each lane gives how many of its messages are done; the one after them is to be tried again.
        let doneCounts = await withTaskGroup(of: (index: Int, doneCount: Int).self) { group in
            var doneCounts = Array(repeating: 0, count: lanes.count)
            for (index, lane) in lanes.enumerated() {
                if index >= self.inFlightMax, let done = await group.next() { doneCounts[done.index] = done.doneCount }
                group.addTask {
                    for (position, message) in lane.enumerated() {
                        guard await self.send(message, to: outlet) else { return (index, position) }
                    }
                    return (index, lane.count)
                }
            }
            for await done in group { doneCounts[done.index] = done.doneCount }
            return doneCounts
        }
        try await self.remove(zip(lanes, doneCounts).flatMap { lane, count in lane.prefix(count).map(\.id) })
        for (lane, count) in zip(lanes, doneCounts) {
            for message in lane.prefix(count) { retries.finished(message) }
            if count < lane.count { retries.postpone(lane[count], now: clock.now) }
        }
    }

    /// Sends a message.
    ///
    /// - Returns: Whether the chain is done with it, for good or ill; otherwise it is to be tried again.
    private func send(_ queued: QueuedMessage, to outlet: any Outlet) async -> Bool {
        // What has not begun when the host stops goes on after the restart.
        guard !Task.isCancelled else { return false }
        guard case .failed(let error) = await outlet.send(queued.message) else { return true }
        self.logger.log(
            level: error.isRetryable ? .debug : .error,
            error.isRetryable
                ? "a message could not be handled now and is tried again"
                : "a message could not be handled and is given up",
            metadata: [
                "device.name": "\(queued.message.originator.name)",
                "message.type": "\(queued.message.type)",
                "error": "\(error)",
            ]
        )
        return !error.isRetryable
    }

    private func remove(_ ids: [Int64]) async throws {
        guard !ids.isEmpty else { return }
        // What is done must be removed also when the host is stopping and this task is cancelled.
        try await self.tasks.withoutCancellation { try await self.queue.remove(ids) }
        try await self.waitingCount.give(ids.count)
    }

    private func waitForMore<C: Clock>(since seen: UInt64, until due: C.Instant?, clock: C) async
    where C.Duration == Duration {
        guard let due else { return await self.signal.wait(since: seen) }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.signal.wait(since: seen) }
            group.addTask { try? await clock.sleep(until: due, tolerance: nil) }
            await group.next()
            group.cancelAll()
        }
    }
}
