import NIOCore

/// PUBLISH: an application message, in either direction (MQTT 5 §3.3, MQTT 3.1.1 §3.3).
struct PublishPacket: Hashable, Sendable {
    /// Whether it may have been sent before.
    var isDuplicate = false
    var retain = false
    var qos: QoS
    /// Where it is published; empty only in MQTT 5, with a topic alias.
    var topic: String
    /// There if, and only if, the QoS is not 0; never 0.
    var packetId: UInt16?
    var properties = Properties()
    var payload: ByteBuffer

    /// Reads the packet's body; what is left after the header is the payload.
    static func read(
        from body: inout ByteBuffer,
        flags: UInt8,
        version: ProtocolVersion
    ) throws(PacketError) -> PublishPacket {
        guard let qos = QoS(rawValue: flags >> 1 & 0b11) else { throw .malformed("the QoS is 3") }
        let isDuplicate = flags & 0b1000 != 0
        // MQTT 3.1.1 §3.3.1.1: DUP must be 0 for all QoS 0 messages.
        guard qos != .atMostOnce || !isDuplicate else { throw .malformed("a message of QoS 0 is marked as duplicate") }
        let topic = try body.readText("topic name")
        guard TopicFilter.isTopicName(topic) || (version == .v5 && topic.isEmpty) else {
            throw PacketError(.topicNameInvalid, "the topic is empty or has a wildcard")
        }
        let packetId = qos == .atMostOnce ? nil : try body.readPacketId()
        let properties = version == .v5 ? try Properties.read(from: &body, of: .publish) : Properties()
        let payload = body.readSlice(length: body.readableBytes) ?? ByteBuffer()
        return PublishPacket(
            isDuplicate: isDuplicate,
            retain: flags & 1 != 0,
            qos: qos,
            topic: topic,
            packetId: packetId,
            properties: properties,
            payload: payload
        )
    }

    func write(into buffer: inout ByteBuffer, version: ProtocolVersion) {
        self.writeHeader(into: &buffer, version: version, payloadSize: self.payload.readableBytes)
        buffer.writeImmutableBuffer(self.payload)
    }

    /// Writes all but the payload, of which `payloadSize` bytes are to follow, at once or in pieces.
    func writeHeader(into buffer: inout ByteBuffer, version: ProtocolVersion, payloadSize: Int) {
        let flags: UInt8 = (self.isDuplicate ? 0b1000 : 0) | self.qos.rawValue << 1 | (self.retain ? 1 : 0)
        let remaining = self.remainingLength(version: version, payloadSize: payloadSize)
        FixedHeader(type: .publish, flags: flags, remainingLength: remaining).write(into: &buffer)
        buffer.writeText(self.topic)
        if let packetId = self.packetId { buffer.writeInteger(packetId) }
        if version == .v5 { self.properties.write(into: &buffer) }
    }

    /// How many bytes the whole packet takes with a payload of this size, also before it has its identifier; `nil` if MQTT
    /// has no packet that large.
    func size(version: ProtocolVersion, payloadSize: Int) -> Int? {
        guard payloadSize <= ByteBuffer.variableByteIntegerMax else { return nil }
        let remaining = self.remainingLength(version: version, payloadSize: payloadSize)
        guard remaining <= ByteBuffer.variableByteIntegerMax else { return nil }
        return FixedHeader.size(remainingLength: remaining) + remaining
    }

    private func remainingLength(version: ProtocolVersion, payloadSize: Int) -> Int {
        let size = 2 + self.topic.utf8.count + (self.qos == .atMostOnce ? 0 : 2) + payloadSize
        guard version == .v5 else { return size }
        guard !self.properties.isEmpty else { return size + 1 }
        var properties = ByteBuffer()
        self.properties.write(into: &properties)
        return size + properties.readableBytes
    }
}

extension ByteBuffer {
    /// Reads a packet identifier, which is never 0 (MQTT 5 §2.2.1).
    mutating func readPacketId() throws(PacketError) -> UInt16 {
        let packetId: UInt16 = try self.readNumber("packet identifier")
        guard packetId != 0 else { throw .malformed("the packet identifier is 0") }
        return packetId
    }
}
