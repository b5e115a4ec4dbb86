import FoundationEssentials
import NIOCore
import NIOPosix
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("Connections", .timeLimit(.minutes(5))) struct ConnectionTests {
    static let versions: [ProtocolVersion] = [.v3_1_1, .v5]

    /// The code of a CONNACK.
    static func code(_ packet: Packet) -> UInt8? {
        if case .connack(let connack) = packet { connack.code } else { nil }
    }

    @Test(
        "a device is known by its token, whatever its client identifier and password",
        arguments: ProtocolVersion.allCases
    )
    func token(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let client = try await server.client(version)
            client.send(
                .connect(
                    ConnectPacket(
                        version: version,
                        clientId: "any",
                        userName: TestServer.token,
                        password: ByteBuffer(string: "any")
                    )
                )
            )
            guard case .connack(let connack) = try await client.next() else {
                throw NodeError(.internalError, "no CONNACK")
            }
            #expect(connack.code == 0)
            client.publish("v1/devices/me/telemetry", #"{"a":1}"#, qos: .atLeastOnce)
            #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 1)))
            let sent = try #require(server.sent.first)
            #expect(sent.message.originator == TestServer.device)
            #expect(sent.message.type == .postTelemetryRequest)
            #expect(sent.message.data == .json(["a": 1]))
            #expect(sent.message.metadata.string(MessageKey.transport) == "mqtt")
        }
    }

    @Test("packets that come together with CONNECT are answered without another one", arguments: Self.versions)
    func together(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let client = try await server.client(version)
            let filter = SubscribePacket.Subscription(filter: "v1/devices/me/attributes", qos: .atLeastOnce)
            client.send(
                .connect(ConnectPacket(version: version, clientId: "any", userName: TestServer.token)),
                .subscribe(SubscribePacket(packetId: 1, subscriptions: [filter])),
                .pingreq
            )
            #expect(Self.code(try await client.next()) == 0)
            guard case .suback(let suback) = try await client.next() else {
                throw NodeError(.internalError, "no SUBACK")
            }
            #expect(suback.packetId == 1)
            #expect(try await client.next() == .pingresp)
        }
    }

    @Test(
        "a client that no device is has the code of its version, and the connection ends",
        arguments: [
            (.v3_1_1, "wrong", nil, 5), (.v5, "wrong", nil, 0x86), (.v3_1_1, "wrong", "p", 5),
            (.v5, "wrong", "p", 0x86),
            (.v5, nil, "p", 0x86), (.v3_1, nil, nil, 2), (.v3_1_1, nil, nil, 2), (.v5, nil, nil, 0x85),
        ] as [(ProtocolVersion, String?, String?, UInt8)]
    )
    func refused(version: ProtocolVersion, userName: String?, password: String?, code: UInt8) async throws {
        try await TestServer.run { server in
            let client = try await server.client(version)
            client.send(
                .connect(
                    ConnectPacket(
                        version: version,
                        clientId: "c",
                        userName: userName,
                        password: password.map { ByteBuffer(string: $0) }
                    )
                )
            )
            #expect(await client.rest().map(Self.code) == [code])
        }
    }

    @Test(
        "credentials that cannot be checked are the server's fault",
        arguments: [(.v3_1_1, 3), (.v5, 0x88)] as [(ProtocolVersion, UInt8)]
    )
    func unavailable(version: ProtocolVersion, code: UInt8) async throws {
        try await TestServer.run { server in
            let client = try await server.client(version)
            client.send(.connect(ConnectPacket(version: version, clientId: "c", userName: AwayAuthenticator.token)))
            #expect(await client.rest().map(Self.code) == [code])
        }
    }

    @Test(
        "a second connection of a device replaces the first, whatever its client identifier",
        arguments: Self.versions
    )
    func replaced(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let first = try await server.connected(version)
            let other = try await server.connected(version, token: "OTHER")
            let second = try await server.connected(version)
            let farewell = DisconnectPacket(reason: .sessionTakenOver, explanation: "the device connected again")
            let expected: [Packet] = version == .v5 ? [.disconnect(farewell)] : []
            #expect(await first.rest() == expected)
            for client in [other, second] {
                client.send(.pingreq)
                #expect(try await client.next() == .pingresp)
            }
        }
    }

    @Test("revoked credentials end the session", arguments: Self.versions)
    func revoked(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let client = try await server.connected(version)
            let others = DeviceCredentials(deviceId: DeviceId(TestServer.device.id), credentialsId: "ANOTHER")
            _ = try await server.domain.store.saveCredentials(others)
            let farewell = DisconnectPacket(
                reason: .administrativeAction,
                explanation: "the device was removed or its credentials changed"
            )
            let expected: [Packet] = version == .v5 ? [.disconnect(farewell)] : []
            #expect(await client.rest() == expected)
        }
    }

    @Test("when a connection is gone, nobody listens for its device any more")
    func unsubscribed() async throws {
        try await TestServer.run { server in
            let first = try await server.connected()
            first.send(.disconnect(DisconnectPacket()))
            #expect(await first.rest().isEmpty)
            let second = try await server.connected()
            #expect(server.sessions.sessionCount(of: TestServer.device.id) == 1)
            second.send(.disconnect(DisconnectPacket()))
            #expect(await second.rest().isEmpty)
        }
    }

    @Test("bytes that are no packet end one connection and no other")
    func malformed() async throws {
        try await TestServer.run { server in
            let good = try await server.connected(token: "OTHER")
            let bad = try await server.connected()
            bad.send(bytes: [0x00, 0x00])
            let farewell = DisconnectPacket(reason: .malformedPacket, explanation: "packets of type 0 do not exist")
            #expect(await bad.rest() == [.disconnect(farewell)])
            let rude = try await server.client()
            rude.send(bytes: Array("GET / HTTP/1.1\r\n\r\n".utf8))
            #expect(await rude.rest().isEmpty)
            good.send(.pingreq)
            #expect(try await good.next() == .pingresp)
        }
    }

    @Test("a packet that is too large ends the connection before it is there")
    func tooLarge() async throws {
        try await TestServer.run(["packet-bytes-max": "1024"]) { server in
            let client = try await server.connected()
            client.send(bytes: [0x30, 0x80, 0x08])
            let explanation = "a packet of 1027 bytes is over the limit of 1024"
            let farewell = DisconnectPacket(reason: .packetTooLarge, explanation: explanation)
            #expect(await client.rest() == [.disconnect(farewell)])
        }
    }

    @Test(
        "a level of MQTT that is not spoken is answered",
        arguments: [(6, [0x20, 3, 0, 0x84, 0]), (2, [0x20, 2, 0, 1])] as [(UInt8, [UInt8])]
    )
    func level(level: UInt8, answer: [UInt8]) async throws {
        try await TestServer.run { server in
            let client = try await server.client(level == 2 ? .v3_1_1 : .v5)
            client.send(bytes: [0x10, 13, 0, 4] + Array("MQTT".utf8) + [level, 2, 0, 60, 0, 1, 0x63])
            let packets = await client.rest()
            var bytes = ByteBuffer()
            try #require(packets.first).write(into: &bytes, version: client.version)
            #expect(Array(bytes.readableBytesView) == answer)
        }
    }

    @Test("as many clients as the limit are taken in; a place that is left can be taken again")
    func connectionsMax() async throws {
        try await TestServer.run(["connections-max": "1"]) { server in
            let first = try await server.connected()
            let second = try await server.client()
            #expect(await second.rest().isEmpty)
            first.send(.pingreq)
            #expect(try await first.next() == .pingresp)
            first.send(.disconnect(DisconnectPacket()))
            #expect(await first.rest().isEmpty)
            _ = try await server.connected()
        }
    }

    @Test("when the node stops, a request under way is answered, then the connection ends", arguments: Self.versions)
    func shutDown(version: ProtocolVersion) async throws {
        let gate = Gate()
        let domain = try await TestServer.domain()
        let outlet = TestOutlet { message in
            if message.type == .postTelemetryRequest { await gate.pass() }
            return .completed(nil)
        }
        var node = try MQTTIngressNode.make(TestServer.patience, services: domain.live())
        node.shutdownGrace = .minutes(5)
        let run = Task { [node] in try await node.run(outlet) }
        let port = try #require(await outlet.listeners().first?.port)
        let client = try await TestClient(port: port, version: version)
        client.send(.connect(ConnectPacket(version: version, clientId: "c", userName: TestServer.token)))
        _ = try await client.next()
        let idle = try await TestClient(port: port, version: version)
        idle.send(.connect(ConnectPacket(version: version, clientId: "c", userName: "OTHER")))
        _ = try await idle.next()
        client.publish("v1/devices/me/telemetry", "{}")
        await gate.arrived()
        run.cancel()
        let farewell: [Packet] = version == .v5 ? [.disconnect(DisconnectPacket(reason: .serverShuttingDown))] : []
        #expect(await idle.rest() == farewell)
        gate.open()
        #expect(await client.rest() == [.puback(AcknowledgementPacket(packetId: 1))] + farewell)
        try await run.value
        await #expect(throws: (any Error).self) { try await TestClient(port: port, version: version) }
    }

    @Test("a port that is taken is an error that names it")
    func portTaken() async throws {
        try await TestServer.run { server in
            let node = try MQTTIngressNode.make(
                ["port": "\(server.port)", "host": "127.0.0.1"],
                services: server.domain.live()
            )
            let error = await #expect(throws: NodeError.self) { try await node.run(TestOutlet()) }
            #expect(error?.message.contains("127.0.0.1:\(server.port)") == true)
        }
    }
}
