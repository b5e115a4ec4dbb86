import NIOCore

/// PUBACK, PUBREC, PUBREL or PUBCOMP: a step of a message's acknowledgement (MQTT 5 §3.4 to §3.7).
struct AcknowledgementPacket: Hashable, Sendable {
    var packetId: UInt16
    /// In MQTT 3.1.1 always success, and not written.
    var reason: ReasonCode = .success
    var properties = Properties()

    /// Reads the packet's body.
    static func read(from body: inout ByteBuffer, version: ProtocolVersion) throws(PacketError) -> AcknowledgementPacket
    {
        var packet = AcknowledgementPacket(packetId: try body.readPacketId())
        // MQTT 5 §3.4.2.1: without reason code it is success, without property length there are none.
        guard version == .v5, body.readableBytes > 0 else { return packet }
        packet.reason = ReasonCode(rawValue: try body.readNumber("reason code"))
        if body.readableBytes > 0 { packet.properties = try Properties.read(from: &body, of: .acknowledgement) }
        return packet
    }

    func write(_ type: PacketType, into buffer: inout ByteBuffer, version: ProtocolVersion) {
        guard version == .v5, self.reason != .success || !self.properties.isEmpty else {
            FixedHeader(type: type, flags: type.requiredFlags ?? 0, remainingLength: 2).write(into: &buffer)
            buffer.writeInteger(self.packetId)
            return
        }
        FixedHeader.write(type, into: &buffer) { body in
            body.writeInteger(self.packetId)
            body.writeInteger(self.reason.rawValue)
            if !self.properties.isEmpty { self.properties.write(into: &body) }
        }
    }
}
