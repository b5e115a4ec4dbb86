import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

extension Limits {
    static func testing(_ change: (inout Limits) -> Void = { _ in }) -> Limits {
        var values: [String: ConfigurationValue] = [:]
        for attribute in Limits.attributes {
            values[attribute.name] = try? attribute.parse(attribute.defaultText ?? "")
        }
        var limits = Limits(Configuration(values))
        change(&limits)
        return limits
    }
}

extension Session {
    mutating func acknowledge(_ request: Request, _ reason: ReasonCode, explanation: String? = nil) -> [Action] {
        let isTolerable = reason == .topicNameInvalid
        return self.acknowledge(
            request,
            Answer.Outcome(reason: reason, explanation: explanation, isTolerable: isTolerable)
        )
    }
}

@Suite("Session") struct SessionTests {
    /// A session whose client has connected.
    static func connected(
        _ version: ProtocolVersion = .v5,
        properties: Properties = [],
        limits: Limits = .testing()
    ) -> Session {
        var session = Session(limits: limits)
        _ = session.received(
            .connect(ConnectPacket(version: version, keepAlive: 60, clientId: "c", properties: properties))
        )
        _ = session.authenticated(assignedClientId: "a")
        return session
    }

    static func publish(
        _ qos: QoS = .atLeastOnce,
        id: UInt16 = 1,
        topic: String = "v1/devices/me/telemetry",
        properties: Properties = []
    ) -> Packet {
        .publish(
            PublishPacket(
                qos: qos,
                topic: topic,
                packetId: qos == .atMostOnce ? nil : id,
                properties: properties,
                payload: ByteBuffer(string: "{}")
            )
        )
    }

    static func subscribe(_ filter: String, _ qos: QoS = .atLeastOnce) -> Packet {
        .subscribe(SubscribePacket(packetId: 1, subscriptions: [.init(filter: filter, qos: qos)]))
    }

    /// The reason that the session was ended for.
    static func endReason(_ actions: [Session.Action]) -> ReasonCode? {
        guard actions.count == 2, case .send(.disconnect(let packet)) = actions[0], case .close = actions[1] else {
            return nil
        }
        return packet.reason
    }

    static func isClosed(_ actions: [Session.Action]) -> Bool {
        if actions.count == 1, case .close = actions[0] { true } else { false }
    }

    static func connack(_ actions: [Session.Action]) -> ConnackPacket? {
        if case .send(.connack(let packet)) = actions.first { packet } else { nil }
    }

    /// The next request, which must be there.
    static func take(_ session: inout Session) throws -> Session.Request {
        let request = session.nextRequest()
        return try #require(request)
    }

    /// An answer, which must be possible.
    static func answer(_ session: inout Session, to topic: String, payloadSize: Int) throws -> PublishPacket {
        let packet = session.answer(to: topic, payloadSize: payloadSize)
        return try #require(packet)
    }

    // MARK: Connecting

    @Test("a client of MQTT 5 is told the limits")
    func offer() throws {
        var session = Session(limits: .testing())
        let connect = ConnectPacket(
            version: .v5,
            keepAlive: 0,
            clientId: "",
            properties: [(.sessionExpiryInterval, .fourBytes(100))]
        )
        #expect(session.received(.connect(connect)) == [.authenticate(connect)])
        let connack = try #require(Self.connack(session.authenticated(assignedClientId: "assigned")))
        #expect(connack.code == 0 && !connack.isSessionPresent)
        let expected: Properties = [
            (.receiveMaximum, .twoBytes(100)), (.retainAvailable, .byte(0)), (.maximumPacketSize, .fourBytes(65_536)),
            (.topicAliasMaximum, .twoBytes(16)), (.subscriptionIdentifierAvailable, .byte(0)),
            (.sharedSubscriptionAvailable, .byte(0)), (.serverKeepAlive, .twoBytes(3600)),
            (.assignedClientIdentifier, .text("assigned")),
        ]
        #expect(connack.properties == expected)
        #expect(session.keepAliveSeconds == 3600)
    }

    @Test("a client of MQTT 3.1.1 is accepted with code 0 and keeps its keep alive, even none")
    func accept311() {
        var session = Session(limits: .testing())
        _ = session.received(.connect(ConnectPacket(version: .v3_1_1, keepAlive: 0, clientId: "")))
        #expect(session.authenticated(assignedClientId: "a") == [.send(.connack(ConnackPacket(code: 0)))])
        #expect(session.keepAliveSeconds == 0)
    }

    @Test(
        "a keep alive at the limit is kept, one past it is not",
        arguments: [(3600, nil), (3601, 3600)] as [(UInt16, Int?)]
    )
    func keepAliveMax(asked: UInt16, told: Int?) throws {
        var session = Session(limits: .testing())
        _ = session.received(.connect(ConnectPacket(version: .v5, keepAlive: asked, clientId: "c")))
        let connack = try #require(Self.connack(session.authenticated(assignedClientId: "a")))
        #expect(connack.properties.number(.serverKeepAlive) == told)
        #expect(session.keepAliveSeconds == 3600)
    }

    @Test(
        "a refusal has the code of the client's version",
        arguments: [
            (ReasonCode.badUserNameOrPassword, UInt8(5)), (.clientIdentifierNotValid, 2), (.serverUnavailable, 3),
            (.notAuthorized, 5),
        ]
    )
    func refusals(reason: ReasonCode, code: UInt8) throws {
        for (version, expected) in [(ProtocolVersion.v3_1, code), (.v3_1_1, code), (.v5, reason.rawValue)] {
            var session = Session(limits: .testing())
            _ = session.received(.connect(ConnectPacket(version: version, clientId: "c")))
            let actions = session.refused(reason, explanation: "no")
            #expect(try #require(Self.connack(actions)).code == expected)
            #expect(actions.last == .close(explanation: "no"))
            #expect(session.isClosed)
        }
    }

    @Test(
        "an empty client identifier needs a clean session, and in MQTT 3.1 is none",
        arguments: [
            (ProtocolVersion.v3_1, true, UInt8(2)), (.v3_1_1, false, 2), (.v3_1_1, true, nil), (.v5, false, nil),
        ] as [(ProtocolVersion, Bool, UInt8?)]
    )
    func emptyClientId(version: ProtocolVersion, isClean: Bool, code: UInt8?) {
        var session = Session(limits: .testing())
        let connect = ConnectPacket(version: version, isClean: isClean, clientId: "")
        let actions = session.received(.connect(connect))
        #expect(Self.connack(actions)?.code == code)
        if code == nil { #expect(actions == [.authenticate(connect)]) }
    }

    @Test("extended authentication is refused")
    func authenticationMethod() {
        var session = Session(limits: .testing())
        let actions = session.received(
            .connect(ConnectPacket(version: .v5, clientId: "c", properties: [(.authenticationMethod, .text("m"))]))
        )
        #expect(Self.connack(actions)?.code == 0x8C)
    }

    @Test(
        "an unknown version is answered in a form that the client may know",
        arguments: [(.v3_1_1, 1), (.v5, 0x84)] as [(ProtocolVersion, UInt8)]
    )
    func version(version: ProtocolVersion, code: UInt8) {
        var session = Session(limits: .testing())
        let actions = session.received(PacketError(.unsupportedProtocolVersion, "no", version: version))
        #expect(Self.connack(actions)?.code == code)
        #expect(session.version == version)
    }

    @Test("before CONNECT everything else closes the connection without a word")
    func beforeConnect() {
        for packet in [Packet.pingreq, Self.publish(), Self.subscribe("a"), .disconnect(DisconnectPacket())] {
            var session = Session(limits: .testing())
            #expect(Self.isClosed(session.received(packet)))
        }
        var session = Session(limits: .testing())
        #expect(Self.isClosed(session.received(.malformed("no"))))
    }

    @Test("a second CONNECT is a protocol error")
    func secondConnect() {
        var session = Self.connected()
        #expect(
            Self.endReason(session.received(.connect(ConnectPacket(version: .v5, clientId: "c")))) == .protocolError
        )
        var old = Self.connected(.v3_1_1)
        #expect(Self.isClosed(old.received(.connect(ConnectPacket(version: .v3_1_1, clientId: "c")))))
    }

    @Test("packets that come while credentials are checked wait, up to a limit")
    func early() throws {
        var session = Session(limits: .testing { $0.requestsMax = 2 })
        _ = session.received(.connect(ConnectPacket(version: .v3_1_1, clientId: "c")))
        #expect(!session.isReadingWanted)
        #expect(session.received(.pingreq).isEmpty)
        #expect(session.received(Self.publish()).isEmpty)
        var flooded = session
        #expect(Self.isClosed(flooded.received(.pingreq)))
        let actions = session.authenticated(assignedClientId: "a")
        #expect(actions == [.send(.connack(ConnackPacket(code: 0))), .send(.pingresp), .work])
        #expect(session.isReadingWanted)
    }

    @Test("packets that only a server sends are protocol errors")
    func serverPackets() {
        let packets: [Packet] = [
            .connack(ConnackPacket(code: 0)), .suback(SubscriptionAnswerPacket(packetId: 1, codes: [])), .pingresp,
            .unsuback(SubscriptionAnswerPacket(packetId: 1, codes: [])), .auth(DisconnectPacket()),
            .pubrec(AcknowledgementPacket(packetId: 1)), .pubcomp(AcknowledgementPacket(packetId: 1)),
        ]
        for packet in packets {
            var session = Self.connected()
            #expect(Self.endReason(session.received(packet)) == .protocolError)
        }
    }

    @Test("bytes that are no packet end the session for their reason")
    func malformed() {
        var session = Self.connected()
        #expect(Self.endReason(session.received(PacketError(.packetTooLarge, "large"))) == .packetTooLarge)
        #expect(session.received(.pingreq).isEmpty)
    }

    // MARK: Requests

    @Test("requests are taken in order, by one worker, and acknowledged when done")
    func order() throws {
        var session = Self.connected(.v3_1_1)
        #expect(session.received(Self.publish(id: 1)) == [.work])
        #expect(session.received(Self.publish(id: 2)).isEmpty)
        let first = try Self.take(&session)
        #expect(first.packetId == 1)
        #expect(session.acknowledge(first, .success) == [.send(.puback(AcknowledgementPacket(packetId: 1)))])
        let second = try Self.take(&session)
        #expect(session.acknowledge(second, .success) == [.send(.puback(AcknowledgementPacket(packetId: 2)))])
        #expect(session.nextRequest() == nil)
        #expect(session.isIdle)
        #expect(session.received(Self.publish(.atMostOnce)) == [.work])
        let third = try Self.take(&session)
        #expect(session.acknowledge(third, .success).isEmpty)
    }

    @Test(
        "a failure is a reason in MQTT 5 and the end of a connection of 3.1.1",
        arguments: [ReasonCode.payloadFormatInvalid, .unspecifiedError, .implementationSpecificError, .quotaExceeded]
    )
    func failures(reason: ReasonCode) throws {
        var session = Self.connected(.v5)
        _ = session.received(Self.publish(id: 9))
        var request = try Self.take(&session)
        let expected = AcknowledgementPacket(packetId: 9, reason: reason)
        #expect(session.acknowledge(request, reason, explanation: "x") == [.note("x"), .send(.puback(expected))])
        #expect(session.isConnected)
        session = Self.connected(.v3_1_1)
        _ = session.received(Self.publish(id: 9))
        request = try Self.take(&session)
        #expect(session.acknowledge(request, reason, explanation: "x") == [.close(explanation: "x")])
        session = Self.connected(.v3_1_1)
        _ = session.received(Self.publish(.atMostOnce))
        request = try Self.take(&session)
        #expect(session.acknowledge(request, reason, explanation: "x") == [.note("x")])
        #expect(session.isConnected)
    }

    @Test(
        "an unknown topic is 0x90 in MQTT 5 and acknowledged in 3.1.1",
        arguments: [(.v5, 0x90), (.v3_1_1, 0)] as [(ProtocolVersion, UInt8)]
    )
    func unknownTopic(version: ProtocolVersion, reason: UInt8) throws {
        var session = Self.connected(version)
        _ = session.received(Self.publish(topic: "nowhere"))
        let request = try Self.take(&session)
        #expect(request.topic == .unknown)
        let expected = AcknowledgementPacket(packetId: 1, reason: ReasonCode(rawValue: reason))
        #expect(session.acknowledge(request, .topicNameInvalid) == [.send(.puback(expected))])
    }

    @Test("reading stops when the queue is full and goes on when it is not")
    func queueFull() throws {
        var session = Self.connected(.v3_1_1, limits: .testing { $0.requestsMax = 2 })
        _ = session.received(Self.publish(id: 1))
        #expect(session.isReadingWanted)
        _ = session.received(Self.publish(id: 2))
        #expect(!session.isReadingWanted)
        _ = session.nextRequest()
        #expect(session.isReadingWanted)
    }

    @Test(
        "as many messages as Receive Maximum may be open, one more ends the session",
        arguments: [QoS.atLeastOnce, .exactlyOnce]
    )
    func receiveMaximum(qos: QoS) throws {
        var session = Self.connected(limits: .testing { $0.requestsMax = 2 })
        _ = session.received(Self.publish(qos, id: 1))
        _ = session.received(Self.publish(qos, id: 2))
        #expect(session.isConnected)
        var flooded = session
        #expect(Self.endReason(flooded.received(Self.publish(qos, id: 3))) == .receiveMaximumExceeded)
        let request = try Self.take(&session)
        _ = session.acknowledge(request, .success)
        if qos == .exactlyOnce { _ = session.received(.pubrel(AcknowledgementPacket(packetId: 1))) }
        #expect(session.received(Self.publish(qos, id: 3)).isEmpty)
        #expect(session.isConnected)
    }

    @Test("a message of QoS 2 is worked on once however often it comes before PUBREL")
    func exactlyOnce() throws {
        var session = Self.connected()
        #expect(session.received(Self.publish(.exactlyOnce, id: 5)) == [.work])
        #expect(session.received(Self.publish(.exactlyOnce, id: 5)).isEmpty)
        let request = try Self.take(&session)
        #expect(session.received(Self.publish(.exactlyOnce, id: 5)).isEmpty)
        let pubrec = Session.Action.send(.pubrec(AcknowledgementPacket(packetId: 5)))
        #expect(session.acknowledge(request, .success) == [pubrec])
        #expect(session.received(Self.publish(.exactlyOnce, id: 5)) == [pubrec])
        #expect(session.nextRequest() == nil)
        let release = Packet.pubrel(AcknowledgementPacket(packetId: 5))
        #expect(session.received(release) == [.send(.pubcomp(AcknowledgementPacket(packetId: 5)))])
        let unknown = AcknowledgementPacket(packetId: 5, reason: .packetIdentifierNotFound)
        #expect(session.received(release) == [.send(.pubcomp(unknown))])
        #expect(session.received(Self.publish(.exactlyOnce, id: 5)) == [.work])
    }

    @Test("a QoS 2 message that failed may come again at once")
    func exactlyOnceFailed() throws {
        var session = Self.connected()
        _ = session.received(Self.publish(.exactlyOnce, id: 5))
        let request = try Self.take(&session)
        let pubrec = AcknowledgementPacket(packetId: 5, reason: .quotaExceeded)
        #expect(session.acknowledge(request, .quotaExceeded) == [.send(.pubrec(pubrec))])
        _ = session.received(Self.publish(.exactlyOnce, id: 5))
        #expect(session.nextRequest() != nil)
    }

    @Test("a topic may be said by its alias once it was said in full")
    func topicAlias() throws {
        var session = Self.connected()
        let short = Self.publish(topic: "", properties: [(.topicAlias, .twoBytes(16))])
        var early = session
        #expect(Self.endReason(early.received(short)) == .protocolError)
        _ = session.received(Self.publish(topic: "v2/t", properties: [(.topicAlias, .twoBytes(16))]))
        _ = session.received(short)
        #expect(try Self.take(&session).topic == .telemetry)
        #expect(try Self.take(&session).topic == .telemetry)
        _ = session.received(Self.publish(topic: "v2/a", properties: [(.topicAlias, .twoBytes(16))]))
        _ = session.received(short)
        #expect(try Self.take(&session).topic == .attributes)
        #expect(try Self.take(&session).topic == .attributes)
    }

    @Test("a topic alias over the maximum, or 0, or none and no topic, ends the session")
    func badTopicAlias() {
        for alias: UInt16 in [0, 17, .max] {
            var session = Self.connected()
            let packet = Self.publish(properties: [(.topicAlias, .twoBytes(alias))])
            #expect(Self.endReason(session.received(packet)) == .topicAliasInvalid)
        }
        var session = Self.connected()
        #expect(Self.endReason(session.received(Self.publish(topic: ""))) == .protocolError)
        session = Self.connected()
        let unknown = Self.publish(topic: "", properties: [(.topicAlias, .twoBytes(3))])
        _ = session.received(Self.publish(topic: "v2/t", properties: [(.topicAlias, .twoBytes(5))]))
        #expect(Self.endReason(session.received(unknown)) == .protocolError)
    }

    @Test("a client of MQTT 5 is told in words why its session ends, unless that is over its Maximum Packet Size")
    func farewell() {
        let explanation = "the topic alias 17 is not one of 1 to 16"
        let long = DisconnectPacket(reason: .topicAliasInvalid, explanation: explanation)
        #expect(long.properties == [(.reasonString, .text(explanation))])
        // Type, length, reason code, length of the properties, identifier, length of the text.
        let size = UInt32(explanation.utf8.count) + 7
        for (maximum, packet) in [(size, long), (size - 1, DisconnectPacket(reason: .topicAliasInvalid))] {
            var session = Self.connected(properties: [(.maximumPacketSize, .fourBytes(maximum))])
            let actions = session.received(Self.publish(properties: [(.topicAlias, .twoBytes(17))]))
            #expect(actions == [.send(.disconnect(packet)), .close(explanation: explanation)])
        }
        let bytesMax = Properties.reasonBytesMax
        for count in [bytesMax, bytesMax + 1] {
            let packet = DisconnectPacket(reason: .protocolError, explanation: String(repeating: "a", count: count))
            #expect(packet.properties == [(.reasonString, .text(String(repeating: "a", count: bytesMax)))])
        }
    }

    @Test("reports sent before DISCONNECT are carried out, questions are not, and nothing is answered")
    func disconnect() throws {
        var session = Self.connected()
        _ = session.received(Self.publish(id: 1, topic: "v2/fw/request/1/chunk/0"))
        _ = session.received(Self.publish(id: 2))
        #expect(session.received(.disconnect(DisconnectPacket())) == [.close(explanation: nil)])
        #expect(!session.isIdle)
        let request = try Self.take(&session)
        #expect(request.packetId == 2)
        #expect(session.acknowledge(request, .success).isEmpty)
        #expect(session.nextRequest() == nil)
        #expect(session.isIdle)
    }
}
