import NIOCore

/// The requests of peers: which are new, which are repetitions, and how each is to be answered (RFC 7252 §4.2, §4.5, §5.2).
///
/// An answer that went out in an acknowledgement is kept, so that a repeated request gets it again and is not carried out
/// again. What is kept is bounded in number and bytes, the oldest goes first. Requests that may safely be carried out twice
/// have a small share of their own, so that a download does not push out the answers to posts; of those whose answer was at
/// hand nothing is kept, as it is there once more for less than it takes to keep it (RFC 7252 §4.5 allows both). A request
/// that was refused leaves nothing behind, so whoever has no access token fills no memory.
struct Exchanges {
    /// How long a confirmable message may be repeated (RFC 7252 §4.8.2).
    static let exchangeLifetime = TimeAmount.seconds(247)
    /// How long a non-confirmable message may turn up again (RFC 7252 §4.8.2).
    static let nonLifetime = TimeAmount.seconds(145)

    /// How much may be under way and kept.
    struct Limits: Hashable, Sendable {
        /// Requests being carried out at the same time.
        var activeMax = 100_000
        /// Requests remembered that must not be carried out twice.
        var entriesMax = 32768
        /// Bytes of kept answers to such requests.
        var bytesMax = 8 << 20
        /// Requests remembered that may be carried out twice.
        var idempotentEntriesMax = 8192
        /// Bytes of kept answers to such requests: few, so that they stay in the processor's cache.
        var idempotentBytesMax = 1 << 20
        /// How long an answer may take to go into the acknowledgement (RFC 7252 §5.2.2 leaves it open).
        var piggybackWindow = TimeAmount.milliseconds(500)

        /// Requests being carried out at the same time, of peers that have not shown an access token lately.
        var strangersActiveMax: Int { self.activeMax - self.activeMax / 4 }
    }

    /// What identifies a message of a peer.
    struct Key: Hashable, Sendable {
        var peer: Endpoint
        var messageID: UInt16

        func hash(into hasher: inout Hasher) {
            // The hasher takes in eight bytes faster than two.
            hasher.combine(UInt64(self.messageID))
            self.peer.hash(into: &hasher)
        }
    }

    /// Identifies one request for ever, also if its message ID is used again.
    struct ID: Hashable, Sendable {
        var key: Key
        fileprivate var place: Place
    }

    fileprivate typealias Place = PlaceTable<Key, Entry>.Place

    /// What to do about a request that came.
    enum Arrival: Hashable, Sendable {
        /// It is new: carry it out and ask ``Exchanges/answered(_:)`` how to answer.
        case new(ID)
        /// It is repeated and was answered with these bytes: send them again.
        case replay(ByteBuffer)
        /// It is repeated, and its answer comes, or came, in a message of its own: acknowledge it.
        case acknowledge
        /// It is repeated: there is nothing to send.
        case ignore
        /// Too many requests are being carried out.
        case busy
    }

    /// How an answer is sent.
    enum Form: Hashable, Sendable {
        /// In the acknowledgement, with the message ID of the request.
        case piggybacked
        /// In a confirmable message of its own; the request has been acknowledged.
        case separate
        /// In a non-confirmable message of its own.
        case nonConfirmable
    }

    fileprivate enum State {
        case active
        case activeAcknowledged
        case answered(ByteBuffer?)

        var isActive: Bool {
            switch self {
            case .active, .activeAcknowledged: true
            case .answered: false
            }
        }
    }

    fileprivate struct Entry {
        var isConfirmable: Bool
        var isIdempotent: Bool
        var state: State
        var expires: NIODeadline

        var bytes: Int {
            guard case .answered(let bytes?) = self.state else { return 0 }
            return bytes.readableBytes
        }

        /// Which of ``Exchanges/shares`` it is in once it is answered.
        var share: Int { self.isIdempotent ? 1 : 0 }
    }

    /// Answered requests of one kind, in the order in which they were answered.
    private struct Share {
        let entriesMax: Int
        let bytesMax: Int
        var order = CircularBuffer<Place>()
        var bytes = 0

        init(entriesMax: Int, bytesMax: Int) {
            self.entriesMax = entriesMax
            self.bytesMax = bytesMax
        }

        var isOver: Bool { self.order.count > self.entriesMax || self.bytes > self.bytesMax }
    }

    private let limits: Limits
    private var entries = PlaceTable<Key, Entry>()
    /// Answered requests: those that must not be carried out twice, then those that may.
    private var shares: [Share]
    /// Requests that may still be answered in the acknowledgement, in the order in which that ends.
    private var windows = CircularBuffer<(end: NIODeadline, id: ID)>()
    /// How many requests are being carried out.
    private(set) var activeCount = 0

    init(limits: Limits) {
        self.limits = limits
        self.shares = [
            Share(entriesMax: limits.entriesMax, bytesMax: limits.bytesMax),
            Share(entriesMax: limits.idempotentEntriesMax, bytesMax: limits.idempotentBytesMax),
        ]
    }

    /// How many requests are remembered.
    var count: Int { self.entries.count }
    /// How many bytes of answers are kept.
    var bytes: Int { self.shares[0].bytes + self.shares[1].bytes }

    /// Whether a peer that has not shown an access token lately would be refused now.
    var isCrowded: Bool { self.activeCount >= self.limits.strangersActiveMax }

    /// A request came.
    ///
    /// - Parameters:
    ///   - key: What identifies it.
    ///   - isConfirmable: Whether it is to be acknowledged.
    ///   - isIdempotent: Whether it may be carried out twice.
    ///   - isStranger: Whether the peer has not shown an access token lately.
    ///   - now: The time.
    /// - Returns: What to do about it.
    mutating func arrived(
        _ key: Key,
        isConfirmable: Bool,
        isIdempotent: Bool,
        isStranger: Bool = false,
        now: NIODeadline
    ) -> Arrival {
        let hash = key.hashValue
        if let place = self.entries.place(of: key, hash: hash), let entry = self.entries[place] {
            if entry.expires > now || entry.state.isActive { return Self.repetition(of: entry) }
            self.forget(place, entry)
        }
        guard self.activeCount < (isStranger ? self.limits.strangersActiveMax : self.limits.activeMax) else {
            return .busy
        }
        let entry = Entry(
            isConfirmable: isConfirmable,
            isIdempotent: isIdempotent,
            state: .active,
            expires: now + (isConfirmable ? Self.exchangeLifetime : Self.nonLifetime)
        )
        let id = ID(key: key, place: self.entries.insert(entry, for: key, hash: hash))
        self.activeCount += 1
        if isConfirmable { self.windows.append((now + self.limits.piggybackWindow, id)) }
        self.shrink(isIdempotent ? 1 : 0, now: now)
        return .new(id)
    }

    private static func repetition(of entry: Entry) -> Arrival {
        // RFC 7252 §4.5: a repeated non-confirmable message is silently ignored.
        guard entry.isConfirmable else { return .ignore }
        switch entry.state {
        case .active: return .ignore
        case .activeAcknowledged, .answered(nil): return .acknowledge
        case .answered(let bytes?): return .replay(bytes)
        }
    }

    /// A request has been carried out, or refused.
    ///
    /// - Parameters:
    ///   - id: The request.
    ///   - isRefused: Whether it will be refused again if it is repeated, so that it can be forgotten; it is not if it
    ///     has been acknowledged, since a repetition would then be answered twice.
    ///   - isAtHand: Whether it may be carried out twice and its answer took no wait, so that it can be forgotten in the
    ///     same way; it is not if it is non-confirmable, as a repetition must not be answered then.
    /// - Returns: How to answer it; `nil` if it has been answered before.
    mutating func answered(_ id: ID, isRefused: Bool = false, isAtHand: Bool = false) -> Form? {
        guard let entry = self.entries[id.place], entry.state.isActive else { return nil }
        self.activeCount -= 1
        var form = Form.nonConfirmable
        if entry.isConfirmable {
            form = .separate
            if case .active = entry.state { form = .piggybacked }
            // Nearly always, when it is answered at once.
            if self.windows.last?.id.place == id.place { self.windows.removeLast() }
        }
        if isRefused && form != .separate || isAtHand && form == .piggybacked {
            self.entries.remove(at: id.place)
        } else {
            self.entries[id.place]?.state = .answered(nil)
            self.shares[entry.share].order.append(id.place)
        }
        return form
    }

    /// Keeps the bytes of an answer that went out in the acknowledgement.
    mutating func keep(_ bytes: ByteBuffer, for id: ID, now: NIODeadline) {
        guard let share = self.entries[id.place]?.share else { return }
        self.entries[id.place]?.state = .answered(bytes)
        self.shares[share].bytes += bytes.readableBytes
        self.shrink(share, now: now)
    }

    /// When ``windowsEnded(_:)`` is to be asked next; `nil` if no request waits for its answer.
    ///
    /// May be too early, never too late.
    var nextDeadline: NIODeadline? { self.windows.first?.end }

    /// The requests that take too long to be answered in the acknowledgement: acknowledge them now.
    mutating func windowsEnded(_ now: NIODeadline) -> [Key] {
        var keys: [Key] = []
        while let (end, id) = self.windows.first {
            // Those that have been answered are dropped early, so that they do not wake us.
            if case .active? = self.entries[id.place]?.state {
                guard end <= now else { break }
                self.entries[id.place]?.state = .activeAcknowledged
                keys.append(id.key)
            }
            self.windows.removeFirst()
        }
        return keys
    }

    /// Drops the oldest until a share is within its limits, and whatever at its front has expired.
    private mutating func shrink(_ share: Int, now: NIODeadline) {
        while let place = self.shares[share].order.first {
            if let entry = self.entries[place] {
                guard self.shares[share].isOver || entry.expires <= now else { return }
                self.forget(place, entry)
            }
            self.shares[share].order.removeFirst()
        }
    }

    private mutating func forget(_ place: Place, _ entry: Entry) {
        self.entries.remove(at: place)
        self.shares[entry.share].bytes -= entry.bytes
    }
}
