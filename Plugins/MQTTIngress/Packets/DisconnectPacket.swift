import NIOCore

/// DISCONNECT, and AUTH, which looks the same (MQTT 5 §3.14 and §3.15, MQTT 3.1.1 §3.14).
struct DisconnectPacket: Hashable, Sendable {
    /// In MQTT 3.1.1 always success, and not written.
    var reason: ReasonCode = .success
    var properties: Properties = []

    /// Reads the packet's body.
    static func read(
        from body: inout ByteBuffer,
        version: ProtocolVersion,
        of owner: Properties.Owner = .disconnect
    ) throws(PacketError) -> DisconnectPacket {
        var packet = DisconnectPacket()
        guard version == .v5, body.readableBytes > 0 else { return packet }
        packet.reason = ReasonCode(rawValue: try body.readNumber("reason code"))
        if body.readableBytes > 0 { packet.properties = try Properties.read(from: &body, of: owner) }
        return packet
    }

    func write(_ type: PacketType, into buffer: inout ByteBuffer, version: ProtocolVersion) {
        FixedHeader.write(type, into: &buffer) { body in
            guard version == .v5, self.reason != .success || !self.properties.isEmpty else { return }
            body.writeInteger(self.reason.rawValue)
            if !self.properties.isEmpty { self.properties.write(into: &body) }
        }
    }
}
