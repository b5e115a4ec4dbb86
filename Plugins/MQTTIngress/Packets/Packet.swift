import NIOCore

/// A control packet of MQTT.
///
/// What ``write(into:version:)`` writes, ``read(_:from:version:)`` reads.
enum Packet: Hashable, Sendable {
    // Comes once in a connection, and would make all others as large as it is.
    indirect case connect(ConnectPacket)
    case connack(ConnackPacket)
    case publish(PublishPacket)
    case puback(AcknowledgementPacket)
    case pubrec(AcknowledgementPacket)
    case pubrel(AcknowledgementPacket)
    case pubcomp(AcknowledgementPacket)
    case subscribe(SubscribePacket)
    case suback(SubscriptionAnswerPacket)
    case unsubscribe(UnsubscribePacket)
    case unsuback(SubscriptionAnswerPacket)
    case pingreq
    case pingresp
    case disconnect(DisconnectPacket)
    case auth(DisconnectPacket)

    /// Whether the client changes what it is subscribed to.
    var changesSubscriptions: Bool {
        switch self {
        case .subscribe, .unsubscribe: true
        default: false
        }
    }

    /// Reads what follows a header; `body` holds exactly the bytes that the header announced.
    static func read(
        _ header: FixedHeader,
        from body: inout ByteBuffer,
        version: ProtocolVersion
    ) throws(PacketError) -> Packet {
        let packet: Packet
        switch header.type {
        case .connect: packet = .connect(try .read(from: &body))
        case .connack: packet = .connack(try .read(from: &body, version: version))
        case .publish: packet = .publish(try .read(from: &body, flags: header.flags, version: version))
        case .puback: packet = .puback(try .read(from: &body, version: version))
        case .pubrec: packet = .pubrec(try .read(from: &body, version: version))
        case .pubrel: packet = .pubrel(try .read(from: &body, version: version))
        case .pubcomp: packet = .pubcomp(try .read(from: &body, version: version))
        case .subscribe: packet = .subscribe(try .read(from: &body, version: version))
        case .suback: packet = .suback(try .read(from: &body, version: version))
        case .unsubscribe: packet = .unsubscribe(try .read(from: &body, version: version))
        case .unsuback: packet = .unsuback(try .read(from: &body, version: version))
        case .pingreq: packet = .pingreq
        case .pingresp: packet = .pingresp
        case .disconnect: packet = .disconnect(try .read(from: &body, version: version))
        case .auth:
            guard version == .v5 else { throw .malformed("MQTT 3.1.1 has no AUTH packet") }
            packet = .auth(try .read(from: &body, version: version, of: .auth))
        }
        guard body.readableBytes == 0 else {
            throw .malformed("a packet of type \(header.type) has bytes after its end")
        }
        return packet
    }

    func write(into buffer: inout ByteBuffer, version: ProtocolVersion) {
        switch self {
        case .connect(let packet): packet.write(into: &buffer)
        case .connack(let packet): packet.write(into: &buffer, version: version)
        case .publish(let packet): packet.write(into: &buffer, version: version)
        case .puback(let packet): packet.write(.puback, into: &buffer, version: version)
        case .pubrec(let packet): packet.write(.pubrec, into: &buffer, version: version)
        case .pubrel(let packet): packet.write(.pubrel, into: &buffer, version: version)
        case .pubcomp(let packet): packet.write(.pubcomp, into: &buffer, version: version)
        case .subscribe(let packet): packet.write(into: &buffer, version: version)
        case .suback(let packet): packet.write(.suback, into: &buffer, version: version)
        case .unsubscribe(let packet): packet.write(into: &buffer, version: version)
        case .unsuback(let packet): packet.write(.unsuback, into: &buffer, version: version)
        case .pingreq: FixedHeader(type: .pingreq, flags: 0, remainingLength: 0).write(into: &buffer)
        case .pingresp: FixedHeader(type: .pingresp, flags: 0, remainingLength: 0).write(into: &buffer)
        case .disconnect(let packet): packet.write(.disconnect, into: &buffer, version: version)
        case .auth(let packet): packet.write(.auth, into: &buffer, version: version)
        }
    }
}
