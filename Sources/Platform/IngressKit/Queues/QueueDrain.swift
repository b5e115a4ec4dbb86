import FoundationEssentials
import Logging
public import NodeKit

/// Lets messages that wait go on when they are due, for a node that is a queue: at a pace, side by side, the urgent ones first.
///
/// There is one order for what came and for what is tried again: by priority, then by when it was due. So nothing starves: a message
/// that fails, or of which a node said *later*, is behind all that were due before its next try. Of ``urgentInARow`` + 1 messages one
/// is of those that are less urgent, and among these the same holds. The messages of one originator go one after the other.
///
/// A message that is superseded is passed over; it costs no pause, and neither does one that ends *later*. How often messages are
/// tried in vain is bounded (``vainTriesMax``).
public struct QueueDrain: Sendable {
    /// After how many tries a second that end without a message being done no more begin: a million that say *later* cost no more
    /// than these and as many as are under way then.
    public static let vainTriesMax = 1000
    /// The pause before a message that failed is tried again the first time; it doubles up to ``retryPauseMax``.
    public static let retryPauseMin = Duration.milliseconds(100)
    /// The longest pause before a message that failed is tried again.
    public static let retryPauseMax = Duration.seconds(30)
    /// The shortest time for which *later* is believed.
    public static let laterMin = Duration.seconds(1)
    /// Messages that wait for the same time go within a tenth of the wait, and within this.
    public static let spreadMax = Duration.seconds(10)
    /// How many messages go by their priority before one of a smaller priority does.
    public static let urgentInARow = 3
    /// How many messages are read at once, of each priority.
    static let batchSize = 256
    /// The same if there is a pause after each.
    static let pacedBatchSize = 32
    /// How many times in a row messages are read and passed over before it looks at what has ended.
    static let sweepsMax = 8
    /// The pause after so many.
    static let sweepPause = Duration.milliseconds(10)
    /// How many messages are settled in one step.
    static let settleBatchSize = 128
    /// For how long what is done may not be settled: what would be sent twice after a crash.
    static let unsettledMax = Duration.milliseconds(200)
    /// By how much a message may be late so that there are few alarms.
    static let latenessMax = Duration.seconds(1)
    /// How often the log tells of messages that wait for the same reason.
    static let logInterval = Duration.seconds(60)

    private let source: any WaitingMessages
    private let interval: Duration
    private let inFlightMax: Int
    private let clock: any Clock<Duration>
    private let now: @Sendable () -> Timestamp
    private let tasks: BackgroundTasks
    private let logger: Logger

    /// Describes how messages go on.
    ///
    /// - Parameters:
    ///   - source: Where they wait.
    ///   - interval: From one message to the next; zero for no pause.
    ///   - inFlightMax: How many are under way side by side, with a pause, too.
    ///   - services: The node's clocks, its log and its tasks.
    public init(
        _ source: any WaitingMessages,
        interval: Duration = .zero,
        inFlightMax: Int,
        services: NodeServices
    ) {
        self.source = source
        self.interval = interval
        self.inFlightMax = inFlightMax
        self.clock = services.clock
        self.now = services.now
        self.tasks = services.tasks
        self.logger = services.logger
    }

    /// Lets messages go on until its task is cancelled.
    ///
    /// - Throws: What the store throws; what it still holds goes on the next time.
    public func run(to outlet: any Outlet) async throws { try await self.drain(to: outlet, clock: self.clock) }

    private enum Event: Sendable {
        case finished(WaitingMessage, Outcome)
        case arrived(UInt64)
        case awake
    }

    private func drain<C: Clock>(to outlet: any Outlet, clock: C) async throws where C.Duration == Duration {
        var state = DrainState<C.Instant>(interval: self.interval, now: clock.now)
        try await withThrowingTaskGroup(of: Event.self) { group in
            var mark: UInt64?
            var isWatching = false
            var alarms: [C.Instant] = []
            var removals = self.source.removals
            var sweeps = 0
            while !Task.isCancelled {
                if removals != self.source.removals {
                    removals = self.source.removals
                    state.readAgain()
                }
                while state.inFlightCount < self.inFlightMax, state.mayStart(at: clock.now),
                    let message = state.next(at: clock.now)
                {
                    group.addTask { .finished(message, await self.send(message, to: outlet)) }
                }
                if state.inFlightCount < self.inFlightMax, state.wantsMore, state.mayStart(at: clock.now) {
                    try await self.read(into: &state)
                    if state.isReady { continue }
                }
                if state.isToFlush(at: clock.now) {
                    try await self.flush(&state)
                    if state.wantsMore, sweeps < Self.sweepsMax {
                        sweeps += 1
                        continue
                    }
                }
                if !isWatching {
                    isWatching = true
                    group.addTask { [mark] in .arrived(await self.source.arrivals(since: mark)) }
                }
                // Very many that are passed over do not keep it from what has ended meanwhile.
                let pause = sweeps < Self.sweepsMax ? nil : clock.now.advanced(by: Self.sweepPause)
                sweeps = 0
                if let time = pause ?? state.wakeTime(at: clock.now, today: self.now()),
                    Self.isNeeded(time, beside: alarms, at: clock.now)
                {
                    alarms.append(time)
                    group.addTask {
                        // Cancellation shows in the loop's condition.
                        try? await clock.sleep(until: time, tolerance: nil)
                        return .awake
                    }
                }
                switch try await group.next() {
                case .finished(let message, let outcome): self.note(outcome, of: message, &state, at: clock.now)
                case .arrived(let newMark):
                    isWatching = false
                    mark = newMark
                    state.arrived()
                case .awake:
                    alarms.removeAll { [now = clock.now] in $0 <= now }
                    state.look(at: self.now())
                case nil: break
                }
            }
            group.cancelAll()
            // What the chain did is settled, so that it does not come again after the start.
            while let event = try await group.next() {
                if case .finished(let message, let outcome) = event {
                    self.note(outcome, of: message, &state, at: clock.now)
                }
            }
            try await self.flush(&state)
        }
    }

    /// Whether there is no alarm that rings soon enough.
    private static func isNeeded<Instant: InstantProtocol>(_ time: Instant, beside alarms: [Instant], at now: Instant)
        -> Bool
    where Instant.Duration == Duration {
        let latest = time.advanced(by: min(now.duration(to: time) / 64, Self.latenessMax))
        return !alarms.contains { $0 <= latest }
    }

    /// What has not begun when the host stops goes on after the restart.
    private func send(_ message: WaitingMessage, to outlet: any Outlet) async -> Outcome {
        guard !Task.isCancelled else { return .failed(NodeError(.unavailable, "the host is stopping")) }
        return await outlet.send(message.message)
    }

    private func read<Instant>(into state: inout DrainState<Instant>) async throws {
        // Few, as what is urgent and comes later goes behind what was read.
        let batch =
            self.interval == .zero
            ? min(Self.batchSize, max(Self.pacedBatchSize, 2 * self.inFlightMax)) : Self.pacedBatchSize
        state.take(try await self.source.due(at: self.now(), limit: batch, without: state.held))
    }

    private func flush<Instant>(_ state: inout DrainState<Instant>) async throws {
        let (settled, postponed) = state.takeDone()
        // What is done must be noted also when the host is stopping and this task is cancelled.
        try await self.tasks.withoutCancellation {
            if !settled.isEmpty { try await self.source.settle(settled) }
            if !postponed.isEmpty { try await self.source.postpone(postponed) }
        }
    }

    private func note<Instant>(
        _ outcome: Outcome,
        of message: WaitingMessage,
        _ state: inout DrainState<Instant>,
        at instant: Instant
    ) {
        switch outcome {
        case .completed: state.settle(message, at: instant)
        case .superseded:
            state.giveBack()
            state.settle(message, at: instant)
        case .ended(let place):
            state.settle(
                message,
                end: HoldReason(code: "ended", text: "it ended at \(place), which leads nowhere"),
                at: instant
            )
            self.log(
                .warning,
                "ended",
                of: "a message ended before it came to the device that it is meant for",
                message,
                &state,
                at: instant,
                ["at": "\(place)"]
            )
        case .later(let later):
            state.giveBack()
            state.countVainTry()
            let reason = HoldReason(code: later.code, text: later.reason)
            state.postpone(message, to: self.time(of: later, for: message), reason: reason, at: instant)
            self.log(
                .notice,
                reason.code,
                of: "a message waits",
                message,
                &state,
                at: instant,
                ["code": "\(reason.code)", "reason": "\(reason.text)"]
            )
        case .failed(let error):
            guard !Task.isCancelled else { return state.leave(message) }
            self.noteFailure(error, of: message, &state, at: instant)
        }
    }

    private func noteFailure<Instant>(
        _ error: NodeError,
        of message: WaitingMessage,
        _ state: inout DrainState<Instant>,
        at instant: Instant
    ) {
        let reason = HoldReason(code: error.code.rawValue, text: error.message)
        guard error.isRetryable else {
            state.settle(message, end: HoldReason(code: reason.code, text: "given up: \(reason.text)"), at: instant)
            return self.log(
                .error,
                "\(reason.code) for good",
                of: "a message could not be handled and is given up",
                message,
                &state,
                at: instant,
                ["error": "\(error)"]
            )
        }
        state.countVainTry()
        state.postpone(message, to: self.now().adding(Self.pause(after: message.tries)), reason: reason, at: instant)
        self.log(
            .warning,
            reason.code,
            of: "a message could not be handled now and is tried again",
            message,
            &state,
            at: instant,
            ["error": "\(error)"]
        )
    }

    /// The pause after a failure that so many tries went before.
    static func pause(after tries: Int) -> Duration {
        var pause = Self.retryPauseMin
        for _ in 0..<tries where pause < Self.retryPauseMax { pause *= 2 }
        return min(pause, Self.retryPauseMax)
    }

    private func time(of later: Later, for message: WaitingMessage) -> Timestamp {
        let wait = max(self.now().duration(to: later.until), Self.laterMin)
        return self.now().adding(
            wait + Self.spread(of: message.message.originator.id, over: min(wait / 10, Self.spreadMax))
        )
    }

    /// The part of a time that is a device's.
    static func spread(of device: UUID, over time: Duration) -> Duration {
        // FNV-1a, and its low bits into the high ones: devices that were made one after the other differ in their last bytes.
        var hash = withUnsafeBytes(of: device.uuid) {
            $0.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        }
        hash = (hash ^ hash >> 32) &* 0xff51_afd7_ed55_8ccd
        return time * (Double(hash >> 11) / Double(1 << 53 as UInt64))
    }

    /// Logs what happens to messages, at most once a minute of each kind.
    private func log<Instant>(
        _ level: Logger.Level,
        _ kind: String,
        of text: Logger.Message,
        _ message: WaitingMessage,
        _ state: inout DrainState<Instant>,
        at instant: Instant,
        _ more: Logger.Metadata
    ) {
        guard let count = state.countToLog(kind, at: instant) else { return }
        var metadata = more
        metadata["device.name"] = "\(message.message.originator.name)"
        metadata["message.type"] = "\(message.message.type)"
        metadata["count"] = "\(count)"
        self.logger.log(level: level, text, metadata: metadata)
    }
}

/// What a drain has read, has under way, and has to write down.
struct DrainState<Instant: InstantProtocol> where Instant.Duration == Duration {
    private let interval: Duration
    /// Read and not begun, by priority, the highest first, each in the order in which it is due.
    private var ready: [(priority: Int, messages: [WaitingMessage])] = []
    /// Everything that was read and is not settled.
    private(set) var held: Set<Int64> = []
    /// Whose messages are under way.
    private var busy: Set<UUID> = []
    private(set) var inFlightCount = 0
    private var settled: [SettledMessage] = []
    private var postponed: [PostponedMessage] = []
    private var unsettledSince: Instant?
    private var mayHaveMore = true
    private var nextDue: Timestamp?
    /// When the next message may go.
    private var nextStart: Instant
    /// How many messages of each priority went in a row while less urgent ones waited.
    private var turns = Array(repeating: 0, count: Precedence.priorities.upperBound + 1)
    private var vainTries: (since: Instant, count: Int)
    private var logged: [String: (at: Instant, count: Int)] = [:]

    init(interval: Duration, now: Instant) {
        self.interval = interval
        self.nextStart = now
        self.vainTries = (now, 0)
    }

    // MARK: Reading

    /// Whether it is worth to read: nothing of what was read may begin, and there may be more.
    var wantsMore: Bool {
        self.mayHaveMore
            && !self.ready.contains { $0.messages.contains { !self.busy.contains($0.message.originator.id) } }
    }

    /// Whether there is a message to begin.
    var isReady: Bool { !self.ready.isEmpty }

    /// There may be more to read.
    mutating func arrived() {
        self.mayHaveMore = true
        // What is urgent does not wait for what was read before it came, which at a pace takes long to go.
        if self.interval > .zero { self.readAgain() }
    }

    /// Forgets what was read and not begun, so that it is read again, with what there is by then.
    mutating func readAgain() {
        self.mayHaveMore = true
        for (_, messages) in self.ready { for message in messages { self.held.remove(message.id) } }
        self.ready = []
    }

    /// Time has passed.
    mutating func look(at today: Timestamp) {
        guard let nextDue, nextDue <= today else { return }
        self.mayHaveMore = true
        // Known again when it is read; until then there is nothing to wake for.
        self.nextDue = nil
    }

    /// Takes what was read.
    mutating func take(_ due: DueMessages) {
        self.mayHaveMore = !due.messages.isEmpty || !due.superseded.isEmpty || !due.postponed.isEmpty
        self.nextDue = due.next
        for message in due.superseded where self.held.insert(message.id).inserted {
            self.settled.append(SettledMessage(message))
        }
        for message in due.postponed where self.held.insert(message.message.id).inserted {
            self.postponed.append(message)
        }
        for message in due.messages where self.held.insert(message.id).inserted {
            // What was read before and may not begin yet has its level still.
            let place = self.ready.firstIndex { $0.priority <= message.priority } ?? self.ready.count
            if place < self.ready.count, self.ready[place].priority == message.priority {
                self.ready[place].messages.append(message)
            } else {
                self.ready.insert((message.priority, [message]), at: place)
            }
        }
    }

    // MARK: Starting

    /// Whether the pace and the number of vain tries allow one more message.
    mutating func mayStart(at now: Instant) -> Bool {
        if self.vainTries.since.duration(to: now) >= .seconds(1) { self.vainTries = (now, 0) }
        return self.nextStart <= now && self.vainTries.count < QueueDrain.vainTriesMax
    }

    /// The next message, which is under way from now on.
    mutating func next(at now: Instant) -> WaitingMessage? {
        let turn = self.levelInTurn
        for level in [turn] + self.ready.indices.filter({ $0 != turn }) where level < self.ready.count {
            let isFree: (WaitingMessage) -> Bool = { [busy] in !busy.contains($0.message.originator.id) }
            guard let index = self.ready[level].messages.firstIndex(where: isFree) else { continue }
            self.countTurn(of: level)
            let message = self.ready[level].messages.remove(at: index)
            if self.ready[level].messages.isEmpty {
                self.ready.remove(at: level)
                // More of this priority may be stored, and do not wait until the others that were read have gone.
                if !self.ready.isEmpty { self.readAgain() }
            }
            self.busy.insert(message.message.originator.id)
            self.inFlightCount += 1
            self.nextStart = max(self.nextStart, now).advanced(by: self.interval)
            return message
        }
        return nil
    }

    /// The level of ``ready`` whose turn it is: a share stays for what is less urgent.
    private var levelInTurn: Int {
        var level = 0
        while level + 1 < self.ready.count, self.turns[self.ready[level].priority] >= QueueDrain.urgentInARow {
            level += 1
        }
        return level
    }

    private mutating func countTurn(of level: Int) {
        for (priority, _) in self.ready[..<level] { self.turns[priority] = 0 }
        let isLast = level == self.ready.count - 1
        self.turns[self.ready[level].priority] = isLast ? 0 : self.turns[self.ready[level].priority] + 1
    }

    /// The last message took no part in the pace.
    mutating func giveBack() { self.nextStart = self.nextStart.advanced(by: .zero - self.interval) }

    // MARK: Ending

    mutating func settle(_ message: WaitingMessage, end: HoldReason? = nil, at now: Instant) {
        self.finished(message, at: now)
        self.settled.append(SettledMessage(message, end: end))
    }

    mutating func postpone(_ message: WaitingMessage, to due: Timestamp, reason: HoldReason, at now: Instant) {
        self.finished(message, at: now)
        self.postponed.append(PostponedMessage(message, due: due, reason: reason))
    }

    /// A message stays as it is stored.
    mutating func leave(_ message: WaitingMessage) {
        self.busy.remove(message.message.originator.id)
        self.inFlightCount -= 1
        self.held.remove(message.id)
    }

    private mutating func finished(_ message: WaitingMessage, at now: Instant) {
        self.busy.remove(message.message.originator.id)
        self.inFlightCount -= 1
        if self.unsettledSince == nil { self.unsettledSince = now }
    }

    /// A message was tried in vain.
    mutating func countVainTry() { self.vainTries.count += 1 }

    /// Counts a message that waits for a reason.
    ///
    /// - Returns: How many there were since the log told of them, if it is to tell again.
    mutating func countToLog(_ code: String, at now: Instant) -> Int? {
        guard let known = self.logged[code] else {
            // Codes are few; a node that makes one of each message is told of no more.
            if self.logged.count < 64 { self.logged[code] = (now, 0) }
            return self.logged[code] == nil ? nil : 1
        }
        guard known.at.duration(to: now) >= QueueDrain.logInterval else {
            self.logged[code]?.count += 1
            return nil
        }
        self.logged[code] = (now, 0)
        return known.count + 1
    }

    // MARK: Writing down

    /// Whether what is done is to be written down now.
    func isToFlush(at now: Instant) -> Bool {
        let count = self.settled.count + self.postponed.count
        guard count > 0 else { return false }
        if count >= QueueDrain.settleBatchSize || self.inFlightCount == 0 { return true }
        return self.unsettledSince.map { $0.duration(to: now) >= QueueDrain.unsettledMax } ?? true
    }

    /// What is to be written down; it may be read again from then on.
    mutating func takeDone() -> (settled: [SettledMessage], postponed: [PostponedMessage]) {
        defer {
            for done in self.settled { self.held.remove(done.message.id) }
            for done in self.postponed { self.held.remove(done.message.id) }
            // Others of their originators may be due now; what is postponed may be the next that is due.
            if !self.settled.isEmpty || !self.postponed.isEmpty { self.mayHaveMore = true }
            (self.settled, self.postponed, self.unsettledSince) = ([], [], nil)
        }
        return (self.settled, self.postponed)
    }

    /// When there is something to do without an event; `nil` if there is nothing.
    func wakeTime(at now: Instant, today: Timestamp) -> Instant? {
        var time: Instant?
        func wake(_ other: Instant) { if time.map({ other < $0 }) ?? true { time = other } }
        if !self.ready.isEmpty || self.mayHaveMore {
            if self.nextStart > now { wake(self.nextStart) }
            if self.vainTries.count >= QueueDrain.vainTriesMax { wake(self.vainTries.since.advanced(by: .seconds(1))) }
        }
        if let unsettledSince { wake(unsettledSince.advanced(by: QueueDrain.unsettledMax)) }
        if let nextDue {
            // Looked at each hour, as the time of day may be set meanwhile.
            let wait = min(max(today.duration(to: nextDue), .milliseconds(1)), .seconds(3600))
            wake(now.advanced(by: wait))
        }
        return time
    }
}
