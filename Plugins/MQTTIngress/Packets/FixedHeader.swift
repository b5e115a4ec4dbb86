import NIOCore

/// The kinds of packets, by the number in their first byte (MQTT 5 §2.1.2).
enum PacketType: UInt8, Sendable {
    case connect = 1
    case connack = 2
    case publish = 3
    case puback = 4
    case pubrec = 5
    case pubrel = 6
    case pubcomp = 7
    case subscribe = 8
    case suback = 9
    case unsubscribe = 10
    case unsuback = 11
    case pingreq = 12
    case pingresp = 13
    case disconnect = 14
    case auth = 15

    /// The flags that this kind must carry; `nil` for PUBLISH, whose flags mean something (MQTT 5 §2.1.3).
    var requiredFlags: UInt8? {
        switch self {
        case .publish: nil
        case .pubrel, .subscribe, .unsubscribe: 0b0010
        default: 0
        }
    }
}

/// What every packet begins with: its kind, four flags, and how many bytes follow.
struct FixedHeader: Hashable, Sendable {
    var type: PacketType
    /// The lower four bits of the first byte.
    var flags: UInt8
    /// How many bytes follow the header.
    var remainingLength: Int

    /// Reads a header; `nil`, with the reader where it was, if the bytes end before it does.
    static func read(from buffer: inout ByteBuffer) throws(PacketError) -> FixedHeader? {
        guard let first: UInt8 = buffer.getInteger(at: buffer.readerIndex) else { return nil }
        guard let type = PacketType(rawValue: first >> 4) else { throw .malformed("packets of type 0 do not exist") }
        let flags = first & 0x0F
        if let required = type.requiredFlags, required != flags {
            throw .malformed("a packet of type \(type) has flags that are reserved")
        }
        let start = buffer.readerIndex
        buffer.moveReaderIndex(forwardBy: 1)
        guard let length = try buffer.readVariableByteInteger() else {
            buffer.moveReaderIndex(to: start)
            return nil
        }
        return FixedHeader(type: type, flags: flags, remainingLength: length)
    }

    func write(into buffer: inout ByteBuffer) {
        buffer.writeInteger(self.type.rawValue << 4 | self.flags)
        buffer.writeVariableByteInteger(self.remainingLength)
    }

    /// How many bytes the header itself takes.
    static func size(remainingLength: Int) -> Int { 1 + ByteBuffer.variableByteIntegerSize(remainingLength) }

    /// Writes a packet whose size is known only when its body is written.
    static func write(
        _ type: PacketType,
        into buffer: inout ByteBuffer,
        body write: (inout ByteBuffer) -> Void
    ) {
        var body = ByteBuffer()
        write(&body)
        let header = FixedHeader(type: type, flags: type.requiredFlags ?? 0, remainingLength: body.readableBytes)
        header.write(into: &buffer)
        buffer.writeBuffer(&body)
    }
}
