import NIOCore

extension CoAPMessage {
    /// Takes fields off the front of a datagram.
    ///
    /// To take a slice of a buffer for each field, to look at it once, costs more than all the rest.
    struct Reader {
        private let bytes: ByteBuffer
        private var index: Int

        init(_ bytes: ByteBuffer) {
            self.bytes = bytes
            self.index = bytes.readerIndex
        }

        /// How many bytes are left.
        var count: Int { self.bytes.writerIndex - self.index }

        /// Reads a number; `nil` if there are fewer bytes.
        mutating func read<Value: FixedWidthInteger>(_: Value.Type) -> Value? {
            guard let value = self.bytes.getInteger(at: self.index, as: Value.self) else { return nil }
            self.index += MemoryLayout<Value>.size
            return value
        }

        /// Reads what follows the half byte of a delta or length (RFC 7252 §3.1), or of a token's length (RFC 8974 §2.1).
        ///
        /// - Returns: The number; `nil` for the reserved 15 or if bytes are missing.
        mutating func readExtended(_ nibble: UInt8) -> Int? {
            switch nibble {
            case 0..<13: Int(nibble)
            case 13: self.read(UInt8.self).map { Int($0) + 13 }
            case 14: self.read(UInt16.self).map { Int($0) + 269 }
            default: nil
            }
        }

        /// Reads a token; `nil` if there are fewer bytes.
        mutating func readToken(_ length: Int) -> Token? {
            guard length > Token.shortLengthMax else {
                return self.readShort(length).map { Token(value: $0, length: length) }
            }
            return self.readSlice(length).map(Token.init)
        }

        /// Reads the value of an option; `nil` if there are fewer bytes.
        mutating func readOption(_ number: CoAPOption.Number, _ length: Int) -> CoAPOption? {
            guard length > CoAPOption.inlineLengthMax else {
                return self.readShort(length).map { CoAPOption(number, $0, length: length) }
            }
            return self.readSlice(length).map { CoAPOption(number, $0) }
        }

        /// Takes bytes that stay where they are; `nil` if there are fewer.
        mutating func readSlice(_ length: Int) -> ByteBuffer? {
            guard let slice = self.bytes.getSlice(at: self.index, length: length) else { return nil }
            self.index += length
            return slice
        }

        /// Reads 0…8 bytes as one number; `nil` if there are fewer.
        private mutating func readShort(_ length: Int) -> UInt64? {
            guard length <= self.count else { return nil }
            let start = self.index - self.bytes.readerIndex
            self.index += length
            return self.bytes.withUnsafeReadableBytes { bytes in
                var value: UInt64 = 0
                for index in start..<start + length { value = value << 8 | UInt64(bytes[index]) }
                return value
            }
        }
    }
}
