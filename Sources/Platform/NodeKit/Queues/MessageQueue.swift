/// Queues of messages that survive a restart.
public protocol MessageQueues: Sendable {
    /// The queue with this name, made on first use. That of a node has a ``QueueName``; see ``NodeServices/messageQueue()``.
    func queue(named name: String) -> any MessageQueue

    /// The queues that hold messages, in the order of their names, whether or not there is a node that lets them go.
    func waitingQueues() async throws -> [WaitingQueue]

    /// Moves all messages of a queue to the end of another one, where they are due at once; what is newer there stays.
    ///
    /// - Parameters:
    ///   - name: The queue that they are in.
    ///   - other: The queue that they come to; nothing happens if it is the same.
    /// - Returns: How many there were.
    /// - Throws: What the store throws; those that were moved before stay where they are.
    func move(from name: String, to other: String) async throws -> Int

    /// Removes all messages of a queue, for good.
    ///
    /// - Returns: How many there were.
    func drop(_ name: String) async throws -> Int
}

/// Messages that wait until they are due, and survive a restart.
///
/// Identifiers grow, but one with a smaller identifier may become visible later.
public protocol WaitingMessages: Sendable {
    /// Those that are due.
    ///
    /// Of each priority the first by the time at which they are due, then by arrival; of an originator's messages without a
    /// ``Precedence`` only the oldest, as the others wait behind it. They stay until they are settled.
    ///
    /// - Parameters:
    ///   - now: The time of day.
    ///   - limit: How many of each priority at most.
    ///   - held: Identifiers of messages that the caller has already and does not want again.
    /// - Returns: What there is.
    /// - Throws: What the store throws.
    func due(at now: Timestamp, limit: Int, without held: Set<Int64>) async throws -> DueMessages

    /// The chain is done with messages; returns when that is safe. What took the place of one of them meanwhile stays.
    func settle(_ messages: [SettledMessage]) async throws

    /// Messages are to be tried again; returns when that is safe. What took the place of one of them meanwhile stays as it is.
    func postpone(_ messages: [PostponedMessage]) async throws

    /// Grows whenever somebody else took messages away: what was read and is not begun is to be read again.
    var removals: UInt64 { get }

    /// Waits until messages may have arrived or were taken away, or the task is cancelled.
    ///
    /// - Parameter mark: What this returned before the messages were read last; `nil` to return at once.
    /// - Returns: What to pass the next time.
    func arrivals(since mark: UInt64?) async -> UInt64
}

extension WaitingMessages {
    /// Nobody else takes messages away.
    public var removals: UInt64 { 0 }
}

/// A queue of messages that survives a restart.
///
/// Attachments and the reply are not kept.
public protocol MessageQueue: WaitingMessages {
    /// Stores a message, due at once; returns when it is safe.
    ///
    /// One with a ``Message/precedence`` takes the place of an older one of the same originator and key, and is dropped if there is a
    /// newer one.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - countMax: How many messages may wait.
    /// - Throws: ``NodeError`` with ``NodeError/Code/unavailable`` if so many wait already, and what the store throws.
    func append(_ message: Message, countMax: Int) async throws

    /// How many messages wait.
    func count() async throws -> Int
}

/// What a queue has for its node.
public struct DueMessages: Sendable {
    /// Those to be sent, the highest priority first.
    public var messages: [WaitingMessage]
    /// Those that something newer has made pointless: they are to be settled without being sent.
    public var superseded: [WaitingMessage]
    /// Those whose successors are on their way and take their places: they are to be postponed without being sent.
    public var postponed: [PostponedMessage]
    /// When the next message is due that is not yet; `nil` if there is none.
    public var next: Timestamp?

    /// Describes what there is.
    public init(
        messages: [WaitingMessage] = [],
        superseded: [WaitingMessage] = [],
        postponed: [PostponedMessage] = [],
        next: Timestamp? = nil
    ) {
        self.messages = messages
        self.superseded = superseded
        self.postponed = postponed
        self.next = next
    }
}

/// A message that waits.
public struct WaitingMessage: Sendable {
    /// Grows with every message; that of what it takes the place of, if it does.
    public var id: Int64
    /// The message, with its ``Message/precedence`` if it has one.
    public var message: Message
    /// Since when it, or what it took the place of, waits.
    public var since: Timestamp
    /// When it was due.
    public var due: Timestamp
    /// How often it was tried.
    public var tries: Int

    /// Makes a waiting message.
    public init(id: Int64, message: Message, since: Timestamp, due: Timestamp, tries: Int) {
        self.id = id
        self.message = message
        self.since = since
        self.due = due
        self.tries = tries
    }

    /// Its priority.
    public var priority: Int { self.message.precedence?.priority ?? 0 }
}

/// Why something waits, or went no further.
public struct HoldReason: Sendable, Hashable {
    /// What to branch and to count by.
    public var code: String
    /// The reason for people.
    public var text: String

    /// Makes a reason; what is too long to be stored is cut off.
    public init(code: String, text: String) {
        self.code = code.limited(to: Later.codeLengthMax)
        self.text = text.limited(to: Later.reasonLengthMax)
    }
}

/// A message that the chain is done with.
public struct SettledMessage: Sendable {
    /// Which one.
    public var message: WaitingMessage
    /// Why it is over although it did not come to where it was meant for; `nil` if it did, or was superseded.
    public var end: HoldReason?

    /// Describes a message that is done.
    public init(_ message: WaitingMessage, end: HoldReason? = nil) {
        self.message = message
        self.end = end
    }
}

/// A message that is to be tried again.
public struct PostponedMessage: Sendable {
    /// Which one.
    public var message: WaitingMessage
    /// When.
    public var due: Timestamp
    /// Why.
    public var reason: HoldReason

    /// Describes a message that is to be tried again.
    public init(_ message: WaitingMessage, due: Timestamp, reason: HoldReason) {
        self.message = message
        self.due = due
        self.reason = reason
    }
}

/// What a queue holds.
public struct WaitingQueue: Sendable, Hashable {
    /// Its name.
    public var name: String
    /// How many messages wait.
    public var count: Int
    /// Since when the oldest waits; `nil` if that is not known.
    public var oldest: Timestamp?
    /// How many of them were tried and wait for a reason, by its code.
    public var held: [String: Int]

    /// Describes a queue.
    public init(name: String, count: Int, oldest: Timestamp?, held: [String: Int] = [:]) {
        self.name = name
        self.count = count
        self.oldest = oldest
        self.held = held
    }
}
