import FoundationEssentials
import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("Sessions of a device", .timeLimit(.minutes(5))) struct DeviceSessionTests {
    /// The reason that a client was told for its end.
    static func farewell(_ client: TestClient) async -> ReasonCode? {
        if case .disconnect(let packet) = await client.rest().last { packet.reason } else { nil }
    }

    static func isAlive(_ client: TestClient) async throws -> Bool {
        client.send(.pingreq)
        return try await client.next() == .pingresp
    }

    @Test("a device may have as many sessions as the limit; one more ends the oldest")
    func sessionsMax() async throws {
        try await TestServer.run(["sessions-per-device-max": "2"]) { server in
            let first = try await server.connected(clientId: "a")
            let second = try await server.connected(clientId: "b")
            #expect(try await Self.isAlive(first))
            let third = try await server.connected(clientId: "c")
            #expect(await Self.farewell(first) == .sessionTakenOver)
            for client in [second, third] { #expect(try await Self.isAlive(client)) }
            // The same identifier is the same client, however many there may be (MQTT 5 §3.1.4).
            let again = try await server.connected(clientId: "c")
            #expect(await Self.farewell(third) == .sessionTakenOver)
            for client in [second, again] { #expect(try await Self.isAlive(client)) }
        }
    }

    @Test("a device has one session over all nodes of the host")
    func twoNodes() async throws {
        let domain = try await TestServer.domain()
        try await TestServer.run(domain: domain) { one in
            try await TestServer.run(domain: domain) { two in
                let first = try await one.connected(clientId: "a")
                let second = try await two.connected(clientId: "b")
                #expect(await Self.farewell(first) == .sessionTakenOver)
                #expect(try await Self.isAlive(second))
            }
        }
    }

    @Test("the chain is told when a device's session begins and when it ends")
    func events() async throws {
        try await TestServer.run { server in
            let first = try await server.connected()
            first.publish("v2/t", "{}")
            _ = try await first.next()
            #expect(server.outlet.sent.map(\.message.type) == [.connectEvent, .postTelemetryRequest])
            let begun = try #require(server.outlet.sent.first).message
            #expect(begun.originator == TestServer.device && begun.data == .json([:]))
            // A device that connects again has not gone in between.
            let second = try await server.connected()
            _ = await first.rest()
            #expect(server.events == [.connectEvent, .connectEvent])
            second.send(.disconnect(DisconnectPacket()))
            _ = await second.rest()
            try await server.until { server.events.count == 3 }
            #expect(server.events.last == .disconnectEvent)
        }
    }

    @Test("a call is taken by a device that subscribed to calls, also one that is away, and by no other")
    func calls() async throws {
        try await TestServer.run { server in
            let call = DeviceNotification.rpcRequest(id: 1, method: "m", params: 1)
            func isTaken() -> Bool { server.sessions.notify(TestServer.device.id, call) == 1 }
            for expiry: UInt32 in [0, 3600] {
                let (client, _) = try await server.connected(KeptSessionTests.connect(.v5, expiry: expiry))
                #expect(!isTaken())
                try await client.subscribe("v1/devices/me/attributes")
                #expect(!isTaken())
                try await client.subscribe("v2/r/req/+")
                #expect(isTaken())
                #expect(try await client.text() == #"v2/r/req/1 {"method":"m","params":1}"#)
                try await KeptSessionTests.leave(client, server)
                #expect(isTaken() == (expiry > 0))
            }
            let (client, _) = try await server.connected(KeptSessionTests.connect(.v5))
            #expect(try await client.text() == #"v2/r/req/1 {"method":"m","params":1}"#)
            #expect(isTaken())
            #expect(try await client.text() == #"v2/r/req/1 {"method":"m","params":1}"#)
            client.send(.unsubscribe(UnsubscribePacket(packetId: 9, filters: ["v2/r/req/+"])))
            _ = try await client.next()
            #expect(!isTaken())
        }
    }

    @Test("attributes are taken by a device that subscribed to them; who waits for that hears of it")
    func attributes() async throws {
        try await TestServer.run { server in
            let arrivals = server.sessions.watchArrivals(interestedIn: .attributes)
            let change = DeviceNotification.attributesUpdated(["k": 1])
            let client = try await server.connected()
            #expect(server.sessions.notify(TestServer.device.id, change) == 0)
            try await client.subscribe("v1/devices/me/rpc/request/+")
            #expect(server.sessions.notify(TestServer.device.id, change) == 0)
            try await client.subscribe("v1/devices/me/attributes")
            #expect(await arrivals.next() == [TestServer.device.id])
            #expect(server.sessions.notify(TestServer.device.id, change) == 1)
            #expect(try await client.text() == #"v1/devices/me/attributes {"k":1}"#)
        }
    }

    @Test("more requests of a device in a second than allowed are refused, one by one")
    func deviceRate() async throws {
        try await TestServer.run(["device-requests-per-second-max": "1"]) { server in
            let client = try await server.connected()
            // On a machine so slow that a second passes between two requests, more are needed.
            var reasons: [UInt8] = []
            while !reasons.contains(0x97) {
                for _ in 0..<50 { client.publish("v2/t", "{}") }
                for _ in 0..<50 { reasons.append(try await client.acknowledgement().reason) }
            }
            #expect(reasons.first == 0 && Set(reasons) == [0, 0x97])
            // A device that waits for a chunk is told on the error topic.
            var text = ""
            while !text.contains("more requests in a second") {
                client.publish("v2/fw/request/1/chunk/0", "1", qos: .atMostOnce)
                text = try await client.text()
            }
            // Another device has a share of its own.
            let other = try await server.connected(token: "OTHER")
            other.publish("v2/t", "{}")
            #expect(try await other.acknowledgement() == (1, 0))
        }
    }

    @Test(
        "more connections of an address in a second than allowed are refused",
        arguments: [(.v3_1_1, 3), (.v5, 0x9F)] as [(ProtocolVersion, UInt8)]
    )
    func addressRate(version: ProtocolVersion, code: UInt8) async throws {
        try await TestServer.run(["address-connections-per-second-max": "1"]) { server in
            var codes: Set<UInt8> = []
            // On a machine so slow that a second passes between two connections, more are needed.
            while !codes.contains(code) {
                var clients: [TestClient] = []
                for _ in 0..<8 { clients.append(try await server.client(version)) }
                for client in clients {
                    client.send(.connect(ConnectPacket(version: version, clientId: "c", userName: TestServer.token)))
                }
                for client in clients {
                    if case .connack(let connack) = try await client.next() { codes.insert(connack.code) }
                }
            }
            #expect(codes.isSubset(of: [0, code]))
        }
    }
}
