/// Where a message stands among others that wait with it, and which of them it makes pointless.
///
/// A property of the message, not of the queue: of two packages that were assigned to a device only the newer one matters, but each
/// of two events does, though they wait in the same node.
public struct Precedence: Sendable, Hashable {
    /// The priorities that there are.
    public static let priorities = 0...9

    /// What the message is about.
    ///
    /// Of the messages of an originator with the same key only the newest matters.
    @ExactText public var key: String
    /// Which of them is newer.
    ///
    /// A greater one takes the place of a smaller one.
    public var generation: Int64
    /// 0…9: a message goes before those with a smaller one, but for a share that stays for these.
    public var priority: Int

    /// Describes the place of a message.
    public init(key: String, generation: Int64, priority: Int = 0) {
        self.key = key
        self.generation = generation
        self.priority = min(max(priority, Self.priorities.lowerBound), Self.priorities.upperBound)
    }
}

/// Not now: when a message is to be tried again, and why.
///
/// What a node says of a message that is fine and whose time has not come, as ``Emission/later(_:)``: no failure, and stored with the
/// message. Whoever asks why a device was not notified sees it.
public struct Later: Error, Sendable, Hashable {
    /// The most characters of ``code`` and of ``reason`` that are stored.
    public static let codeLengthMax = 64, reasonLengthMax = 1024

    /// Not before this time; a little later, as messages that wait for the same time do not all go at once.
    public var until: Timestamp
    /// What to branch and to count by, such as `maintenance-window`: few different ones, as each is a series of the metrics.
    public var code: String
    /// The reason for people, in a sentence or less.
    public var reason: String

    /// Says that it is not time yet.
    public init(until: Timestamp, code: String, reason: String) {
        self.until = until
        self.code = code
        self.reason = reason
    }
}
