import NIOCore

/// A CoAP message as a value (RFC 7252 §3).
struct CoAPMessage: Sendable {
    /// How the message is to be acknowledged.
    enum Kind: UInt8, Sendable {
        case confirmable = 0
        case nonConfirmable = 1
        case acknowledgement = 2
        case reset = 3
    }

    /// A request's method or a response's code: class in the upper three bits, detail in the lower five.
    struct Code: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
        let rawValue: UInt8

        static let empty = Code(rawValue: 0)
        static let get = Code(rawValue: 0o001)
        static let post = Code(rawValue: 0o002)
        static let content = Code(rawValue: 2 << 5 | 5)
        static let notFound = Code(rawValue: 4 << 5 | 4)

        /// Whether it says that the request succeeded.
        var isSuccess: Bool { self.rawValue >> 5 == 2 }
        /// As documents write it: `4.04`.
        var description: String {
            let detail = self.rawValue & 0x1F
            return "\(self.rawValue >> 5).\(detail < 10 ? "0" : "")\(detail)"
        }
    }

    /// Numbers of options that the demonstration uses.
    enum Option {
        static let etag = 4
        static let observe = 6
        static let path = 11
        static let contentFormat = 12
        static let query = 15
        static let block2 = 23
    }

    var kind: Kind
    var code: Code
    var id: UInt16 = 0
    var token: [UInt8] = []
    /// In the order of their numbers.
    var options: [(number: Int, value: [UInt8])] = []
    var payload = ByteBuffer()

    /// The value of the first option with this number.
    func option(_ number: Int) -> [UInt8]? { self.options.first { $0.number == number }?.value }

    /// Makes a confirmable request.
    static func request(_ code: Code, path: [String], query: [String] = [], payload: ByteBuffer = ByteBuffer()) -> Self
    {
        var message = CoAPMessage(kind: .confirmable, code: code, payload: payload)
        message.options = path.map { (Option.path, Array($0.utf8)) } + query.map { (Option.query, Array($0.utf8)) }
        return message
    }
}

extension CoAPMessage {
    /// The message as a datagram.
    var bytes: ByteBuffer {
        var out = ByteBuffer()
        out.writeInteger(1 << 6 | self.kind.rawValue << 4 | UInt8(self.token.count & 0x0F))
        out.writeInteger(self.code.rawValue)
        out.writeInteger(self.id)
        out.writeBytes(self.token)
        var last = 0
        for (number, value) in self.options.sorted(by: { $0.number < $1.number }) {
            let (delta, deltaMore) = Self.nibble(number - last)
            let (length, lengthMore) = Self.nibble(value.count)
            out.writeInteger(delta << 4 | length)
            out.writeBytes(deltaMore + lengthMore + value)
            last = number
        }
        if self.payload.readableBytes > 0 {
            out.writeInteger(0xFF as UInt8)
            out.writeImmutableBuffer(self.payload)
        }
        return out
    }

    /// Reads a datagram.
    ///
    /// - Returns: `nil` if it is no CoAP message.
    init?(_ datagram: ByteBuffer) {
        var input = datagram
        guard
            let first: UInt8 = input.readInteger(), first >> 6 == 1, let kind = Kind(rawValue: first >> 4 & 0x3),
            let code: UInt8 = input.readInteger(), let id: UInt16 = input.readInteger(),
            first & 0x0F <= 8, let token = input.readBytes(length: Int(first & 0x0F))
        else { return nil }
        self.init(kind: kind, code: Code(rawValue: code), id: id, token: token)
        var number = 0
        while let head: UInt8 = input.readInteger() {
            if head == 0xFF {
                // A marker with nothing behind it is an error (RFC 7252 §3).
                guard input.readableBytes > 0 else { return nil }
                self.payload = input
                return
            }
            guard
                let delta = Self.extended(head >> 4, &input), let length = Self.extended(head & 0x0F, &input),
                let value = input.readBytes(length: length)
            else { return nil }
            number += delta
            self.options.append((number, value))
        }
    }

    /// Four bits and what follows them (RFC 7252 §3.1).
    private static func nibble(_ value: Int) -> (UInt8, [UInt8]) {
        switch value {
        case ..<13: (UInt8(value), [])
        case ..<269: (13, [UInt8(value - 13)])
        default: (14, [UInt8((value - 269) >> 8 & 0xFF), UInt8((value - 269) & 0xFF)])
        }
    }

    private static func extended(_ nibble: UInt8, _ input: inout ByteBuffer) -> Int? {
        switch nibble {
        case 13: input.readInteger(as: UInt8.self).map { Int($0) + 13 }
        case 14: input.readInteger(as: UInt16.self).map { Int($0) + 269 }
        case 15: nil
        default: Int(nibble)
        }
    }
}

/// A Block option: which block of how many bytes, and whether more follow (RFC 7959 §2.2).
struct CoAPBlock: Sendable, Hashable {
    /// Zero-based number of the block.
    var number: Int
    /// Whether more blocks follow.
    var more: Bool
    /// Exponent of the size, 0…6: the block has 2^(SZX + 4) bytes.
    var szx: UInt8

    /// Bytes in each block but the last.
    var size: Int { 1 << (Int(self.szx) + 4) }

    /// The shortest form of the option's value.
    var value: [UInt8] {
        let all = UInt32(truncatingIfNeeded: self.number) << 4 | (self.more ? 8 : 0) | UInt32(self.szx)
        let bytes = [UInt8(all >> 16 & 0xFF), UInt8(all >> 8 & 0xFF), UInt8(all & 0xFF)]
        return Array(bytes.drop { $0 == 0 })
    }

    init(number: Int, more: Bool, szx: UInt8) {
        self.number = number
        self.more = more
        self.szx = szx
    }

    /// Reads an option's value; `nil` if it is too long or uses the reserved size.
    init?(_ value: [UInt8]) {
        guard value.count <= 3 else { return nil }
        let all = value.reduce(0) { $0 << 8 | Int($1) }
        guard all & 7 < 7 else { return nil }
        self.init(number: all >> 4, more: all & 8 != 0, szx: UInt8(all & 7))
    }
}
