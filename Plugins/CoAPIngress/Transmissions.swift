import NIOCore

/// Confirmable messages of ours that are not acknowledged yet, and when each is sent again (RFC 7252 §4.2).
struct Transmissions<Owner: Sendable> {
    /// The numbers of RFC 7252 §4.8.
    struct Parameters: Hashable, Sendable {
        /// How long the first acknowledgement may take, at least.
        var ackTimeout = TimeAmount.seconds(2)
        /// How much longer it may take, at random, as a factor.
        var ackRandomFactor = 1.5
        /// How often a message is sent again.
        var maxRetransmit = 4
        /// How many messages may wait for an acknowledgement at the same time.
        var countMax = 16384
    }

    /// What is to be done about a message.
    enum Due {
        /// Send it again.
        case resend(ByteBuffer, to: SocketAddress)
        /// It has been sent often enough; the peer is not there.
        case gaveUp(Owner)
    }

    private struct Entry {
        var serial: UInt64
        var bytes: ByteBuffer
        var owner: Owner
        var timeout: TimeAmount
        var retransmissions = 0
    }

    private let parameters: Parameters
    private let random: @Sendable () -> Double
    private var entries: [Exchanges.Key: Entry] = [:]
    private var deadlines = DeadlineQueue<(key: Exchanges.Key, serial: UInt64)>()
    private var lastSerial: UInt64 = 0

    /// Prepares for messages; `random` gives numbers from 0 up to 1, for the first time-out of each.
    init(parameters: Parameters, random: @escaping @Sendable () -> Double) {
        self.parameters = parameters
        self.random = random
    }

    /// How many messages wait for an acknowledgement.
    var count: Int { self.entries.count }

    /// Whether a message with this message ID waits for the peer's acknowledgement.
    func contains(_ key: Exchanges.Key) -> Bool { self.entries[key] != nil }

    /// A message is being sent for the first time.
    ///
    /// - Returns: Whether there is room to wait for its acknowledgement.
    mutating func started(_ key: Exchanges.Key, _ bytes: ByteBuffer, owner: Owner, now: NIODeadline) -> Bool {
        guard self.entries.count < self.parameters.countMax else { return false }
        let factor = 1 + (self.parameters.ackRandomFactor - 1) * self.random()
        let timeout = TimeAmount.nanoseconds(Int64(Double(self.parameters.ackTimeout.nanoseconds) * factor))
        self.lastSerial += 1
        self.entries[key] = Entry(serial: self.lastSerial, bytes: bytes, owner: owner, timeout: timeout)
        self.deadlines.insert((key, self.lastSerial), at: now + timeout)
        return true
    }

    /// The peer acknowledged or reset a message.
    ///
    /// - Returns: Whose it was; `nil` if no such message waits.
    mutating func ended(_ key: Exchanges.Key) -> Owner? { self.entries.removeValue(forKey: key)?.owner }

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
                self.entries[key] = nil
                due.append(.gaveUp(entry.owner))
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
}

/// Message IDs for messages of ours: counted for each peer, from a random start (RFC 7252 §4.4).
///
/// The peers used least recently are forgotten; one that comes back starts anew.
struct MessageIDs {
    private let peersMax: Int
    private let random: @Sendable () -> UInt16
    private var recent: [SocketAddress: UInt16] = [:]
    private var older: [SocketAddress: UInt16] = [:]

    /// Prepares for peers.
    ///
    /// - Parameters:
    ///   - peersMax: How many peers are remembered at least; at most twice as many are.
    ///   - random: Gives the message ID to start from.
    init(peersMax: Int = 8192, random: @escaping @Sendable () -> UInt16) {
        self.peersMax = peersMax
        self.random = random
    }

    /// The message ID for the next message to a peer.
    mutating func next(for peer: SocketAddress) -> UInt16 {
        if let last = self.recent[peer] {
            self.recent[peer] = last &+ 1
            return last &+ 1
        }
        if self.recent.count >= self.peersMax {
            self.older = self.recent
            self.recent = [:]
        }
        let next = self.older.removeValue(forKey: peer).map { $0 &+ 1 } ?? self.random()
        self.recent[peer] = next
        return next
    }
}
