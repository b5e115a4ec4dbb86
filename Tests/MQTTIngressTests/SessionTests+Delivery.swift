import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

/// Subscriptions and messages to the client.
extension SessionTests {
    @Test("any valid filter is granted at QoS 1 at most, others are refused")
    func subscribe() {
        let packet = SubscribePacket(
            packetId: 3,
            subscriptions: [
                .init(filter: "v2/fw/response/+", qos: .exactlyOnce), .init(filter: "#", qos: .atMostOnce),
                .init(filter: "a#", qos: .atLeastOnce),
                .init(filter: "$share/g/a", qos: .atLeastOnce),
            ]
        )
        var session = Self.connected(.v3_1_1)
        #expect(session.received(.subscribe(packet)) == [.send(.suback(.init(packetId: 3, codes: [1, 0, 0x80, 1])))])
        session = Self.connected(.v5)
        #expect(
            session.received(.subscribe(packet)) == [
                .send(
                    .suback(
                        .init(
                            packetId: 3,
                            properties: .reason("a wildcard is not alone in its level"),
                            codes: [1, 0, 0x8F, 0x9E]
                        )
                    )
                )
            ]
        )
        var identified = packet
        identified.properties = [(.subscriptionIdentifier, .variable(1))]
        #expect(
            session.received(.subscribe(identified)) == [
                .send(
                    .suback(
                        .init(
                            packetId: 3,
                            properties: .reason("no subscription identifiers"),
                            codes: [0xA1, 0xA1, 0xA1, 0xA1]
                        )
                    )
                )
            ]
        )
    }

    @Test("as many subscriptions as the limit are granted, one more is not, and a repeated one is no more")
    func subscriptionsMax() {
        var session = Self.connected()
        for index in 0..<Limits.subscriptionsMax {
            #expect(session.received(Self.subscribe("a/\(index)")) == [.send(.suback(.init(packetId: 1, codes: [1])))])
        }
        #expect(
            session.received(Self.subscribe("b")) == [
                .send(.suback(.init(packetId: 1, properties: .reason("too many subscriptions"), codes: [0x97])))
            ]
        )
        #expect(
            session.received(Self.subscribe("a/0", .atMostOnce)) == [.send(.suback(.init(packetId: 1, codes: [0])))]
        )
    }

    @Test("unsubscribing says what was there, in MQTT 5")
    func unsubscribe() {
        let packet = Packet.unsubscribe(UnsubscribePacket(packetId: 4, filters: ["a", "b", "c#"]))
        for (version, codes) in [(ProtocolVersion.v5, [0, 0x11, 0x8F] as [UInt8]), (.v3_1_1, [])] {
            var session = Self.connected(version)
            _ = session.received(Self.subscribe("a"))
            #expect(session.received(packet) == [.send(.unsuback(.init(packetId: 4, codes: codes)))])
        }
    }

    @Test(
        "attribute updates go to subscribers only, on the topic of their family",
        arguments: [
            ("v1/devices/me/attributes", "v1/devices/me/attributes"), ("v1/devices/me/+", "v1/devices/me/attributes"),
            ("#", "v1/devices/me/attributes"), ("v2/a", "v2/a"), ("v2/a/j", "v2/a/j"), ("v2/fw/response/+", nil),
            ("v1/devices/me/attributes/response/+", nil),
        ] as [(String, String?)]
    )
    func attributes(filter: String, topic: String?) {
        var session = Self.connected()
        let notification = DeviceNotification.attributesUpdated(["k": 1])
        #expect(session.notified(notification).isEmpty)
        _ = session.received(Self.subscribe(filter, .atMostOnce))
        let expected = topic.map {
            Session.Action.send(
                .publish(PublishPacket(qos: .atMostOnce, topic: $0, payload: ByteBuffer(string: #"{"k":1}"#)))
            )
        }
        #expect(session.notified(notification) == [expected].compactMap(\.self))
        _ = session.received(.unsubscribe(UnsubscribePacket(packetId: 1, filters: [filter])))
        #expect(session.notified(notification).isEmpty)
    }

    @Test("removed attributes and calls are told")
    func otherNotifications() {
        var session = Self.connected()
        _ = session.received(Self.subscribe("#", .atMostOnce))
        func sent(_ topic: String, _ payload: String) -> [Session.Action] {
            [.send(.publish(PublishPacket(qos: .atMostOnce, topic: topic, payload: ByteBuffer(string: payload))))]
        }
        #expect(
            session.notified(.attributesDeleted(["a", "b"]))
                == sent("v1/devices/me/attributes", #"{"deleted":["a","b"]}"#)
        )
        #expect(
            session.notified(.rpcRequest(id: 4, method: "m", params: [1]))
                == sent("v1/devices/me/rpc/request/4", #"{"method":"m","params":[1]}"#)
        )
        #expect(session.notified(.attributesUpdated([:])).isEmpty && session.notified(.attributesDeleted([])).isEmpty)
    }

    @Test("revoked credentials end the session, also while they are checked")
    func revoked() {
        var session = Self.connected()
        #expect(Self.endReason(session.notified(.credentialsRevoked)) == .administrativeAction)
        var connecting = Session(limits: .testing())
        _ = connecting.received(.connect(ConnectPacket(version: .v5, clientId: "c")))
        #expect(Self.connack(connecting.notified(.credentialsRevoked))?.code == 0x87)
        #expect(connecting.authenticated(assignedClientId: "a").isEmpty)
    }

    @Test("messages beyond the client's Receive Maximum wait for PUBACK, and too many end the session")
    func window() throws {
        var session = Self.connected(properties: [(.receiveMaximum, .twoBytes(1))])
        _ = session.received(Self.subscribe("#"))
        let first = session.notified(.attributesUpdated(["k": 1]))
        guard case .send(.publish(let packet)) = first.first else {
            throw NodeError(.internalError, "nothing was sent")
        }
        #expect(packet.packetId == 1)
        for _ in 0..<Limits.waitingMax { #expect(session.notified(.attributesUpdated(["k": 2])).isEmpty) }
        var full = session
        #expect(Self.endReason(full.notified(.attributesUpdated(["k": 2]))) == .quotaExceeded)
        let next = session.received(.puback(AcknowledgementPacket(packetId: 1)))
        guard case .send(.publish(let second)) = next.first else { throw NodeError(.internalError, "nothing was sent") }
        #expect(next.count == 1 && second.packetId == 2)
        #expect(session.received(.puback(AcknowledgementPacket(packetId: 1))).isEmpty)
    }

    @Test("while an answer waits for PUBACK reading goes on, but requests without end close the session")
    func blockedByWindow() throws {
        var session = Self.connected(.v3_1_1, limits: .testing { ($0.inFlightMax, $0.requestsMax) = (1, 2) })
        let topic = "v2/fw/response/1/chunk/0"
        _ = session.received(Self.publish(id: 1))
        _ = session.nextRequest()
        #expect(session.canPublish(to: topic) == true)
        let packet = try Self.answer(&session, to: topic, payloadSize: 10)
        #expect(packet.qos == .atLeastOnce && packet.packetId == 1)
        #expect(session.canPublish(to: topic) == false)
        _ = session.received(Self.publish(id: 2))
        _ = session.received(Self.publish(id: 3))
        #expect(session.isReadingWanted)
        var flooded = session
        #expect(Self.isClosed(flooded.received(Self.publish(id: 4))))
        _ = session.received(.puback(AcknowledgementPacket(packetId: 1)))
        #expect(session.canPublish(to: topic) == true)
        #expect(!session.isReadingWanted)
    }

    @Test(
        "an answer has QoS 1, or that of a subscription to its topic",
        arguments: [(nil, 1), (.atMostOnce, 0), (.exactlyOnce, 1)] as [(QoS?, UInt8)]
    )
    func answerQoS(subscribed: QoS?, qos: UInt8) throws {
        var session = Self.connected()
        if let subscribed { _ = session.received(Self.subscribe("v2/fw/response/+/chunk/+", subscribed)) }
        let packet = try Self.answer(&session, to: "v2/fw/response/1/chunk/0", payloadSize: 1)
        #expect(packet.qos.rawValue == qos)
        #expect((packet.packetId == nil) == (qos == 0))
    }

    @Test("an answer of the client's Maximum Packet Size is sent, a larger one is not")
    func clientPacketBytesMax() {
        var session = Self.connected(properties: [(.maximumPacketSize, .fourBytes(100))])
        // Header 2, topic 2 + 1, packet identifier 2, properties 1.
        #expect(session.answer(to: "t", payloadSize: 92) != nil)
        #expect(session.answer(to: "t", payloadSize: 93) == nil)
        _ = session.received(Self.subscribe("#"))
        let large = DeviceNotification.attributesUpdated(["k": .string(String(repeating: "x", count: 100))])
        #expect(session.notified(large) == [.note("a message to the client is larger than it accepts")])
        #expect(session.isConnected)
    }

    @Test("packet identifiers go round and leave out those in flight")
    func packetIds() throws {
        var session = Self.connected(.v3_1_1)
        _ = try Self.answer(&session, to: "t", payloadSize: 0)
        for expected in 2...65_535 {
            let packet = try Self.answer(&session, to: "t", payloadSize: 0)
            #expect(packet.packetId == UInt16(expected))
            _ = session.received(.puback(AcknowledgementPacket(packetId: UInt16(expected))))
        }
        #expect(try Self.answer(&session, to: "t", payloadSize: 0).packetId == 2)
    }
}
