import NIOCore

/// A CoAP message as it is in one datagram (RFC 7252 §3).
struct CoAPMessage: Hashable, Sendable {
    /// The type of a message.
    enum Kind: UInt8, Sendable {
        /// Must be acknowledged.
        case confirmable = 0
        /// Must not be acknowledged.
        case nonConfirmable = 1
        /// Acknowledges a confirmable message, and may carry the response.
        case acknowledgement = 2
        /// The peer could not make sense of a message.
        case reset = 3
    }

    /// What ties responses to a request: up to eight bytes of the client's choice.
    struct Token: Hashable, Sendable {
        /// The longest token (RFC 7252 §3).
        static let lengthMax = 8

        /// The bytes, the first in the uppermost bits of those that are used.
        private(set) var value: UInt64
        private(set) var length: Int

        static let empty = Token(value: 0, length: 0)

        /// Makes a token of the lowest `length` bytes, 0…8, of `value`.
        init(value: UInt64, length: Int) {
            precondition((0...Self.lengthMax).contains(length), "a token has at most eight bytes")
            self.value = length == Self.lengthMax ? value : value & (1 << (8 * UInt64(length)) - 1)
            self.length = length
        }
    }

    /// Why bytes are no message.
    enum ReadError: Error, Hashable, Sendable {
        /// Not CoAP, or another version: silently ignored (RFC 7252 §3).
        case unknown
        /// A message format error: a confirmable message is rejected, others are ignored (RFC 7252 §4.2, §4.3).
        case malformed(Kind, messageID: UInt16)
    }

    /// The only version there is.
    static let version: UInt8 = 1
    /// The most options that a message may have.
    static let optionsMax = 64

    var kind: Kind
    var code: CoAPCode
    var messageID: UInt16
    var token: Token
    /// In the order of their numbers; repeated ones in the order they were sent.
    private(set) var options: [CoAPOption]
    var payload: ByteBuffer

    init(
        _ kind: Kind,
        _ code: CoAPCode,
        messageID: UInt16,
        token: Token = .empty,
        options: [CoAPOption] = [],
        payload: ByteBuffer = ByteBuffer()
    ) {
        self.kind = kind
        self.code = code
        self.messageID = messageID
        self.token = token
        self.options = []
        self.payload = payload
        self.options.reserveCapacity(options.count)
        for option in options { self.add(option) }
    }

    /// Adds an option behind those with the same or a lower number.
    mutating func add(_ option: CoAPOption) {
        let index = self.options.lastIndex { $0.number <= option.number }
        self.options.insert(option, at: index.map { $0 + 1 } ?? 0)
    }

    /// The first option with this number.
    func option(_ number: CoAPOption.Number) -> CoAPOption? { self.options.first { $0.number == number } }
}

extension CoAPMessage {
    private static let payloadMarker: UInt8 = 0xFF
    private static let headerLength = 4

    /// Reads a message that takes up all readable bytes.
    init(reading bytes: ByteBuffer) throws(ReadError) {
        var bytes = bytes
        guard let (first, code, messageID) = bytes.readMultipleIntegers(as: (UInt8, UInt8, UInt16).self),
            first >> 6 == Self.version, let kind = Kind(rawValue: first >> 4 & 3)
        else { throw .unknown }
        let malformed = ReadError.malformed(kind, messageID: messageID)
        self.kind = kind
        self.code = CoAPCode(rawValue: code)
        self.messageID = messageID
        let tokenLength = Int(first & 0xF)
        // RFC 7252 §4.1: an empty message is its header and nothing else.
        if self.code == .empty {
            guard tokenLength == 0, bytes.readableBytes == 0 else { throw malformed }
        }
        guard tokenLength <= Token.lengthMax, bytes.readableBytes >= tokenLength else { throw malformed }
        var token: UInt64 = 0
        for _ in 0..<tokenLength { token = token << 8 | UInt64(bytes.readInteger(as: UInt8.self) ?? 0) }
        self.token = Token(value: token, length: tokenLength)
        self.options = []
        self.payload = ByteBuffer()
        guard bytes.readableBytes > 0 else { return }
        self.options.reserveCapacity(8)
        var number = 0
        while let header = bytes.readInteger(as: UInt8.self) {
            if header == Self.payloadMarker {
                // RFC 7252 §3: a marker that nothing follows is a format error.
                guard bytes.readableBytes > 0 else { throw malformed }
                self.payload = bytes
                return
            }
            guard let delta = bytes.readExtended(header >> 4), let length = bytes.readExtended(header & 0xF),
                number + delta <= UInt16.max, let value = bytes.readSlice(length: length),
                self.options.count < Self.optionsMax
            else { throw malformed }
            number += delta
            self.options.append(CoAPOption(.init(rawValue: UInt16(number)), value))
        }
    }

    /// Appends the message as it goes into a datagram.
    func write(into bytes: inout ByteBuffer) {
        bytes.reserveCapacity(minimumWritableBytes: self.sizeEstimate)
        bytes.writeInteger(Self.version << 6 | self.kind.rawValue << 4 | UInt8(self.token.length))
        bytes.writeInteger(self.code.rawValue)
        bytes.writeInteger(self.messageID)
        for index in (0..<self.token.length).reversed() {
            bytes.writeInteger(UInt8(truncatingIfNeeded: self.token.value >> (8 * UInt64(index))))
        }
        var number: UInt16 = 0
        for option in self.options {
            let delta = Int(option.number.rawValue - number)
            let length = option.value.readableBytes
            bytes.writeInteger(Self.nibble(delta) << 4 | Self.nibble(length))
            bytes.writeExtension(delta)
            bytes.writeExtension(length)
            bytes.writeImmutableBuffer(option.value)
            number = option.number.rawValue
        }
        if self.payload.readableBytes > 0 {
            bytes.writeInteger(Self.payloadMarker)
            bytes.writeImmutableBuffer(self.payload)
        }
    }

    /// The message as it goes into a datagram.
    var datagram: ByteBuffer {
        var bytes = ByteBuffer()
        self.write(into: &bytes)
        return bytes
    }

    /// At least as many bytes as the message takes up.
    private var sizeEstimate: Int {
        self.options.reduce(Self.headerLength + Token.lengthMax + 1 + self.payload.readableBytes) {
            $0 + 5 + $1.value.readableBytes
        }
    }

    /// What stands in the half byte for a delta or length (RFC 7252 §3.1).
    private static func nibble(_ value: Int) -> UInt8 { value < 13 ? UInt8(value) : value < 269 ? 13 : 14 }
}

extension ByteBuffer {
    /// Reads what follows the half byte of a delta or length; `nil` for the reserved 15 or if bytes are missing.
    fileprivate mutating func readExtended(_ nibble: UInt8) -> Int? {
        switch nibble {
        case 0..<13: Int(nibble)
        case 13: self.readInteger(as: UInt8.self).map { Int($0) + 13 }
        case 14: self.readInteger(as: UInt16.self).map { Int($0) + 269 }
        default: nil
        }
    }

    /// Writes what follows the half byte of a delta or length.
    ///
    /// A value beyond what 16 bits can extend to does not fit a datagram, so it cannot come here.
    fileprivate mutating func writeExtension(_ value: Int) {
        if value >= 269 {
            self.writeInteger(UInt16(value - 269))
        } else if value >= 13 {
            self.writeInteger(UInt8(value - 13))
        }
    }
}
