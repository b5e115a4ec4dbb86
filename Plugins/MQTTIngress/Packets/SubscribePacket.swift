import NIOCore

/// SUBSCRIBE: a client says which topics it wants (MQTT 5 §3.8, MQTT 3.1.1 §3.8).
struct SubscribePacket: Hashable, Sendable {
    /// One filter with how it is wanted.
    struct Subscription: Hashable, Sendable {
        /// As the client wrote it, not checked.
        var filter: String
        var qos: QoS
        /// The upper six bits of the subscription options (MQTT 5 §3.8.3.1), shifted down; 0 in MQTT 3.1.1.
        var options: UInt8 = 0
    }

    var packetId: UInt16
    var properties = Properties()
    /// At least one.
    var subscriptions: [Subscription]

    /// Reads the packet's body.
    static func read(from body: inout ByteBuffer, version: ProtocolVersion) throws(PacketError) -> SubscribePacket {
        let packetId = try body.readPacketId()
        let properties = version == .v5 ? try Properties.read(from: &body, of: .subscribe) : []
        var subscriptions: [Subscription] = []
        while body.readableBytes > 0 {
            let filter = try body.readText("topic filter")
            let options: UInt8 = try body.readNumber("subscription options")
            guard let qos = QoS(rawValue: options & 0b11) else { throw .malformed("the QoS is 3") }
            // Bits 6 and 7 are reserved, bits 4 and 5 are not both set (MQTT 5 §3.8.3.1); in 3.1.1 all six are reserved.
            guard options & 0b1100_0000 == 0, options & 0b0011_0000 != 0b0011_0000, version == .v5 || options <= 2
            else {
                throw .malformed("the subscription options have bits that are reserved")
            }
            subscriptions.append(Subscription(filter: filter, qos: qos, options: options >> 2))
        }
        guard !subscriptions.isEmpty else { throw PacketError(.protocolError, "there is nothing to subscribe to") }
        return SubscribePacket(packetId: packetId, properties: properties, subscriptions: subscriptions)
    }

    func write(into buffer: inout ByteBuffer, version: ProtocolVersion) {
        FixedHeader.write(.subscribe, into: &buffer) { body in
            body.writeInteger(self.packetId)
            if version == .v5 { self.properties.write(into: &body) }
            for subscription in self.subscriptions {
                body.writeText(subscription.filter)
                body.writeInteger(subscription.options << 2 | subscription.qos.rawValue)
            }
        }
    }
}

/// UNSUBSCRIBE: a client no longer wants some topics (MQTT 5 §3.10, MQTT 3.1.1 §3.10).
struct UnsubscribePacket: Hashable, Sendable {
    var packetId: UInt16
    var properties = Properties()
    /// At least one; as the client wrote them, not checked.
    var filters: [String]

    /// Reads the packet's body.
    static func read(from body: inout ByteBuffer, version: ProtocolVersion) throws(PacketError) -> UnsubscribePacket {
        let packetId = try body.readPacketId()
        let properties = version == .v5 ? try Properties.read(from: &body, of: .unsubscribe) : []
        var filters: [String] = []
        while body.readableBytes > 0 { filters.append(try body.readText("topic filter")) }
        guard !filters.isEmpty else { throw PacketError(.protocolError, "there is nothing to unsubscribe from") }
        return UnsubscribePacket(packetId: packetId, properties: properties, filters: filters)
    }

    func write(into buffer: inout ByteBuffer, version: ProtocolVersion) {
        FixedHeader.write(.unsubscribe, into: &buffer) { body in
            body.writeInteger(self.packetId)
            if version == .v5 { self.properties.write(into: &body) }
            for filter in self.filters { body.writeText(filter) }
        }
    }
}

/// SUBACK or UNSUBACK: one code for each filter (MQTT 5 §3.9 and §3.11).
struct SubscriptionAnswerPacket: Hashable, Sendable {
    var packetId: UInt16
    var properties = Properties()
    /// Granted QoS or failure, in the order of the filters; UNSUBACK has none in MQTT 3.1.1.
    var codes: [UInt8]

    /// Reads the packet's body.
    static func read(
        from body: inout ByteBuffer,
        version: ProtocolVersion
    ) throws(PacketError) -> SubscriptionAnswerPacket {
        let packetId = try body.readPacketId()
        let properties = version == .v5 ? try Properties.read(from: &body, of: .subscriptionAnswer) : []
        let codes = body.readBytes(length: body.readableBytes) ?? []
        return SubscriptionAnswerPacket(packetId: packetId, properties: properties, codes: codes)
    }

    func write(_ type: PacketType, into buffer: inout ByteBuffer, version: ProtocolVersion) {
        FixedHeader.write(type, into: &buffer) { body in
            body.writeInteger(self.packetId)
            if version == .v5 { self.properties.write(into: &body) }
            body.writeBytes(self.codes)
        }
    }
}
