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
