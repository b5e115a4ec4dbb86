import NIOCore

extension CoAPMessage {
    /// What ties responses to a request: bytes of the client's choice, up to eight in RFC 7252 §3, more in RFC 8974.
    ///
    /// A client that keeps no state puts that into its token, so one may be long; it goes back as it came.
    struct Token: Hashable, Sendable {
        /// The longest token that stands in the value itself.
        static let shortLengthMax = 8

        /// The bytes of a short token, the first in the uppermost bits of those that are used; 0 for a long one.
        private(set) var value: UInt64
        /// How many bytes it has.
        private(set) var length: Int
        /// The bytes of a long one, in a buffer of their own: a slice would keep the whole receive buffer alive.
        private var long: ByteBuffer?

        static let empty = Token(value: 0, length: 0)

        /// Makes a token of the lowest `length` bytes, 0…8, of `value`.
        init(value: UInt64, length: Int) {
            precondition((0...Self.shortLengthMax).contains(length), "a short token has at most eight bytes")
            self.value = length == Self.shortLengthMax ? value : value & (1 << (8 * UInt64(length)) - 1)
            self.length = length
        }

        /// Makes a token of the readable bytes.
        init(_ bytes: ByteBuffer) {
            self.length = bytes.readableBytes
            self.value = 0
            if self.length <= Self.shortLengthMax {
                self.value = bytes.readableBytesView.reduce(0) { $0 << 8 | UInt64($1) }
            } else {
                self.long = ByteBuffer(bytes: bytes.readableBytesView)
            }
        }

        /// Appends the bytes; needs room for ``shortLengthMax`` bytes, or for all of a longer token.
        func write(to writer: inout CoAPMessage.Writer) {
            if self.length <= Self.shortLengthMax {
                writer.write(self.value, length: self.length)
            } else if let long = self.long {
                writer.write(long)
            }
        }
    }
}

extension ByteBuffer {
    /// Reads what follows the half byte of a delta or length (RFC 7252 §3.1), or of a token's length (RFC 8974 §2.1).
    ///
    /// - Returns: The number; `nil` for the reserved 15 or if bytes are missing.
    mutating func readExtended(_ nibble: UInt8) -> Int? {
        switch nibble {
        case 0..<13: Int(nibble)
        case 13: self.readInteger(as: UInt8.self).map { Int($0) + 13 }
        case 14: self.readInteger(as: UInt16.self).map { Int($0) + 269 }
        default: nil
        }
    }
}
