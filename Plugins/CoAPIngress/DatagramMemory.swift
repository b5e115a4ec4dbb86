import NIOCore

/// Memory for datagrams that nobody keeps, used again once they are sent.
///
/// In a download one goes out for each that comes in; to allocate memory for each costs more than to fill it, and other memory
/// each time is never in the processor's cache.
struct DatagramMemory {
    /// How many datagrams there is memory for until they are sent; further ones get memory of their own.
    static let countMax = 64

    private var buffers: [ByteBuffer] = []
    private var usedCount = 0

    /// Fills a datagram.
    ///
    /// - Parameter write: Appends to an empty buffer.
    /// - Returns: The datagram.
    mutating func fill(_ write: (inout ByteBuffer) -> Void) -> ByteBuffer {
        guard self.usedCount < Self.countMax else {
            var bytes = ByteBuffer()
            write(&bytes)
            return bytes
        }
        if self.usedCount == self.buffers.count { self.buffers.append(ByteBuffer()) }
        // A datagram that the socket did not take yet keeps its memory, the buffer gets other.
        self.buffers[self.usedCount].clear()
        write(&self.buffers[self.usedCount])
        self.usedCount += 1
        return self.buffers[self.usedCount - 1]
    }

    /// The datagrams have been sent.
    mutating func sent() { self.usedCount = 0 }
}
