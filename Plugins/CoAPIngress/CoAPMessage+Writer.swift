import NIOCore

extension CoAPMessage {
    /// Fills memory from its beginning; there must be enough.
    struct Writer {
        private let memory: UnsafeMutableRawBufferPointer
        /// How many bytes are written.
        private(set) var count = 0

        init(memory: UnsafeMutableRawBufferPointer) { self.memory = memory }

        mutating func write(_ value: some FixedWidthInteger) {
            let size = value.bitWidth / 8
            precondition(self.count + size <= self.memory.count, "a message is longer than it was said to be")
            self.memory.storeBytes(of: value.bigEndian, toByteOffset: self.count, as: type(of: value))
            self.count += size
        }

        mutating func write(_ bytes: ByteBuffer) {
            bytes.withUnsafeReadableBytes { bytes in
                precondition(
                    self.count + bytes.count <= self.memory.count,
                    "a message is longer than it was said to be"
                )
                UnsafeMutableRawBufferPointer(rebasing: self.memory[self.count...]).copyMemory(from: bytes)
                self.count += bytes.count
            }
        }

        /// Writes the lowest `length` bytes, 0…8, of a number; needs room for eight.
        mutating func write(_ value: UInt64, length: Int) {
            self.write(length == 0 ? 0 : value << (64 - 8 * UInt64(length)))
            self.count -= 8 - length
        }

        /// Writes what follows the half byte of a delta or length, if anything does (RFC 7252 §3.1).
        ///
        /// A value beyond what 16 bits can extend to does not fit a datagram, so it cannot come here.
        mutating func writeExtension(_ value: Int) {
            if value >= 269 {
                self.write(UInt16(value - 269))
            } else if value >= 13 {
                self.write(UInt8(value - 13))
            }
        }
    }
}
