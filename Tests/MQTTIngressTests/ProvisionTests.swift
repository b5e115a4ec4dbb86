import FoundationEssentials
import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("Provisioning", .timeLimit(.minutes(5))) struct ProvisionTests {
    static let versions: [ProtocolVersion] = [.v3_1_1, .v5]
    static let request = #"{"deviceName":"d","provisionDeviceKey":"k","provisionDeviceSecret":"s"}"#

    static func connect(_ version: ProtocolVersion, byName: Bool = true) -> ConnectPacket {
        ConnectPacket(
            version: version,
            keepAlive: 600,
            clientId: byName ? "any" : "provision",
            userName: byName ? "provision" : nil
        )
    }

    @Test(
        "whoever calls itself provision may ask to be made a device, and is answered what the chain says",
        arguments: Self.versions,
        [true, false]
    )
    func provision(version: ProtocolVersion, byName: Bool) async throws {
        try await TestServer.run(answer: { _ in .completed(.json(["status": "SUCCESS"])) }) { server in
            let (client, connack) = try await server.connected(Self.connect(version, byName: byName))
            #expect(!connack.isSessionPresent)
            try await client.subscribe("/provision/response")
            client.publish("/provision/request", Self.request)
            #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 1)))
            #expect(try await client.text() == #"/provision/response {"status":"SUCCESS"}"#)
            let message = try #require(server.sent.first).message
            #expect(message.type == .provisionRequest && message.originator == .unknown(name: "d"))
            #expect(message.data == .json(try JSON(parsing: Self.request)))
            // It stays for another try, and is no session of a device.
            client.send(.pingreq)
            #expect(try await client.next() == .pingresp)
            #expect(server.events.isEmpty)
        }
    }

    @Test("anything else published there is refused, and the connection ends", arguments: Self.versions)
    func elsewhere(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            for topic in ["v1/devices/me/telemetry", "v1/devices/me/rpc/request/1", "x"] {
                let (client, _) = try await server.connected(Self.connect(version))
                client.publish(topic, "{}")
                #expect(try await client.acknowledgement() == (1, version == .v5 ? 0x90 : 0))
                #expect(await client.rest().count == (version == .v5 ? 1 : 0))
            }
            #expect(server.sent.isEmpty)
        }
    }

    @Test("a request that is no object ends the connection, and so does one that no node takes")
    func refused() async throws {
        try await TestServer.run { server in
            for (payload, reason) in [("[]", 0x99), ("{", 0x99), (Self.request, 0x83)] as [(String, UInt8)] {
                let (client, _) = try await server.connected(Self.connect(.v5))
                client.publish("/provision/request", payload)
                #expect(try await client.acknowledgement() == (1, reason))
                guard case .disconnect = await client.rest().first else {
                    throw NodeError(.internalError, "no DISCONNECT")
                }
                let (old, _) = try await server.connected(Self.connect(.v3_1_1))
                old.publish("/provision/request", payload)
                #expect(await old.rest().isEmpty)
            }
        }
    }

    @Test("a device does not provision")
    func device() async throws {
        try await TestServer.run { server in
            let client = try await server.connected()
            client.publish("/provision/request", Self.request)
            #expect(try await client.acknowledgement() == (1, 0x90))
            #expect(server.sent.isEmpty)
        }
    }

    @Test("such a session ends after its time, not before, whatever the client sends")
    func timeout() async throws {
        let channel = try await LimitTests.channel()
        try await channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).get()
        try await LimitTests.send(.connect(Self.connect(.v5)), to: channel)
        _ = try await LimitTests.next(channel)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(59_999))
        try await LimitTests.send(.pingreq, to: channel)
        #expect(try await LimitTests.next(channel) == .pingresp)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(1))
        guard case .disconnect(let packet) = try await LimitTests.next(channel) else {
            throw NodeError(.internalError, "no DISCONNECT")
        }
        #expect(packet.reason == .maximumConnectTime)
        try await channel.closeFuture.get()
    }
}
