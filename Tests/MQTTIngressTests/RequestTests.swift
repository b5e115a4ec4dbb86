import FoundationEssentials
import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("Requests", .timeLimit(.minutes(5))) struct RequestTests {
    static let versions: [ProtocolVersion] = [.v3_1_1, .v5]

    @Test(
        "a report becomes a message",
        arguments: [
            ("v1/devices/me/telemetry", #"[{"ts":1,"values":{"a":1}}]"#, MessageType.postTelemetryRequest),
            ("v2/t", #"{"a":1}"#, .postTelemetryRequest),
            ("v1/devices/me/attributes", #"{"fw_state":"IDLE"}"#, .postAttributesRequest),
            ("v2/a/j", "{}", .postAttributesRequest),
            ("v1/devices/me/rpc/response/12", #"{"ok":true}"#, .toServerRPCResponse),
        ]
    )
    func report(topic: String, payload: String, type: MessageType) async throws {
        try await TestServer.run { server in
            for version in Self.versions {
                let client = try await server.connected(version)
                let packetId = client.publish(topic, payload)
                #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: packetId)))
                let message = try #require(server.sent.last).message
                #expect(message.type == type)
                #expect(message.data == .json(try JSON(parsing: payload)))
                #expect(message.metadata.integer(MessageKey.requestId) == (type == .toServerRPCResponse ? 12 : nil))
            }
        }
    }

    @Test("a report of QoS 2 is answered in its four steps")
    func exactlyOnce() async throws {
        try await TestServer.run { server in
            let client = try await server.connected()
            client.publish("v2/t", "{}", qos: .exactlyOnce)
            #expect(try await client.next() == .pubrec(AcknowledgementPacket(packetId: 1)))
            client.send(.pubrel(AcknowledgementPacket(packetId: 1)))
            #expect(try await client.next() == .pubcomp(AcknowledgementPacket(packetId: 1)))
            #expect(server.sent.count == 1)
        }
    }

    @Test("a report is acknowledged only when the chain is done")
    func acknowledgedWhenDone() async throws {
        let gate = Gate()
        try await TestServer.run(answer: { _ in
            await gate.pass()
            return .completed(.empty)
        }) { server in
            let client = try await server.connected()
            client.publish("v2/t", "{}")
            await gate.arrived()
            client.send(.pingreq)
            #expect(try await client.next() == .pingresp)
            gate.open()
            #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 1)))
        }
    }

    @Test(
        "a payload that makes no sense is 0x99 in MQTT 5 and ends a connection of 3.1.1",
        arguments: [
            ("v1/devices/me/telemetry", "{"), ("v1/devices/me/attributes/request/1", #"{"sharedKeys":1}"#),
            ("v1/devices/me/rpc/response/1", "x"), ("v1/devices/me/rpc/request/1", "[]"),
        ]
    )
    func badPayload(topic: String, payload: String) async throws {
        try await TestServer.run { server in
            let client = try await server.connected(.v5)
            client.publish(topic, payload, qos: .atMostOnce)
            client.publish(topic, payload)
            #expect(try await client.acknowledgement() == (2, 0x99))
            let old = try await server.connected(.v3_1_1)
            old.publish(topic, payload, qos: .atMostOnce)
            old.send(.pingreq)
            #expect(try await old.next() == .pingresp)
            old.publish(topic, payload)
            #expect(await old.rest().isEmpty)
            #expect(server.sent.isEmpty)
        }
    }

    @Test(
        "a failure of the chain is a reason in MQTT 5, and no acknowledgement in 3.1.1",
        arguments: [
            (NodeError.Code.badRequest, 0x99), (.unauthorized, 0x87), (.forbidden, 0x87), (.notFound, 0x83),
            (.conflict, 0x83),
            (.tooLarge, 0x97), (.tooManyRequests, 0x97), (.storageFull, 0x97), (.unavailable, 0x83), (.timedOut, 0x83),
            (.internalError, 0x80), ("of-its-own", 0x80),
        ] as [(NodeError.Code, UInt8)]
    )
    func chainFailure(code: NodeError.Code, reason: UInt8) async throws {
        for outcome in [Outcome.failed(NodeError(code, "no")), .completed(.refused(NodeError(code, "no")))] {
            try await TestServer.run(answer: { _ in outcome }) { server in
                let client = try await server.connected(.v5)
                client.publish("v2/t", "{}")
                #expect(try await client.acknowledgement() == (1, reason))
                let old = try await server.connected(.v3_1_1)
                old.publish("v2/t", "{}")
                #expect(await old.rest().isEmpty)
            }
        }
    }

    @Test(
        "an unknown topic does not end the session",
        arguments: [(.v3_1_1, 0), (.v5, 0x90)] as [(ProtocolVersion, UInt8)]
    )
    func unknownTopic(version: ProtocolVersion, reason: UInt8) async throws {
        try await TestServer.run { server in
            let client = try await server.connected(version)
            client.publish("v1/devices/other/telemetry", "{}")
            #expect(try await client.acknowledgement() == (1, reason))
            client.publish("v2/t", "{}")
            #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 2)))
            #expect(server.sent.count == 1)
        }
    }

    @Test("protobuf is refused as a payload that makes no sense, with words", arguments: ["v2/t/p", "v2/a/req/p/1"])
    func protobuf(topic: String) async throws {
        try await TestServer.run { server in
            let client = try await server.connected(.v5)
            client.publish(topic, "{}")
            let words = "protobuf is not supported; send JSON"
            let expected = AcknowledgementPacket(packetId: 1, reason: .payloadFormatInvalid, properties: .reason(words))
            #expect(try await client.next() == .puback(expected))
            let old = try await server.connected(.v3_1_1)
            old.publish(topic, "{}")
            #expect(await old.rest().isEmpty)
            #expect(server.sent.isEmpty)
        }
    }

    @Test(
        "what is only for gateways is refused and does not end the session",
        arguments: [(.v3_1_1, 0), (.v5, 0x87)] as [(ProtocolVersion, UInt8)]
    )
    func gateway(version: ProtocolVersion, reason: UInt8) async throws {
        try await TestServer.run { server in
            let client = try await server.connected(version)
            client.publish("v1/gateway/telemetry", #"{"A":[{"k":1}]}"#)
            #expect(try await client.acknowledgement() == (1, reason))
            client.publish("v2/t", "{}")
            #expect(try await client.acknowledgement() == (2, 0))
            #expect(server.sent.count == 1)
        }
    }

    @Test("a claim passes the chain, and one that no node takes does not end the session")
    func claim() async throws {
        try await TestServer.run(answer: { message in
            message.value(forVariable: "secretKey") == nil ? .completed(nil) : .completed(.empty)
        }) { server in
            for version in Self.versions {
                let client = try await server.connected(version)
                client.publish("v1/devices/me/claim", #"{"secretKey":"s","durationMs":60000}"#)
                #expect(try await client.acknowledgement() == (1, 0))
                #expect(try #require(server.sent.last).message.type == .claimRequest)
                client.publish("v1/devices/me/claim")
                #expect(try await client.acknowledgement() == (2, version == .v5 ? 0x83 : 0))
                #expect(try #require(server.sent.last).message.data == .json([:]))
            }
        }
    }

    @Test("words are left out where the client does not want them, or they are over its Maximum Packet Size")
    func noWords() async throws {
        try await TestServer.run { server in
            for properties: Properties in [
                [(.requestProblemInformation, .byte(0))], [(.maximumPacketSize, .fourBytes(20))],
            ] {
                let client = try await server.connected(.v5, properties: properties)
                client.publish("x")
                let expected = AcknowledgementPacket(packetId: 1, reason: .topicNameInvalid)
                #expect(try await client.next() == .puback(expected))
            }
        }
    }

    @Test("requests are carried out one after another, in order, however fast they come", arguments: Self.versions)
    func order(version: ProtocolVersion) async throws {
        try await TestServer.run(
            ["requests-max": "3"],
            answer: { _ in
                await Task.yield()
                return .completed(nil)
            }
        ) { server in
            let client = try await server.connected(version, properties: [])
            let count: UInt16 = version == .v5 ? 3 : 500
            for id in 1...count { client.publish("v2/t", "{\"n\":\(id)}") }
            for id in 1...count { #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: id))) }
            let numbers = server.sent.map { $0.message.value(forVariable: "n") }
            #expect(numbers == (1...Int64(count)).map(JSON.integer))
        }
    }

    @Test("what a device sent before it left is carried out")
    func disconnect() async throws {
        let gate = Gate()
        try await TestServer.run(answer: { message in
            if message.value(forVariable: "n") == 3 { gate.open() }
            return .completed(nil)
        }) { server in
            let client = try await server.connected(.v3_1_1)
            for n in 1...3 { client.publish("v2/t", "{\"n\":\(n)}", qos: .atMostOnce) }
            client.send(.disconnect(DisconnectPacket()))
            await gate.pass()
            #expect(server.sent.count == 3)
        }
    }

    // MARK: Attributes and calls

    @Test(
        "attributes are answered on the topic of their request, subscribed or not",
        arguments: [
            ("v1/devices/me/attributes/request/4", "v1/devices/me/attributes/response/4"), ("v2/a/req/4", "v2/a/res/4"),
            ("v2/a/req/j/4", "v2/a/res/j/4"),
        ]
    )
    func attributes(topic: String, response: String) async throws {
        try await TestServer.run(answer: { _ in .completed(.json(["shared": ["fw_title": "t"]])) }) { server in
            for version in Self.versions {
                let client = try await server.connected(version)
                client.publish(topic, #"{"clientKeys":"a,b","sharedKeys":"c"}"#)
                #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 1)))
                #expect(try await client.text() == response + #" {"shared":{"fw_title":"t"}}"#)
                let message = try #require(server.sent.last).message
                #expect(message.type == .getAttributesRequest)
                #expect(message.metadata.string(MessageKey.clientKeys) == "a,b")
                #expect(message.metadata.string(MessageKey.sharedKeys) == "c")
            }
        }
    }

    @Test("a request for all attributes names none, and nothing found is an empty object", arguments: ["", "{}"])
    func allAttributes(payload: String) async throws {
        try await TestServer.run { server in
            let client = try await server.connected()
            client.publish("v1/devices/me/attributes/request/1", payload, qos: .atMostOnce)
            #expect(try await client.text() == "v1/devices/me/attributes/response/1 {}")
            let message = try #require(server.sent.last).message
            #expect(message.metadata[MessageKey.clientKeys] == nil && message.metadata[MessageKey.sharedKeys] == nil)
        }
    }

    @Test(
        "the session's limits are told without the chain, with or without parameters",
        arguments: [
            ("0", "{}"), ("7", #"{"messages":"7:1","telemetryMessages":"7:1"}"#),
        ]
    )
    func sessionLimits(perSecond: String, rates: String) async throws {
        let attributes = ["requests-max": "20", "device-requests-per-second-max": perSecond]
        try await TestServer.run(attributes) { server in
            let client = try await server.connected()
            let limits = #"{"maxPayloadSize":65536,"maxInflightMessages":20,"rateLimits":"# + rates + "}"
            for call in [
                #"{"method":"getSessionLimits"}"#, #"{"method":"getSessionLimits","params":{"timeout":5000}}"#,
            ] {
                client.publish("v1/devices/me/rpc/request/1", call, qos: .atMostOnce)
                #expect(try await client.text() == "v1/devices/me/rpc/response/1 " + limits)
            }
            #expect(server.sent.isEmpty)
        }
    }

    @Test("a call of the server is answered, also when nobody can", arguments: ["v1/devices/me/rpc", "v2/r"])
    func call(family: String) async throws {
        try await TestServer.run(answer: { message in
            switch message.metadata.string(MessageKey.method) {
            case "add": .completed(.json(3))
            case "fail": .failed(NodeError(.unavailable, "not now"))
            default: .completed(nil)
            }
        }) { server in
            let (request, response) =
                family == "v2/r" ? ("v2/r/req", "v2/r/res") : ("\(family)/request", "\(family)/response")
            let client = try await server.connected()
            client.publish("\(request)/1", #"{"method":"add","params":[1,2]}"#, qos: .atMostOnce)
            #expect(try await client.text() == "\(response)/1 3")
            let message = try #require(server.sent.last).message
            #expect(message.type == .toServerRPCRequest && message.data == .json([1, 2]))
            #expect(message.metadata.integer(MessageKey.requestId) == 1)
            client.publish("\(request)/2", #"{"method":"fail"}"#, qos: .atMostOnce)
            #expect(try await client.text() == "\(response)/2 " + #"{"error":"not now"}"#)
            client.publish("\(request)/3", #"{"method":"other"}"#, qos: .atMostOnce)
            #expect(try await client.text().contains("error"))
        }
    }

    @Test("attribute updates and calls reach a subscribed device", arguments: Self.versions)
    func pushes(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let client = try await server.connected(version)
            let id = TestServer.device.id
            server.sessions.notify(id, .attributesUpdated(["ignored": 1]))
            try await client.subscribe("v1/devices/me/attributes")
            try await client.subscribe("v1/devices/me/rpc/request/+", .atMostOnce)
            server.sessions.notify(id, .attributesUpdated(["fw_title": "t", "fw_size": 5]))
            server.sessions.notify(id, .attributesDeleted(["fw_tag"]))
            server.sessions.notify(id, .rpcRequest(id: 3, method: "reboot", params: [:]))
            #expect(try await client.text() == #"v1/devices/me/attributes {"fw_title":"t","fw_size":5}"#)
            #expect(try await client.text() == #"v1/devices/me/attributes {"deleted":["fw_tag"]}"#)
            #expect(try await client.text() == #"v1/devices/me/rpc/request/3 {"method":"reboot","params":{}}"#)
        }
    }
}
