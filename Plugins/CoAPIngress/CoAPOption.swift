import NIOCore

/// An option of a message, as it is on the wire.
struct CoAPOption: Hashable, Sendable {
    /// The number of an option (RFC 7252 §5.10, §12.2).
    struct Number: RawRepresentable, Hashable, Comparable, Sendable {
        var rawValue: UInt16
        init(rawValue: UInt16) { self.rawValue = rawValue }

        static let uriHost = Self(rawValue: 3)
        static let etag = Self(rawValue: 4)
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

        /// Whether a message with this option must be refused by who does not know it (RFC 7252 §5.4.1, §5.4.6).
        var isCritical: Bool { self.rawValue & 1 == 1 }

        static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    var number: Number
    var value: ByteBuffer

    init(_ number: Number, _ value: ByteBuffer = ByteBuffer()) {
        self.number = number
        self.value = value
    }

    init(_ number: Number, text: String) { self.init(number, ByteBuffer(string: text)) }

    /// Makes an option with a number in as few bytes as it needs, none for zero (RFC 7252 §3.2).
    init(_ number: Number, uint: UInt32) {
        var value = ByteBuffer()
        let count = (UInt32.bitWidth - uint.leadingZeroBitCount + 7) / 8
        for index in (0..<count).reversed() { value.writeInteger(UInt8(truncatingIfNeeded: uint >> (8 * index))) }
        self.init(number, value)
    }

    /// The value as a number; `nil` if it takes up more than four bytes.
    ///
    /// Leading zero bytes are allowed (RFC 7252 §3.2).
    var uint: UInt32? {
        guard self.value.readableBytes <= 4 else { return nil }
        return self.value.readableBytesView.reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// The value as text; `nil` if it is not UTF-8.
    var text: String? { self.value.getUTF8ValidatedString() }
}

extension ByteBuffer {
    /// All readable bytes as text; `nil` if they are not UTF-8.
    fileprivate func getUTF8ValidatedString() -> String? {
        try? self.getUTF8ValidatedString(at: self.readerIndex, length: self.readableBytes)
    }
}
