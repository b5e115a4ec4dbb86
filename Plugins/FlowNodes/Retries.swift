import FoundationEssentials
import NodeKit

/// Messages that the chain could not handle now, and when they are to be tried again.
///
/// They stay in the queue, and the later ones of their device behind them. What is here lives as long as the node runs.
struct Retries<Instant: InstantProtocol> where Instant.Duration == Duration {
    private struct Retry {
        var messageID: Int64
        var pause: Duration
        var due: Instant
    }

    /// The pause before a message is tried again the first time; it doubles up to ``pauseMax``.
    static var pauseMin: Duration { .milliseconds(100) }
    /// The longest pause before a message is tried again.
    static var pauseMax: Duration { .seconds(30) }
    /// How many waiting messages are passed over to find others behind them.
    static var passedOverMax: Int { 4096 }

    /// Of each device the message that its others wait for.
    private var retries: [UUID: Retry] = [:]
    /// How many messages at the head of the queue were passed over the last time.
    private(set) var passedOverCount = 0

    /// When the first message is to be tried again; `nil` if there is none.
    var nextDue: Instant? { self.retries.values.lazy.map(\.due).min() }

    /// Those of the messages whose device does not wait for its time.
    mutating func due(of messages: [QueuedMessage], now: Instant) -> [QueuedMessage] {
        guard !self.retries.isEmpty else {
            self.passedOverCount = 0
            return messages
        }
        let due = messages.filter { message in
            guard let retry = self.retries[message.message.originator.id] else { return true }
            return retry.due <= now
        }
        self.passedOverCount = min(messages.count - due.count, Self.passedOverMax)
        return due
    }

    /// Whether an earlier message of the same device is to be tried again first.
    func isBehindAnother(_ message: QueuedMessage) -> Bool {
        guard let retry = self.retries[message.message.originator.id] else { return false }
        return retry.messageID != message.id
    }

    /// Notes that a message is done.
    mutating func finished(_ message: QueuedMessage) { self.retries[message.message.originator.id] = nil }

    /// Notes that a message failed and is to be tried again after a pause, longer than the last one.
    mutating func postpone(_ message: QueuedMessage, now: Instant) {
        let device = message.message.originator.id
        let pause = self.retries[device].map { min($0.pause * 2, Self.pauseMax) } ?? Self.pauseMin
        self.retries[device] = Retry(messageID: message.id, pause: pause, due: now.advanced(by: pause))
    }
}
