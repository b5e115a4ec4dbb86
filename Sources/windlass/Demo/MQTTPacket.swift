import NIOCore

/// The packets of MQTT 3.1.1 that a device needs, as values.
enum MQTTPacket: Sendable, Hashable {
    case connect(clientID: String, userName: String, keepAliveSeconds: UInt16)
    case connectAcknowledgement(code: UInt8)
    case publish(MQTTMessage)
    case publishAcknowledgement(id: UInt16)
    case subscribe(id: UInt16, filters: [String])
    case subscribeAcknowledgement(id: UInt16, codes: [UInt8])
    case pingRequest
    case pingResponse
    case disconnect
}

/// A message under a topic.
struct MQTTMessage: Sendable, Hashable {
    /// The topic.
    var topic: String
    /// What it carries.
    var payload: ByteBuffer
    /// Packet identifier if the quality of service is 1, `nil` if it is 0.
    var id: UInt16?
}

extension MQTTPacket {
    /// Writes the packet (MQTT 3.1.1 §2, §3).
    func write(into out: inout ByteBuffer) {
        var body = ByteBuffer()
        let first: UInt8
        switch self {
        case .connect(let clientID, let userName, let keepAliveSeconds):
            first = 0x10
            body.writeText("MQTT")
            // Level 4; user name present, clean session (§3.1.2).
            body.writeInteger(4 as UInt8)
            body.writeInteger(0b1000_0010 as UInt8)
            body.writeInteger(keepAliveSeconds)
            body.writeText(clientID)
            body.writeText(userName)
        case .connectAcknowledgement(let code):
            first = 0x20
            body.writeBytes([0, code])
        case .publish(let message):
            first = message.id == nil ? 0x30 : 0x32
            body.writeText(message.topic)
            if let id = message.id { body.writeInteger(id) }
            body.writeImmutableBuffer(message.payload)
        case .publishAcknowledgement(let id):
            first = 0x40
            body.writeInteger(id)
        case .subscribe(let id, let filters):
            first = 0x82
            body.writeInteger(id)
            for filter in filters {
                body.writeText(filter)
                body.writeInteger(1 as UInt8)
            }
        case .subscribeAcknowledgement(let id, let codes):
            first = 0x90
            body.writeInteger(id)
            body.writeBytes(codes)
        case .pingRequest: first = 0xC0
        case .pingResponse: first = 0xD0
        case .disconnect: first = 0xE0
        }
        out.writeInteger(first)
        var length = body.readableBytes
        repeat {
            let digit = UInt8(length & 0x7F)
            length >>= 7
            out.writeInteger(length > 0 ? digit | 0x80 : digit)
        } while length > 0
        out.writeBuffer(&body)
    }

    /// Reads one packet if it is there as a whole.
    ///
    /// - Throws: ``DemoError`` if the bytes are no packet that a device may get.
    static func read(from input: inout ByteBuffer) throws -> MQTTPacket? {
        var length = 0
        var headBytes = 1
        var shift = 0
        guard let first: UInt8 = input.getInteger(at: input.readerIndex) else { return nil }
        while true {
            // At most four digits (§2.2.3).
            guard shift <= 21 else { throw DemoError("the length of an MQTT packet is malformed") }
            guard let digit: UInt8 = input.getInteger(at: input.readerIndex + headBytes) else { return nil }
            length |= Int(digit & 0x7F) << shift
            headBytes += 1
            shift += 7
            if digit & 0x80 == 0 { break }
        }
        guard length <= DemoLimits.mqttPacketBytesMax else { throw DemoError("an MQTT packet has \(length) bytes") }
        guard input.readableBytes >= headBytes + length else { return nil }
        input.moveReaderIndex(forwardBy: headBytes)
        guard var body = input.readSlice(length: length), let packet = Self.read(first: first, body: &body) else {
            throw DemoError("an MQTT packet of type \(first >> 4) is malformed")
        }
        return packet
    }

    private static func read(first: UInt8, body: inout ByteBuffer) -> MQTTPacket? {
        switch first >> 4 {
        case 1:
            guard
                body.readText() == "MQTT", body.readInteger(as: UInt8.self) == 4,
                body.readInteger(as: UInt8.self) != nil,
                let keepAlive = body.readInteger(as: UInt16.self), let clientID = body.readText(),
                let userName = body.readText()
            else { return nil }
            return .connect(clientID: clientID, userName: userName, keepAliveSeconds: keepAlive)
        case 2:
            guard body.readInteger(as: UInt8.self) != nil, let code = body.readInteger(as: UInt8.self) else {
                return nil
            }
            return .connectAcknowledgement(code: code)
        case 3:
            guard let topic = body.readText() else { return nil }
            var message = MQTTMessage(topic: topic, payload: ByteBuffer(), id: nil)
            if first & 0b0110 != 0 {
                guard let id = body.readInteger(as: UInt16.self) else { return nil }
                message.id = id
            }
            message.payload = body
            return .publish(message)
        case 4: return body.readInteger(as: UInt16.self).map { .publishAcknowledgement(id: $0) }
        case 8:
            guard let id = body.readInteger(as: UInt16.self) else { return nil }
            var filters: [String] = []
            while let filter = body.readText(), body.readInteger(as: UInt8.self) != nil { filters.append(filter) }
            return .subscribe(id: id, filters: filters)
        case 9:
            guard let id = body.readInteger(as: UInt16.self) else { return nil }
            return .subscribeAcknowledgement(id: id, codes: Array(body.readableBytesView))
        case 12: return .pingRequest
        case 13: return .pingResponse
        case 14: return .disconnect
        default: return nil
        }
    }
}

extension ByteBuffer {
    /// Writes a text with its length in front (MQTT 3.1.1 §1.5.3).
    fileprivate mutating func writeText(_ text: String) {
        self.writeInteger(UInt16(clamping: text.utf8.count))
        self.writeString(String(decoding: text.utf8.prefix(Int(UInt16.max)), as: UTF8.self))
    }

    /// Reads a text with its length in front.
    fileprivate mutating func readText() -> String? {
        self.readInteger(as: UInt16.self).flatMap { self.readString(length: Int($0)) }
    }
}

/// Cuts the stream into packets and writes them.
final class MQTTCodec: ByteToMessageDecoder, MessageToByteEncoder {
    typealias InboundOut = MQTTPacket
    typealias OutboundIn = MQTTPacket

    func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        guard let packet = try MQTTPacket.read(from: &buffer) else { return .needMoreData }
        context.fireChannelRead(self.wrapInboundOut(packet))
        return .continue
    }

    func encode(data: MQTTPacket, out: inout ByteBuffer) { data.write(into: &out) }
}
