import NIOCore

/// Confirmable messages of ours that are not acknowledged yet, and when each is sent again (RFC 7252 §4.2).
///
/// Of those that a peer did not ask for, one at a time is under way to it (NSTART, RFC 7252 §4.7); the others wait in its
/// lane. One that is never acknowledged ends the whole lane: the peer is not there, and gets nothing more until it asks
/// for something. That is slower than PROBING_RATE allows for what we would send into the void: nothing.
///
/// Answers to requests are not held back: the client's own NSTART bounds them.
struct Transmissions<Owner: Sendable> {
    /// The numbers of RFC 7252 §4.8.
    struct Parameters: Hashable, Sendable {
        /// How long the first acknowledgement may take, at least.
        var ackTimeout = TimeAmount.seconds(2)
        /// How much longer it may take, at random, as a factor.
        var ackRandomFactor = 1.5
        /// How often a message is sent again.
        var maxRetransmit = 4
        /// How many messages may wait, for an acknowledgement or in a lane, at the same time.
        var countMax = 16384
    }

    /// What is to be done with a new message.
    enum Start: Hashable, Sendable {
        /// Send it now.
        case send
        /// Its turn comes later, see ``Transmissions/ended(_:now:)``.
        case wait
        /// There is no room to wait for its acknowledgement.
        case noRoom
    }

    /// What is to be done about a message.
    enum Due {
        /// Send it again.
        case resend(ByteBuffer, to: Endpoint)
        /// It has been sent often enough, or waited for one that has; the peer is not there.
        case gaveUp(Owner)
    }

    private struct Entry {
        var serial: UInt64
        var bytes: ByteBuffer
        var owner: Owner
        var isAnswer: Bool
        var timeout: TimeAmount
        var retransmissions = 0
    }

    private let parameters: Parameters
    private let random: @Sendable () -> Double
    private var entries: [Exchanges.Key: Entry] = [:]
    /// Message IDs of what each peer did not ask for; the first is under way, the others are not sent yet.
    private var lanes: [Endpoint: CircularBuffer<UInt16>] = [:]
    private var deadlines = DeadlineQueue<(key: Exchanges.Key, serial: UInt64)>()
    private var lastSerial: UInt64 = 0

    /// Prepares for messages; `random` gives numbers from 0 up to 1, for the first time-out of each.
    init(parameters: Parameters, random: @escaping @Sendable () -> Double) {
        self.parameters = parameters
        self.random = random
    }

    /// How many messages wait, for an acknowledgement or in a lane.
    var count: Int { self.entries.count }

    /// How many things are remembered for some time.
    var deadlineCount: Int { self.deadlines.count }

    /// Whether a message with this message ID waits for the peer's acknowledgement, or to be sent.
    func contains(_ key: Exchanges.Key) -> Bool { self.entries[key] != nil }

    /// There is a new message.
    ///
    /// - Parameters:
    ///   - key: Where it goes, and its message ID, which must not be in use.
    ///   - bytes: The message as it is sent.
    ///   - owner: Whose it is.
    ///   - isAnswer: Whether the peer asked for it just now.
    ///   - now: The time.
    /// - Returns: What is to be done with it.
    mutating func started(
        _ key: Exchanges.Key,
        _ bytes: ByteBuffer,
        owner: Owner,
        isAnswer: Bool,
        now: NIODeadline
    ) -> Start {
        guard self.entries.count < self.parameters.countMax else { return .noRoom }
        let factor = 1 + (self.parameters.ackRandomFactor - 1) * self.random()
        self.lastSerial += 1
        self.entries[key] = Entry(
            serial: self.lastSerial,
            bytes: bytes,
            owner: owner,
            isAnswer: isAnswer,
            timeout: TimeAmount.nanoseconds(Int64(Double(self.parameters.ackTimeout.nanoseconds) * factor))
        )
        if !isAnswer {
            self.lanes[key.peer, default: CircularBuffer(initialCapacity: 2)].append(key.messageID)
            if self.lanes[key.peer]?.first != key.messageID { return .wait }
        }
        self.schedule(key, now)
        return .send
    }

    private mutating func schedule(_ key: Exchanges.Key, _ now: NIODeadline) {
        guard let entry = self.entries[key] else { return }
        self.deadlines.insert((key, entry.serial), at: now + entry.timeout)
        self.deadlines.prune(to: self.entries.count) { self.entries[$0.key]?.serial == $0.serial }
    }

    /// The peer acknowledged or reset a message.
    ///
    /// - Returns: Whose it was, and the message whose turn it is now; `nil` if no such message is under way.
    mutating func ended(_ key: Exchanges.Key, now: NIODeadline) -> (owner: Owner, next: ByteBuffer?)? {
        guard let entry = self.entries[key] else { return nil }
        guard !entry.isAnswer else {
            self.entries[key] = nil
            return (entry.owner, nil)
        }
        // One that waits for its turn was not sent, so it is not acknowledged whatever the peer says.
        guard var lane = self.lanes[key.peer], lane.first == key.messageID else { return nil }
        self.entries[key] = nil
        lane.removeFirst()
        self.lanes[key.peer] = lane.isEmpty ? nil : lane
        guard let next = lane.first.map({ Exchanges.Key(peer: key.peer, messageID: $0) }) else {
            return (entry.owner, nil)
        }
        self.schedule(next, now)
        return (entry.owner, self.entries[next]?.bytes)
    }

    /// When ``due(_:)`` is to be asked next.
    ///
    /// May be too early, never too late.
    var nextDeadline: NIODeadline? { self.deadlines.nextDeadline }

    /// What is to be done by now.
    mutating func due(_ now: NIODeadline) -> [Due] {
        var due: [Due] = []
        while let (key, serial) = self.deadlines.popDue(now) {
            guard var entry = self.entries[key], entry.serial == serial else { continue }
            guard entry.retransmissions < self.parameters.maxRetransmit else {
                due += self.giveUp(key, entry)
                continue
            }
            entry.retransmissions += 1
            entry.timeout = entry.timeout * 2
            self.entries[key] = entry
            self.deadlines.insert((key, serial), at: now + entry.timeout)
            due.append(.resend(entry.bytes, to: key.peer))
        }
        return due
    }

    private mutating func giveUp(_ key: Exchanges.Key, _ entry: Entry) -> [Due] {
        guard !entry.isAnswer else {
            self.entries[key] = nil
            return [.gaveUp(entry.owner)]
        }
        let lane = self.lanes.removeValue(forKey: key.peer) ?? []
        return lane.compactMap { self.entries.removeValue(forKey: Exchanges.Key(peer: key.peer, messageID: $0)) }
            .map { .gaveUp($0.owner) }
    }
}

/// Message IDs for messages of ours: counted for each peer, from a random start (RFC 7252 §4.4).
///
/// The peers used least recently are forgotten; one that comes back starts anew.
struct MessageIDs {
    private let random: @Sendable () -> UInt16
    private var last: RecentValues<Endpoint, UInt16>

    /// Prepares for peers.
    ///
    /// - Parameters:
    ///   - peersMax: How many peers are remembered at least; at most twice as many are.
    ///   - random: Gives the message ID to start from.
    init(peersMax: Int = 8192, random: @escaping @Sendable () -> UInt16) {
        self.last = RecentValues(halfMax: peersMax)
        self.random = random
    }

    /// The message ID for the next message to a peer.
    mutating func next(for peer: Endpoint) -> UInt16 {
        let next = self.last.peek(peer).map { $0 &+ 1 } ?? self.random()
        self.last.set(next, for: peer)
        return next
    }
}
