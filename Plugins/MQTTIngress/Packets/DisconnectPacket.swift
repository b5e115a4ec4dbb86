import NIOCore

/// DISCONNECT, and AUTH, which looks the same (MQTT 5 §3.14 and §3.15, MQTT 3.1.1 §3.14).
struct DisconnectPacket: Hashable, Sendable {
    /// In MQTT 3.1.1 always success, and not written.
    var reason: ReasonCode = .success
    var properties = Properties()

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

extension DisconnectPacket {
    /// Makes a packet that also says in words why (MQTT 5 §3.14.2.2.3).
    ///
    /// paho-mqtt and its relatives overlook the reason code of a packet without properties.
    init(reason: ReasonCode, explanation: String) {
        self.init(reason: reason, properties: .reason(explanation))
    }

    /// The packet that ends a session: with an explanation, unless that makes it larger than the client accepts.
    static func farewell(_ reason: ReasonCode, _ explanation: String?, bytesMax: Int) -> Self {
        let short = Self(reason: reason)
        guard let explanation else { return short }
        let long = Self(reason: reason, explanation: explanation)
        var bytes = ByteBuffer()
        long.write(.disconnect, into: &bytes, version: .v5)
        return bytes.readableBytes <= bytesMax ? long : short
    }
}
