import NIOCore

/// CONNECT: a client introduces itself (MQTT 5 §3.1, MQTT 3.1.1 §3.1).
struct ConnectPacket: Hashable, Sendable {
    /// What the server is to publish when the client is gone.
    struct Will: Hashable, Sendable {
        var topic: String
        var payload: ByteBuffer
        var qos: QoS = .atMostOnce
        var retain = false
        var properties = Properties()
    }

    var version: ProtocolVersion
    /// Clean session (3.1.1) or clean start (5).
    var isClean = true
    /// Seconds between packets at most; 0 turns the check off.
    var keepAlive: UInt16 = 0
    /// May be empty: then the server makes one up.
    var clientId: String
    var will: Will?
    var userName: String?
    var password: ByteBuffer?
    var properties = Properties()

    private static let reservedFlag: UInt8 = 0x01
    private static let cleanFlag: UInt8 = 0x02
    private static let willFlag: UInt8 = 0x04
    private static let willRetainFlag: UInt8 = 0x20
    private static let passwordFlag: UInt8 = 0x40
    private static let userNameFlag: UInt8 = 0x80

    /// Reads the packet's body.
    static func read(from body: inout ByteBuffer) throws(PacketError) -> ConnectPacket {
        let name = try body.readText("protocol name")
        let level: UInt8 = try body.readNumber("protocol level")
        guard name == ProtocolVersion.v5.name || name == ProtocolVersion.v3_1.name else {
            throw PacketError(.unsupportedProtocolVersion, "the protocol is not MQTT")
        }
        guard let version = ProtocolVersion(rawValue: level), version.name == name else {
            throw PacketError(
                .unsupportedProtocolVersion,
                "level \(level) of MQTT is not spoken here; levels 3, 4 and 5 are",
                version: level > ProtocolVersion.v5.rawValue ? .v5 : .v3_1_1
            )
        }
        let flags: UInt8 = try body.readNumber("connect flags")
        guard flags & Self.reservedFlag == 0 else { throw .malformed("the reserved connect flag is set") }
        let keepAlive: UInt16 = try body.readNumber("keep alive")
        let properties = version == .v5 ? try Properties.read(from: &body, of: .connect) : []
        let clientId = try body.readText("client identifier")
        var packet = ConnectPacket(
            version: version,
            isClean: flags & Self.cleanFlag != 0,
            keepAlive: keepAlive,
            clientId: clientId,
            properties: properties
        )
        packet.will = try Self.readWill(from: &body, flags: flags, version: version)
        if flags & Self.userNameFlag != 0 { packet.userName = try body.readText("user name") }
        if flags & Self.passwordFlag != 0 {
            // MQTT 3.1.1 §3.1.2.9; MQTT 5 allows a password alone.
            guard version == .v5 || packet.userName != nil else {
                throw .malformed("there is a password but no user name")
            }
            packet.password = try body.readBinary("password")
        }
        return packet
    }

    private static func readWill(
        from body: inout ByteBuffer,
        flags: UInt8,
        version: ProtocolVersion
    ) throws(PacketError) -> Will? {
        guard let qos = QoS(rawValue: flags >> 3 & 0b11) else { throw .malformed("the will's QoS is 3") }
        let retain = flags & Self.willRetainFlag != 0
        guard flags & Self.willFlag != 0 else {
            // MQTT 3.1.1 §3.1.2.6 and §3.1.2.7.
            guard qos == .atMostOnce, !retain else { throw .malformed("there are flags of a will but no will") }
            return nil
        }
        let properties = version == .v5 ? try Properties.read(from: &body, of: .will) : []
        let topic = try body.readText("will topic")
        guard TopicFilter.isTopicName(topic) else { throw .malformed("the will's topic is not a topic name") }
        let payload = try body.readBinary("will payload")
        return Will(topic: topic, payload: payload, qos: qos, retain: retain, properties: properties)
    }

    func write(into buffer: inout ByteBuffer) {
        FixedHeader.write(.connect, into: &buffer) { body in
            body.writeText(self.version.name)
            body.writeInteger(self.version.rawValue)
            body.writeInteger(self.flags)
            body.writeInteger(self.keepAlive)
            if self.version == .v5 { self.properties.write(into: &body) }
            body.writeText(self.clientId)
            if let will = self.will {
                if self.version == .v5 { will.properties.write(into: &body) }
                body.writeText(will.topic)
                body.writeBinary(will.payload)
            }
            if let userName = self.userName { body.writeText(userName) }
            if let password = self.password { body.writeBinary(password) }
        }
    }

    private var flags: UInt8 {
        var flags: UInt8 = self.isClean ? Self.cleanFlag : 0
        if let will = self.will {
            flags |= Self.willFlag | will.qos.rawValue << 3 | (will.retain ? Self.willRetainFlag : 0)
        }
        if self.userName != nil { flags |= Self.userNameFlag }
        if self.password != nil { flags |= Self.passwordFlag }
        return flags
    }
}
