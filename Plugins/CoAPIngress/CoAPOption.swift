import NIOCore

/// An option of a message, as it is on the wire.
///
/// A value of up to eight bytes, as nearly all have, stands in the option itself; a longer one is a slice of the datagram.
struct CoAPOption: Hashable, Sendable {
    /// The number of an option (RFC 7252 §5.10, §12.2).
    struct Number: RawRepresentable, Hashable, Comparable, Sendable {
        var rawValue: UInt16
        init(rawValue: UInt16) { self.rawValue = rawValue }

        static let ifMatch = Self(rawValue: 1)
        static let uriHost = Self(rawValue: 3)
        static let etag = Self(rawValue: 4)
        static let ifNoneMatch = Self(rawValue: 5)
        /// From RFC 7641 §2.
        static let observe = Self(rawValue: 6)
        static let uriPort = Self(rawValue: 7)
        static let uriPath = Self(rawValue: 11)
        static let contentFormat = Self(rawValue: 12)
        static let maxAge = Self(rawValue: 14)
        static let uriQuery = Self(rawValue: 15)
        static let accept = Self(rawValue: 17)
        /// From RFC 7959 §2.1.
        static let block2 = Self(rawValue: 23)
        /// From RFC 7959 §2.1.
        static let block1 = Self(rawValue: 27)
        /// From RFC 7959 §4.
        static let size2 = Self(rawValue: 28)
        static let proxyURI = Self(rawValue: 35)
        static let proxyScheme = Self(rawValue: 39)
        /// From RFC 7252 §5.10.9.
        static let size1 = Self(rawValue: 60)
        /// From RFC 9175 §2.2.
        static let echo = Self(rawValue: 252)
        /// From RFC 7967 §2.
        static let noResponse = Self(rawValue: 258)
        /// From RFC 9175 §3.2.
        static let requestTag = Self(rawValue: 292)

        /// Whether a message with this option must be refused by who does not know it (RFC 7252 §5.4.1, §5.4.6).
        var isCritical: Bool { self.rawValue & 1 == 1 }

        static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    /// The longest value that stands in the option itself, in bytes.
    static let inlineLengthMax = 8

    var number: Number
    /// How many bytes the value has.
    let length: Int
    /// The bytes of a value that stands here, the last in the lowest bits; 0 for a longer one.
    private let inline: UInt64
    /// The bytes of a value that does not.
    private let long: ByteBuffer?

    /// Makes an option of the readable bytes.
    init(_ number: Number, _ value: ByteBuffer = ByteBuffer()) {
        self.number = number
        self.length = value.readableBytes
        guard self.length > Self.inlineLengthMax else {
            self.inline = value.readableBytesView.reduce(0) { $0 << 8 | UInt64($1) }
            self.long = nil
            return
        }
        self.inline = 0
        self.long = value
    }

    /// Makes an option of the lowest `length` bytes, 0…``inlineLengthMax``, of a number, which has no others.
    init(_ number: Number, _ value: UInt64, length: Int) {
        self.number = number
        self.length = length
        self.inline = value
        self.long = nil
    }

    /// Makes an option of the eight bytes of a number.
    init(_ number: Number, opaque: UInt64) { self.init(number, opaque, length: 8) }

    init(_ number: Number, text: String) { self.init(number, ByteBuffer(string: text)) }

    /// Makes an option with a number in as few bytes as it needs, none for zero (RFC 7252 §3.2).
    init(_ number: Number, uint: UInt32) {
        self.init(number, UInt64(uint), length: (UInt32.bitWidth - uint.leadingZeroBitCount + 7) / 8)
    }

    /// The value.
    var value: ByteBuffer {
        if let long = self.long { return long }
        var bytes = ByteBuffer(integer: self.leftAligned)
        bytes.moveWriterIndex(to: self.length)
        return bytes
    }

    /// Appends the value; needs room for ``inlineLengthMax`` bytes, or for all of a longer one.
    func writeValue(to writer: inout CoAPMessage.Writer) {
        if self.length <= Self.inlineLengthMax {
            writer.write(self.inline, length: self.length)
        } else if let long = self.long {
            writer.write(long)
        }
    }

    /// The value as a number; `nil` if it takes up more than four bytes.
    ///
    /// Leading zero bytes are allowed (RFC 7252 §3.2).
    var uint: UInt32? { self.length <= 4 ? UInt32(self.inline) : nil }

    /// The value as eight bytes; `nil` if it has another length.
    var opaque: UInt64? { self.length == 8 ? self.inline : nil }

    /// The value as text; `nil` if it is not UTF-8.
    var text: String? {
        if let long = self.long { return try? long.getUTF8ValidatedString(at: long.readerIndex, length: self.length) }
        return withUnsafeBytes(of: self.leftAligned.bigEndian) {
            let bytes = UnsafeRawBufferPointer(rebasing: $0.prefix(self.length))
            // ASCII, as nearly all text is, need not be looked at again.
            guard self.inline & 0x8080_8080_8080_8080 != 0 else { return String(decoding: bytes, as: UTF8.self) }
            return String(validating: bytes, as: UTF8.self)
        }
    }

    /// The bytes of a value that stands here, the first in the uppermost bits.
    private var leftAligned: UInt64 { self.inline << (8 * (Self.inlineLengthMax - self.length)) }
}
