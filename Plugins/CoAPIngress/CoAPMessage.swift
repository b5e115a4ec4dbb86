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
        // Into the memory itself: to append field by field costs more than all the rest.
        let room = self.sizeEstimate + Token.shortLengthMax
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { memory in
            var writer = Writer(memory: memory)
            self.write(to: &writer)
            return writer.count
        }
    }

    private func write(to writer: inout Writer) {
        writer.write(Self.version << 6 | self.kind.rawValue << 4 | Self.nibble(self.token.length))
        writer.write(self.code.rawValue)
        writer.write(self.messageID)
        writer.writeExtension(self.token.length)
        self.token.write(to: &writer)
        var number: UInt16 = 0
        for index in self.options.indices {
            let next = self.options[index].number.rawValue
            let length = self.options[index].length
            let delta = Int(next - number)
            writer.write(Self.nibble(delta) << 4 | Self.nibble(length))
            writer.writeExtension(delta)
            writer.writeExtension(length)
            self.options[index].writeValue(to: &writer)
            number = next
        }
        if self.payload.readableBytes > 0 {
            writer.write(Self.payloadMarker)
            writer.write(self.payload)
        }
    }

    /// The message as it goes into a datagram.
    var datagram: ByteBuffer {
        var bytes = ByteBuffer()
        self.write(into: &bytes)
        return bytes
    }

    /// At least as many bytes as writing the message needs: an option's value may need more room than it takes up.
    var sizeEstimate: Int { Self.sizeEstimate(self.token, self.options, self.payload) }

    /// At least as many bytes as writing a message with these parts needs.
    static func sizeEstimate(_ token: Token, _ options: [CoAPOption], _ payload: ByteBuffer) -> Int {
        var size = Self.headerLength + 2 + token.length + 1 + payload.readableBytes
        for index in options.indices { size += 5 + max(options[index].length, CoAPOption.inlineLengthMax) }
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
