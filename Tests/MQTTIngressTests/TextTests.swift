import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import MQTTIngress

/// Texts of clients: those that only look the same are different, and those with U+0000 are refused.
@Suite("Texts", .timeLimit(.minutes(5))) struct TextTests {
    @Test(
        "a message with U+0000 is acknowledged, dropped and counted, and the session goes on",
        .bug(id: "D1.3"),
        arguments: [
            ("v1/devices/me/telemetry", #"{"v":"a\u0000b"}"#), ("v2/t", #"[{"ts":1,"values":{"a":{"b":["\u0000"]}}}]"#),
            ("v2/t", #"{"a\u0000":1}"#), ("v1/devices/me/attributes", #"{"fw_version":"1.0\u0000"}"#),
            ("v1/devices/me/attributes/request/1", #"{"sharedKeys":"a\u0000"}"#),
            ("v1/devices/me/rpc/response/1", #"{"r":"\u0000"}"#),
            ("v1/devices/me/rpc/request/1", #"{"method":"m\u0000","params":{}}"#),
            ("v1/devices/me/claim", #"{"secretKey":"\u0000"}"#), ("v1/devices/me/telemetry", "{\"v\":\"a\u{0}b\"}"),
        ]
    )
    func nullCharacter(topic: String, payload: String) async throws {
        let metrics = Metrics()
        try await TestServer.run(metrics: metrics) { server in
            let old = try await server.connected(.v3_1_1)
            old.publish(topic, payload, qos: .atMostOnce)
            old.publish(topic, payload)
            #expect(try await old.next() == .puback(AcknowledgementPacket(packetId: 2)))
            old.publish(topic, payload, qos: .exactlyOnce)
            #expect(try await old.next() == .pubrec(AcknowledgementPacket(packetId: 3)))
            old.send(.pubrel(AcknowledgementPacket(packetId: 3)))
            #expect(try await old.next() == .pubcomp(AcknowledgementPacket(packetId: 3)))
            old.publish("v2/t", "{}")
            #expect(try await old.next() == .puback(AcknowledgementPacket(packetId: 4)))
            let new = try await server.connected(.v5, clientId: "d")
            new.publish(topic, payload)
            guard case .puback(let acknowledgement) = try await new.next() else {
                Issue.record("no PUBACK")
                return
            }
            #expect(acknowledgement.reason == .payloadFormatInvalid)
            new.send(.pingreq)
            #expect(try await new.next() == .pingresp)
            #expect(server.sent.count == 1)
        }
        let dropped = metrics.families().first { $0.name == "windlass_transport_dropped_messages_total" }?.samples
        #expect(dropped?.map(\.value) == [4])
        #expect(dropped?.first?.labels.contains(.init("reason", "null-character")) == true)
    }

    @Test("a text field of a packet with U+0000 ends the connection, as MQTT demands", .bug(id: "D1.3"))
    func malformed() async throws {
        try await TestServer.run { server in
            let client = try await server.connected(.v3_1_1)
            // MQTT 3.1.1 §1.5.3: the topic "v2/t" with U+0000 after it, QoS 0.
            client.send(bytes: [0x30, 0x09, 0x00, 0x05, 0x76, 0x32, 0x2F, 0x74, 0x00, 0x7B, 0x7D])
            #expect(await client.rest().isEmpty)
            #expect(server.sent.isEmpty)
        }
    }

    @Test("client identifiers that only look the same have sessions of their own", .bug(id: "D1.2"))
    func clientIdentifiers() async throws {
        try await TestServer.run(["sessions-per-device-max": "10"]) { server in
            let properties: Properties = [(.sessionExpiryInterval, .fourBytes(60))]
            let first = try await server.connected(clientId: "caf\u{E9}", properties: properties)
            let second = try await server.connected(clientId: "cafe\u{301}", properties: properties)
            for client in [first, second] {
                client.send(.pingreq)
                #expect(try await client.next() == .pingresp)
            }
            let third = try await server.connected(clientId: "cafe\u{301}", properties: properties)
            #expect(await second.rest().count == 1)
            for client in [first, third] {
                client.send(.pingreq)
                #expect(try await client.next() == .pingresp)
            }
        }
    }

    @Test("filters that only look the same are two, and match their own topics", .bug(id: "D1.2"))
    func filters() throws {
        let first = try #require(TopicFilter("site/caf\u{E9}/+"))
        let second = try #require(TopicFilter("site/cafe\u{301}/+"))
        #expect(first != second && Set([first, second]).count == 2)
        #expect(first.matches("site/caf\u{E9}/a") && !first.matches("site/cafe\u{301}/a"))
        let transports = ["site/caf\u{E9}", "site/cafe\u{301}"].map {
            ProfileTransport(kind: .mqtt, mqtt: ProfileTransport.MQTT(telemetryFilter: $0))
        }
        #expect(transports[0] != transports[1])
        let table = ProfileTopicsTable()
        let topics = try transports.map { try #require(table.topics($0)) }
        #expect(topics[0].meaning(of: "site/caf\u{E9}") == .telemetry)
        #expect(topics[1].meaning(of: "site/caf\u{E9}") == .unknown)
        #expect(topics[1].meaning(of: "site/cafe\u{301}") == .telemetry)
    }
}
