import FoundationEssentials
import NIOCore
import NodeKit

/// Bodies of requests that come in blocks (RFC 7959 §2.5), bounded in number, bytes and time.
struct BodyAssemblies {
    /// How much may be under way.
    struct Limits: Hashable, Sendable {
        /// Bodies at the same time.
        var transfersMax = 1024
        /// Bodies of one device at the same time; a further one takes the place of the oldest, so that no device takes
        /// the room of the others, from however many ports.
        var transfersPerDeviceMax = 16
        /// Bytes of one body.
        var bodyBytesMax = 65536
        /// Bytes of all bodies that are not complete.
        var totalBytesMax = 16 << 20
        /// How long the next block may take.
        var lifetime = TimeAmount.seconds(60)
    }

    /// What the blocks of one body have in common: endpoint, resource and all options but those of the transfer itself
    /// (RFC 7959 §2.5, RFC 9175 §3.3).
    struct Key: Hashable, Sendable {
        var peer: Endpoint
        var device: UUID
        var path: [ExactText]
        var query: [CoAPRequest.Argument]
        var contentFormat: UInt32?
        var requestTags: [CoAPOption]

        init(
            peer: Endpoint,
            device: UUID,
            path: [String],
            query: [CoAPRequest.Argument] = [],
            contentFormat: UInt32? = nil,
            requestTags: [CoAPOption] = []
        ) {
            self.peer = peer
            self.device = device
            self.path = path.map(\.exact)
            self.query = query
            self.contentFormat = contentFormat
            self.requestTags = requestTags
        }
    }

    /// What became of a block.
    enum Result: Hashable, Sendable {
        /// It was the last; this is the body.
        case complete(ByteBuffer)
        /// More is to come: 2.31.
        case more
        /// It does not follow the last one: 4.08.
        case incomplete
        /// It is not as long as it says: 4.00.
        case badLength
        /// The body is too large: 4.13.
        case tooLarge
        /// There is no room now: 5.03.
        case noRoom
    }

    private struct Transfer {
        var body = ByteBuffer()
        var serial: UInt64
        var deadline: NIODeadline
    }

    private let limits: Limits
    private var transfers: [Key: Transfer] = [:]
    private var deadlines = DeadlineQueue<(key: Key, serial: UInt64)>()
    private var lastSerial: UInt64 = 0
    /// How many bytes of bodies are held.
    private(set) var bytes = 0

    init(limits: Limits) { self.limits = limits }

    /// How many bodies are not complete.
    var count: Int { self.transfers.count }
    /// How many things are remembered for some time.
    var deadlineCount: Int { self.deadlines.count }

    /// A block came.
    ///
    /// A body begins with its first block, in place of one that was not finished. The size of blocks may change on the way:
    /// what counts is where a block begins.
    ///
    /// - Parameters:
    ///   - payload: The bytes of the block.
    ///   - block: Its Block1 option.
    ///   - announced: The size of the whole body, if the peer told it.
    ///   - key: Which body it belongs to.
    ///   - now: The time.
    /// - Returns: What became of it.
    mutating func add(
        _ payload: ByteBuffer,
        _ block: Block,
        announced: UInt32?,
        to key: Key,
        now: NIODeadline
    ) -> Result {
        let length = payload.readableBytes
        // RFC 7959 §2.2: only the last block may be shorter.
        guard block.more ? length == block.size : length <= block.size else {
            self.remove(key)
            return .badLength
        }
        guard block.offset + Int64(length) <= self.limits.bodyBytesMax, Int(announced ?? 0) <= self.limits.bodyBytesMax
        else {
            self.remove(key)
            return .tooLarge
        }
        if block.number == 0 {
            self.remove(key)
            guard block.more else { return .complete(payload) }
            self.makeRoom(for: key.device)
            guard self.transfers.count < self.limits.transfersMax else { return .noRoom }
        } else {
            guard let held = self.transfers[key]?.body.readableBytes, held == block.offset else { return .incomplete }
            guard block.more else {
                guard var body = self.remove(key) else { return .incomplete }
                body.writeImmutableBuffer(payload)
                return .complete(body)
            }
        }
        guard self.bytes + length <= self.limits.totalBytesMax else {
            self.remove(key)
            return .noRoom
        }
        // The bytes are copied, as a slice would keep the whole receive buffer alive.
        let deadline = now + self.limits.lifetime
        if self.transfers[key] == nil {
            self.lastSerial += 1
            self.transfers[key] = Transfer(serial: self.lastSerial, deadline: deadline)
            self.deadlines.insert((key, self.lastSerial), at: deadline)
            self.deadlines.prune(to: self.transfers.count) { self.transfers[$0.key]?.serial == $0.serial }
        }
        self.transfers[key]?.body.writeBytes(payload.readableBytesView)
        self.transfers[key]?.deadline = deadline
        self.bytes += length
        return .more
    }

    /// When ``expire(_:)`` is to be called next.
    var nextDeadline: NIODeadline? { self.deadlines.nextDeadline }

    /// Drops the bodies whose next block has not come in time.
    mutating func expire(_ now: NIODeadline) {
        while let (key, serial) = self.deadlines.popDue(now) {
            guard let transfer = self.transfers[key], transfer.serial == serial else { continue }
            if transfer.deadline <= now {
                self.remove(key)
            } else {
                self.deadlines.insert((key, serial), at: transfer.deadline)
            }
        }
    }

    /// Drops the oldest body of a device that has as many as it may.
    private mutating func makeRoom(for device: UUID) {
        guard self.transfers.count >= self.limits.transfersPerDeviceMax else { return }
        let own = self.transfers.filter { $0.key.device == device }
        guard own.count >= self.limits.transfersPerDeviceMax,
            let oldest = own.min(by: { $0.value.serial < $1.value.serial })
        else { return }
        self.remove(oldest.key)
    }

    @discardableResult
    private mutating func remove(_ key: Key) -> ByteBuffer? {
        guard let transfer = self.transfers.removeValue(forKey: key) else { return nil }
        self.bytes -= transfer.body.readableBytes
        return transfer.body
    }
}
