import NIOCore

/// The body of a request while it comes in, bounded and counted among those of all connections.
struct IncomingBody {
    /// What came so far and is of use.
    private var bytes = ByteBuffer()
    /// How many bytes may come.
    let limit: Int
    /// Whether more may come than the read of the head has brought.
    var isAdmitted = false
    /// How many came, also of those that are thrown away.
    private var received = 0
    /// How many are counted among those of all connections.
    private var reserved = 0

    /// A body of which nothing came yet.
    init(limit: Int) { self.limit = limit }

    /// Whether nothing is kept.
    var isEmpty: Bool { self.bytes.readableBytes == 0 }

    /// Counts bytes that came in; `false` if they are too many.
    mutating func count(_ bytes: ByteBuffer) -> Bool {
        self.received += bytes.readableBytes
        return self.received <= self.limit
    }

    /// Keeps bytes that came in.
    mutating func append(_ bytes: ByteBuffer) {
        if self.isEmpty {
            self.bytes = bytes
        } else {
            self.bytes.writeImmutableBuffer(bytes)
        }
    }

    /// Counts what is kept among the bodies of all connections; `false` if that is too much.
    mutating func reserve(in connections: Connections, isKnown: Bool) -> Bool {
        let missing = self.bytes.readableBytes - self.reserved
        guard missing > 0 else { return true }
        guard connections.reserve(missing, isKnown: isKnown) else { return false }
        self.reserved += missing
        return true
    }

    /// Hands the bytes on; they stay counted until ``release(to:)``.
    mutating func take() -> ByteBuffer {
        defer { self.bytes = ByteBuffer() }
        return self.bytes
    }

    /// Counts what was kept out again.
    mutating func release(to connections: Connections) {
        connections.release(self.reserved)
        self = IncomingBody(limit: 0)
    }
}
