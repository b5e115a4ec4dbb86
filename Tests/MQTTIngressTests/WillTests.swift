import NIOCore
import NodeKit
import NodeTesting
import Testing

@testable import MQTTIngress

@Suite("Wills", .timeLimit(.minutes(5))) struct WillTests {
    static let versions: [ProtocolVersion] = [.v3_1_1, .v5]

    static func connect(
        _ version: ProtocolVersion,
        topic: String = "v1/devices/me/telemetry",
        payload: String = #"{"online":false}"#,
        delay: UInt32? = nil,
        expiry: UInt32 = 0
    ) -> ConnectPacket {
        var will = ConnectPacket.Will(
            topic: topic,
            payload: ByteBuffer(string: payload),
            qos: .exactlyOnce,
            retain: true
        )
        if let delay { will.properties = [(.willDelayInterval, .fourBytes(delay))] }
        return ConnectPacket(
            version: version,
            isClean: expiry == 0,
            clientId: "c",
            will: will,
            userName: TestServer.token,
            properties: expiry == 0 ? [] : [(.sessionExpiryInterval, .fourBytes(expiry))]
        )
    }

    @Test(
        "a will that reports something passes the chain when the device goes without a word",
        arguments: [
            ("v1/devices/me/telemetry", MessageType.postTelemetryRequest), ("v2/a/j", .postAttributesRequest),
        ]
    )
    func gone(topic: String, type: MessageType) async throws {
        for version in Self.versions {
            try await TestServer.run { server in
                let (client, _) = try await server.connected(Self.connect(version, topic: topic))
                client.publish("v2/t", #"{"last":1}"#, qos: .atMostOnce)
                try await client.channel.close()
                try await server.until { server.events.count == 2 }
                // After what the device sent, and before its session counts as ended.
                #expect(server.sent.map(\.message.type) == [.postTelemetryRequest, type])
                let will = try #require(server.sent.last).message
                #expect(will.data == .json(["online": false]) && will.originator == TestServer.device)
            }
        }
    }

    @Test("a device that takes its leave has no will, unless it says so", arguments: Self.versions)
    func leave(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let (client, _) = try await server.connected(Self.connect(version))
            client.send(.disconnect(DisconnectPacket()))
            _ = await client.rest()
            try await server.until { server.events.count == 2 }
            #expect(server.sent.isEmpty)
            guard version == .v5 else { return }
            let (other, _) = try await server.connected(Self.connect(version))
            other.send(.disconnect(DisconnectPacket(reason: .disconnectWithWill)))
            _ = await other.rest()
            try await server.until { server.events.count == 4 }
            #expect(server.sent.count == 1)
        }
    }

    @Test("the server's own end of a session counts as going without a word, but not that of the device")
    func ended() async throws {
        try await TestServer.run { server in
            let (client, _) = try await server.connected(Self.connect(.v5))
            client.send(bytes: [0, 0])
            _ = await client.rest()
            try await server.until { server.sent.count == 1 }
            let (revoked, _) = try await server.connected(Self.connect(.v5))
            server.sessions.notify(TestServer.device.id, .credentialsRevoked)
            _ = await revoked.rest()
            try await server.until { server.events.count == 4 }
            #expect(server.sent.count == 1)
        }
    }

    @Test("a will on another topic is taken and ignored, retained or not", arguments: Self.versions)
    func otherTopic(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let (client, _) = try await server.connected(Self.connect(version, topic: "lwt/device"))
            client.send(
                .publish(
                    PublishPacket(
                        retain: true,
                        qos: .atLeastOnce,
                        topic: "v2/t",
                        packetId: 7,
                        payload: ByteBuffer(string: "{}")
                    )
                )
            )
            #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 7)))
            try await client.channel.close()
            try await server.until { server.events.count == 2 }
            #expect(server.sent.count == 1)
        }
    }

    @Test("a will with a delay waits for the device to come back")
    func delayed() async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(.v5, delay: 1000, expiry: 1000))
            try await first.channel.close()
            try await server.until { server.events.count == 2 }
            let (second, connack) = try await server.connected(Self.connect(.v5, expiry: 1000))
            #expect(connack.isSessionPresent && server.sent.isEmpty)
            second.send(.disconnect(DisconnectPacket()))
            _ = await second.rest()
            try await server.until { server.events.count == 4 }
            #expect(server.sent.isEmpty)
        }
    }

    @Test("a will with a delay is due when its session ends, or the delay has passed")
    func delayEnds() async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(.v5, delay: 1000, expiry: 1000))
            try await first.channel.close()
            try await server.until { server.events.count == 2 }
            // A client that begins anew ends the session.
            var anew = Self.connect(.v5, delay: 1, expiry: 1000)
            anew.isClean = true
            let (second, _) = try await server.connected(anew)
            try await server.until { server.sent.count == 1 }
            try await second.channel.close()
            try await server.until { server.sent.count == 2 }
        }
    }
}
