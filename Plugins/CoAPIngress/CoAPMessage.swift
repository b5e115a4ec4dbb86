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

    /// Makes a message of options that are in order already.
    init(
        _ kind: Kind,
        _ code: CoAPCode,
        messageID: UInt16,
        token: Token,
        ordered options: [CoAPOption],
        payload: ByteBuffer
    ) {
        self.kind = kind
        self.code = code
        self.messageID = messageID
        self.token = token
        self.options = options
        self.payload = payload
    }

    /// Adds an option behind those with the same or a lower number.
    mutating func add(_ option: CoAPOption) { self.options.insertInOrder(option) }

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
        // RFC 7252 §4.1: an empty message is its header and nothing else.
        if self.code == .empty {
            guard first & 0xF == 0, bytes.readableBytes == 0 else { throw malformed }
        }
        guard let tokenLength = bytes.readExtended(first & 0xF), let token = bytes.readSlice(length: tokenLength)
        else { throw malformed }
        self.token = Token(token)
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
                let number16 = UInt16(exactly: number + delta), self.options.count < Self.optionsMax,
                let option = CoAPOption(.init(rawValue: number16), reading: &bytes, length: length)
            else { throw malformed }
            number += delta
            self.options.append(option)
        }
    }

    /// Appends the message as it goes into a datagram.
    func write(into bytes: inout ByteBuffer) {
        bytes.reserveCapacity(minimumWritableBytes: self.sizeEstimate)
        bytes.writeInteger(Self.version << 6 | self.kind.rawValue << 4 | Self.nibble(self.token.length))
        bytes.writeInteger(self.code.rawValue)
        bytes.writeInteger(self.messageID)
        bytes.writeExtension(self.token.length)
        self.token.write(into: &bytes)
        var number: UInt16 = 0
        for option in self.options {
            let delta = Int(option.number.rawValue - number)
            bytes.writeInteger(Self.nibble(delta) << 4 | Self.nibble(option.length))
            bytes.writeExtension(delta)
            bytes.writeExtension(option.length)
            option.writeValue(into: &bytes)
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

    /// At least as many bytes as writing the message needs: an option's value may need more room than it takes up.
    var sizeEstimate: Int {
        var size = Self.headerLength + 2 + self.token.length + 1 + self.payload.readableBytes
        for option in self.options { size += 5 + max(option.length, 8) }
        return size
    }

    /// What stands in the half byte for a delta or length (RFC 7252 §3.1).
    private static func nibble(_ value: Int) -> UInt8 { value < 13 ? UInt8(value) : value < 269 ? 13 : 14 }
}

extension [CoAPOption] {
    /// Adds an option behind those with the same or a lower number.
    mutating func insertInOrder(_ option: CoAPOption) {
        guard let last = self.last, option.number < last.number else { return self.append(option) }
        let index = self.lastIndex { $0.number <= option.number }
        self.insert(option, at: index.map { $0 + 1 } ?? 0)
    }
}
