import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("Profiles", .timeLimit(.minutes(5))) struct ProfileTopicTests {
    /// A domain whose profile names a transport and configures it.
    private static func domain(
        _ configuration: JSON.Object = [:],
        kind: ProfileTransport.Kind = .mqtt
    ) async throws -> TestDomain {
        try await TestServer.domain(settings: [
            "transportType": .string(kind.rawValue),
            "profileData": ["transportConfiguration": .object(configuration)],
        ])
    }

    private static let topics: JSON.Object = [
        "deviceTelemetryTopic": "site/+/data/#", "deviceAttributesTopic": "site/+/about",
        "deviceAttributesSubscribeTopic": "site/down",
    ]

    @Test(
        "a device whose profile is for another transport is refused",
        arguments: [(.v3_1_1, 3), (.v5, 0x88)] as [(ProtocolVersion, UInt8)]
    )
    func otherTransport(version: ProtocolVersion, code: UInt8) async throws {
        for kind in [ProfileTransport.Kind.coap, .lwm2m, .snmp] {
            try await TestServer.run(domain: try await Self.domain(kind: kind)) { server in
                let client = try await server.client(version)
                client.send(.connect(ConnectPacket(version: version, clientId: "c", userName: TestServer.token)))
                guard case .connack(let connack) = try await client.next() else {
                    throw NodeError(.internalError, "no CONNACK")
                }
                #expect(connack.code == code)
                #expect(await client.rest().isEmpty)
            }
        }
    }

    @Test(
        "topics of the profile replace the usual long ones, and the chain is told the topic",
        arguments: [
            ("site/7/data", MessageType.postTelemetryRequest), ("site/7/data/a/b", .postTelemetryRequest),
            ("site/7/about", .postAttributesRequest), ("v2/t", .postTelemetryRequest),
            ("v2/a/j", .postAttributesRequest),
            ("v1/devices/me/telemetry", nil), ("v1/devices/me/attributes", nil), ("site/data", nil),
        ] as [(String, MessageType?)]
    )
    func topics(topic: String, type: MessageType?) async throws {
        try await TestServer.run(domain: try await Self.domain(Self.topics)) { server in
            let client = try await server.connected()
            client.publish(topic, #"{"a":1}"#)
            #expect(try await client.acknowledgement() == (1, type == nil ? 0x90 : 0))
            let message = server.sent.first?.message
            #expect(message?.type == type)
            #expect(message?.metadata.string("mqttTopic") == (type == nil ? nil : topic))
        }
    }

    @Test("a profile without topics of its own changes nothing")
    func usual() async throws {
        try await TestServer.run(domain: try await Self.domain()) { server in
            let client = try await server.connected()
            client.publish("v1/devices/me/telemetry", #"{"a":1}"#)
            #expect(try await client.acknowledgement() == (1, 0))
            #expect(server.sent.first?.message.metadata.string("mqttTopic") == nil)
        }
    }

    @Test("shared attributes are told on the profile's topic, or on a usual one to who subscribes to that")
    func updates() async throws {
        for filter in ["site/down", "v1/devices/me/attributes", "#"] {
            try await TestServer.run(domain: try await Self.domain(Self.topics)) { server in
                let client = try await server.connected()
                try await client.subscribe(filter)
                server.sessions.notify(TestServer.device.id, .attributesUpdated(["a": 1]))
                let topic = filter == "#" ? "site/down" : filter
                #expect(try await client.text() == "\(topic) {\"a\":1}")
            }
        }
    }

    @Test("a payload that is to be protobuf is refused with a reason")
    func protobuf() async throws {
        var configuration = Self.topics
        configuration["transportPayloadTypeConfiguration"] = ["transportPayloadType": "PROTOBUF"]
        try await TestServer.run(domain: try await Self.domain(configuration)) { server in
            let client = try await server.connected()
            client.publish("site/7/data", #"{"a":1}"#)
            #expect(try await client.acknowledgement() == (1, 0x99))
            #expect(server.sent.isEmpty)
        }
    }

    @Test("a payload that makes no sense is acknowledged in MQTT 3.1.1 if the profile says so")
    func badPayload() async throws {
        try await TestServer.run(domain: try await Self.domain(["sendAckOnValidationException": true])) { server in
            let client = try await server.connected(.v3_1_1)
            client.publish("v1/devices/me/telemetry", "{")
            #expect(try await client.acknowledgement() == (1, 0))
            client.send(.pingreq)
            #expect(try await client.next() == .pingresp)
            let new = try await server.connected(.v5)
            new.publish("v1/devices/me/telemetry", "{")
            #expect(try await new.acknowledgement() == (1, 0x99))
            #expect(server.sent.isEmpty)
        }
    }

    @Test("a will on a topic of the profile is a report")
    func will() async throws {
        try await TestServer.run(domain: try await Self.domain(Self.topics)) { server in
            let connect = WillTests.connect(.v5, topic: "site/7/data")
            let (client, _) = try await server.connected(connect)
            try await client.channel.close()
            try await server.until { server.events.count == 2 }
            #expect(server.sent.map(\.message.type) == [.postTelemetryRequest])
            #expect(server.sent.first?.message.metadata.string("mqttTopic") == "site/7/data")
        }
    }
}
