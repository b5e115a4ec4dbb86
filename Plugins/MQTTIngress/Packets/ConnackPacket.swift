import NIOCore

/// CONNACK: the server's answer to CONNECT (MQTT 5 §3.2, MQTT 3.1.1 §3.2).
struct ConnackPacket: Hashable, Sendable {
    /// The return codes of MQTT 3.1.1 (table 3.1).
    enum ReturnCode: UInt8, Sendable {
        case accepted = 0
        case unacceptableProtocolVersion = 1
        case identifierRejected = 2
        case serverUnavailable = 3
        case badUserNameOrPassword = 4
        case notAuthorized = 5
    }

    var isSessionPresent = false
    /// A reason code of MQTT 5 or a return code of 3.1.1.
    var code: UInt8
    var properties = Properties()

    /// Reads the packet's body.
    static func read(from body: inout ByteBuffer, version: ProtocolVersion) throws(PacketError) -> ConnackPacket {
        let flags: UInt8 = try body.readNumber("acknowledge flags")
        guard flags <= 1 else { throw .malformed("the acknowledge flags have bits that are reserved") }
        let code: UInt8 = try body.readNumber("return code")
        let properties = version == .v5 ? try Properties.read(from: &body, of: .connack) : []
        return ConnackPacket(isSessionPresent: flags == 1, code: code, properties: properties)
    }

    func write(into buffer: inout ByteBuffer, version: ProtocolVersion) {
        FixedHeader.write(.connack, into: &buffer) { body in
            body.writeInteger(self.isSessionPresent ? 1 : 0 as UInt8)
            body.writeInteger(self.code)
            if version == .v5 { self.properties.write(into: &body) }
        }
    }
}
