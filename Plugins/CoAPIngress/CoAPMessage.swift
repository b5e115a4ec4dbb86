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
        var reader = Reader(bytes)
        guard let first = reader.read(UInt8.self), let code = reader.read(UInt8.self),
            let messageID = reader.read(UInt16.self), first >> 6 == Self.version,
            let kind = Kind(rawValue: first >> 4 & 3)
        else { throw .unknown }
        let malformed = ReadError.malformed(kind, messageID: messageID)
        // RFC 7252 §4.1: an empty message is its header and nothing else.
        if CoAPCode(rawValue: code) == .empty {
            guard first & 0xF == 0, reader.count == 0 else { throw malformed }
        }
        guard let tokenLength = reader.readExtended(first & 0xF), let token = reader.readToken(tokenLength)
        else { throw malformed }
        // All fields are set at the end: one that is filled bit by bit is copied once it is full.
        var options: [CoAPOption] = []
        var payload = ByteBuffer()
        if reader.count > 0 { options.reserveCapacity(8) }
        var number = 0
        while let header = reader.read(UInt8.self) {
            if header == Self.payloadMarker {
                // RFC 7252 §3: a marker that nothing follows is a format error.
                guard let rest = reader.readSlice(reader.count), rest.readableBytes > 0 else { throw malformed }
                payload = rest
                break
            }
            guard let delta = reader.readExtended(header >> 4), let length = reader.readExtended(header & 0xF),
                let number16 = UInt16(exactly: number + delta), options.count < Self.optionsMax,
                let option = reader.readOption(.init(rawValue: number16), length)
            else { throw malformed }
            number += delta
            options.append(option)
        }
        self.kind = kind
        self.code = CoAPCode(rawValue: code)
        self.messageID = messageID
        self.token = token
        self.options = options
        self.payload = payload
    }

    /// Appends the message as it goes into a datagram.
    func write(into bytes: inout ByteBuffer) {
        Self.write(self.kind, self.code, self.messageID, self.token, self.options, self.payload, into: &bytes)
    }

    /// Appends a message of these parts, the options in the order of their numbers.
    static func write(
        _ kind: Kind,
        _ code: CoAPCode,
        _ messageID: UInt16,
        _ token: Token,
        _ options: [CoAPOption],
        _ payload: ByteBuffer,
        into bytes: inout ByteBuffer
    ) {
        let room = Self.sizeEstimate(token, options, payload) + Token.shortLengthMax
        // Into the memory itself: to append field by field costs more than all the rest.
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { memory in
            var writer = Writer(memory: memory)
            writer.write(Self.version << 6 | kind.rawValue << 4 | Self.nibble(token.length))
            writer.write(code.rawValue)
            writer.write(messageID)
            writer.writeExtension(token.length)
            token.write(to: &writer)
            var number: UInt16 = 0
            for index in options.indices {
                let next = options[index].number.rawValue
                let length = options[index].length
                let delta = Int(next - number)
                writer.write(Self.nibble(delta) << 4 | Self.nibble(length))
                writer.writeExtension(delta)
                writer.writeExtension(length)
                options[index].writeValue(to: &writer)
                number = next
            }
            if payload.readableBytes > 0 {
                writer.write(Self.payloadMarker)
                writer.write(payload)
            }
            return writer.count
        }
    }

    /// The message as it goes into a datagram.
    var datagram: ByteBuffer {
        var bytes = ByteBuffer()
        self.write(into: &bytes)
        return bytes
    }

    /// At least as many bytes as a message of these parts has: an option's value may need more room than it takes up.
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
