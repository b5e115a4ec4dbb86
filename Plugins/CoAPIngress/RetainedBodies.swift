import FoundationEssentials
import NIOCore
import NodeKit

/// Bodies that took more than one block and cannot be made again, for the peer to fetch the rest of: notifications
/// (RFC 7959 §2.6), and answers to what was posted (RFC 7959 §3.3).
///
/// Bounded in bytes, the oldest goes first; a peer whose body is gone gets the present state, under another entity tag.
struct RetainedBodies {
    /// What a body is.
    enum Subject: Hashable, Sendable {
        /// The last notification about a resource.
        case notification(Observers.Resource)
        /// The answer to what was posted to a path.
        case answer(path: [ExactText])
    }

    /// Whose body it is.
    struct Key: Hashable, Sendable {
        var peer: Endpoint
        var device: UUID
        var subject: Subject
    }

    private let bytesMax: Int
    private var bodies: [Key: (serial: UInt64, body: ByteBuffer)] = [:]
    private var order = CircularBuffer<(key: Key, serial: UInt64)>()
    private var lastSerial: UInt64 = 0
    /// How many bytes are held.
    private(set) var bytes = 0

    init(bytesMax: Int = 16 << 20) { self.bytesMax = bytesMax }

    /// The body to cut further blocks of.
    subscript(key: Key) -> ByteBuffer? { self.bodies[key]?.body }

    /// Keeps a body in place of an older one; `nil` only drops that.
    mutating func keep(_ body: ByteBuffer?, for key: Key) {
        if let old = self.bodies.removeValue(forKey: key) { self.bytes -= old.body.readableBytes }
        guard let body else { return }
        self.lastSerial += 1
        self.bodies[key] = (self.lastSerial, body)
        self.order.append((key, self.lastSerial))
        self.bytes += body.readableBytes
        while let oldest = self.order.first,
            self.bytes > self.bytesMax || self.bodies[oldest.key]?.serial != oldest.serial
        {
            self.order.removeFirst()
            guard let dropped = self.bodies[oldest.key], dropped.serial == oldest.serial else { continue }
            self.bodies[oldest.key] = nil
            self.bytes -= dropped.body.readableBytes
        }
    }
}
