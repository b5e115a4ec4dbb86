import FoundationEssentials
import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("Kept sessions", .timeLimit(.minutes(5))) struct KeptSessionTests {
    static let versions: [ProtocolVersion] = [.v3_1_1, .v5]

    /// A client that wants its session to be kept.
    static func connect(
        _ version: ProtocolVersion,
        clientId: String = "kept",
        isClean: Bool = false,
        expiry: UInt32 = 3600,
        receiveMaximum: UInt16? = nil
    ) -> ConnectPacket {
        var connect = ConnectPacket(
            version: version,
            isClean: isClean,
            keepAlive: 60,
            clientId: clientId,
            userName: TestServer.token
        )
        if version == .v5 {
            connect.properties.append(.sessionExpiryInterval, .fourBytes(expiry))
            if let receiveMaximum { connect.properties.append(.receiveMaximum, .twoBytes(receiveMaximum)) }
        }
        return connect
    }

    /// Ends a connection as a client that goes to sleep does, and waits until the server knows.
    static func leave(_ client: TestClient, _ server: TestServer) async throws {
        let count = server.events.count
        client.send(.disconnect(DisconnectPacket()))
        _ = await client.rest()
        try await server.until { server.events.count > count }
    }

    static func publish(_ client: TestClient) async throws -> PublishPacket {
        guard case .publish(let packet) = try await client.next() else {
            throw NodeError(.internalError, "another packet came than PUBLISH")
        }
        return packet
    }

    @Test("what a device was to be told while it was away, it is told when it is back", arguments: Self.versions)
    func away(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let id = TestServer.device.id
            let (first, connack) = try await server.connected(Self.connect(version))
            #expect(!connack.isSessionPresent)
            try await first.subscribe("v1/devices/me/attributes")
            try await first.subscribe("v1/devices/me/rpc/request/+")
            try await Self.leave(first, server)
            #expect(server.sessions.notify(id, .attributesUpdated(["fw_title": "t"])) == 1)
            server.sessions.notify(id, .rpcRequest(id: 3, method: "reboot", params: [:]))
            let (second, again) = try await server.connected(Self.connect(version))
            #expect(again.isSessionPresent)
            #expect(try await second.text() == #"v1/devices/me/attributes {"fw_title":"t"}"#)
            #expect(try await second.text() == #"v1/devices/me/rpc/request/3 {"method":"reboot","params":{}}"#)
            // The subscriptions are there, and everything is told once.
            server.sessions.notify(id, .attributesUpdated(["fw_title": "u"]))
            #expect(try await second.text() == #"v1/devices/me/attributes {"fw_title":"u"}"#)
            second.send(.pingreq)
            #expect(try await second.next() == .pingresp)
        }
    }

    @Test("a message that was not acknowledged comes again, marked and with its identifier", arguments: Self.versions)
    func again(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(version))
            try await first.subscribe("#")
            server.sessions.notify(TestServer.device.id, .attributesUpdated(["a": 1]))
            server.sessions.notify(TestServer.device.id, .attributesUpdated(["a": 2]))
            let sent = try await Self.publish(first)
            let other = try await Self.publish(first)
            #expect(!sent.isDuplicate && sent.packetId != nil)
            first.send(.puback(AcknowledgementPacket(packetId: try #require(other.packetId))))
            try await Self.leave(first, server)
            let (second, _) = try await server.connected(Self.connect(version, receiveMaximum: 1))
            let repeated = try await Self.publish(second)
            #expect(repeated.isDuplicate)
            #expect(repeated.packetId == sent.packetId && repeated.payload == sent.payload)
            server.sessions.notify(TestServer.device.id, .attributesUpdated(["a": 3]))
            second.send(.puback(AcknowledgementPacket(packetId: try #require(repeated.packetId))))
            let next = try await Self.publish(second)
            #expect(!next.isDuplicate && next.packetId != repeated.packetId)
        }
    }

    @Test("a chunk never comes again, on no connection", arguments: Self.versions)
    func chunk(version: ProtocolVersion) async throws {
        let content = TestContent(size: 100)
        try await TestServer.run(answer: { content.outcome($0) }) { server in
            let (first, _) = try await server.connected(Self.connect(version))
            first.publish("v2/fw/request/1/chunk/0", "10", qos: .atMostOnce)
            first.publish("v1/devices/me/attributes/request/1", "{}", qos: .atMostOnce)
            _ = try await Self.publish(first)
            let response = try await Self.publish(first)
            try await Self.leave(first, server)
            let (second, connack) = try await server.connected(Self.connect(version))
            #expect(connack.isSessionPresent)
            // Another answer does.
            let repeated = try await Self.publish(second)
            #expect(repeated.topic == response.topic && repeated.isDuplicate)
            second.send(.pingreq)
            #expect(try await second.next() == .pingresp)
        }
    }

    @Test("a client that begins anew finds nothing of before", arguments: Self.versions)
    func clean(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(version))
            try await first.subscribe("#")
            try await Self.leave(first, server)
            server.sessions.notify(TestServer.device.id, .attributesUpdated(["a": 1]))
            let (second, connack) = try await server.connected(Self.connect(version, isClean: true))
            #expect(!connack.isSessionPresent)
            server.sessions.notify(TestServer.device.id, .attributesUpdated(["a": 2]))
            second.send(.pingreq)
            #expect(try await second.next() == .pingresp)
        }
    }

    @Test("a session is one client's of one device")
    func owner() async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(.v5))
            try await Self.leave(first, server)
            var other = Self.connect(.v5)
            other.userName = "OTHER"
            #expect(try await !server.connected(other).connack.isSessionPresent)
            #expect(try await !server.connected(Self.connect(.v5, clientId: "another")).connack.isSessionPresent)
            #expect(try await server.connected(Self.connect(.v5)).connack.isSessionPresent)
        }
    }

    @Test("a session goes over to a second connection of its client while the first is there", arguments: Self.versions)
    func takenOver(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(version))
            try await first.subscribe("v1/devices/me/attributes")
            let (second, connack) = try await server.connected(Self.connect(version))
            #expect(connack.isSessionPresent)
            let rest = await first.rest()
            #expect(rest.count == (version == .v5 ? 1 : 0))
            server.sessions.notify(TestServer.device.id, .attributesUpdated(["a": 1]))
            #expect(try await second.text() == #"v1/devices/me/attributes {"a":1}"#)
        }
    }

    @Test("a client without identifier gets one that it can come back with")
    func assigned() async throws {
        try await TestServer.run { server in
            let (first, connack) = try await server.connected(Self.connect(.v5, clientId: ""))
            guard case .text(let clientId) = connack.properties[.assignedClientIdentifier] else {
                throw NodeError(.internalError, "no client identifier was assigned")
            }
            try await Self.leave(first, server)
            #expect(try await server.connected(Self.connect(.v5, clientId: clientId)).connack.isSessionPresent)
        }
    }

    @Test("the longest expiry is told, and none of MQTT 3.1.1 or 5 is longer")
    func expiryMax() async throws {
        try await TestServer.run(["session-expiry-max-seconds": "10"]) { server in
            for (asked, told) in [(10, nil), (11, 10), (.max, 10), (0, nil)] as [(UInt32, Int?)] {
                let (client, connack) = try await server.connected(Self.connect(.v5, isClean: true, expiry: asked))
                #expect(connack.properties.number(.sessionExpiryInterval) == told)
                client.send(.disconnect(DisconnectPacket()))
            }
        }
        try await TestServer.run(["session-expiry-max-seconds": "0"]) { server in
            for version in Self.versions {
                let (client, _) = try await server.connected(Self.connect(version))
                try await Self.leave(client, server)
                #expect(try await !server.connected(Self.connect(version)).connack.isSessionPresent)
            }
        }
    }

    @Test("DISCONNECT may end a session that was to last, and not the other way round")
    func disconnectExpiry() async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(.v5))
            let ending = DisconnectPacket(properties: [(.sessionExpiryInterval, .fourBytes(0))])
            first.send(.disconnect(ending))
            _ = await first.rest()
            try await server.until { server.events.count == 2 }
            let (second, connack) = try await server.connected(Self.connect(.v5, expiry: 0))
            #expect(!connack.isSessionPresent)
            second.send(.disconnect(DisconnectPacket(properties: [(.sessionExpiryInterval, .fourBytes(5))])))
            guard case .disconnect(let packet) = await second.rest().first else {
                throw NodeError(.internalError, "no DISCONNECT")
            }
            #expect(packet.reason == .protocolError)
        }
    }

    @Test("revoked credentials end a session whose client is away")
    func revoked() async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(.v5))
            try await Self.leave(first, server)
            #expect(server.sessions.notify(TestServer.device.id, .credentialsRevoked) == 1)
            #expect(server.sessions.notify(TestServer.device.id, .credentialsRevoked) == 0)
            #expect(try await !server.connected(Self.connect(.v5)).connack.isSessionPresent)
        }
    }

    @Test("a QoS 2 message is not carried out again after a reconnect", arguments: Self.versions)
    func exactlyOnce(version: ProtocolVersion) async throws {
        try await TestServer.run { server in
            let (first, _) = try await server.connected(Self.connect(version))
            first.publish("v2/t", "{}", qos: .exactlyOnce)
            _ = try await first.acknowledgement()
            try await Self.leave(first, server)
            let (second, _) = try await server.connected(Self.connect(version))
            second.publish("v2/t", "{}", qos: .exactlyOnce)
            #expect(try await second.acknowledgement() == (1, 0))
            second.send(.pubrel(AcknowledgementPacket(packetId: 1)))
            #expect(try await second.next() == .pubcomp(AcknowledgementPacket(packetId: 1)))
            #expect(server.sent.count == 1)
        }
    }

    // MARK: Limits

    static func update(_ number: Int, _ size: Int = 0) -> DeviceNotification {
        .attributesUpdated(["n": .integer(Int64(number)), "x": .string(String(repeating: "x", count: size))])
    }

    static func subscribed() -> SessionState {
        var state = SessionState()
        if let filter = TopicFilter("#") { state.subscriptions = [.init(filter: filter, qos: .atLeastOnce)] }
        return state
    }

    static func departure(expiry: UInt32 = 100, willDelay: UInt32? = nil) -> KeptSessions.Departure {
        var will: Will?
        if let willDelay {
            let properties: Properties = [(.willDelayInterval, .fourBytes(willDelay))]
            will = Will(.init(topic: "v2/t", payload: ByteBuffer(string: "{}"), properties: properties))
        }
        return .init(device: TestServer.device, state: Self.subscribed(), expirySeconds: expiry, will: will)
    }

    @Test("as many messages wait as the limit, and the oldest make room for more")
    func messagesMax() throws {
        var state = Self.subscribed()
        let limits = Limits.testing { $0.keptMessagesMax = 3 }
        for number in 1...5 { state.keep(try #require(state.message(for: Self.update(number))), limits: limits) }
        let numbers = state.waiting.waiting.map { String(buffer: $0.payload).contains(#""n":3"#) }
        #expect(numbers == [true, false, false])
    }

    @Test("as many bytes wait as the limit, and the oldest make room for more")
    func bytesMax() throws {
        var state = Self.subscribed()
        let limits = Limits.testing { $0.keptBytesMax = 4096 }
        for number in 1...10 {
            state.keep(try #require(state.message(for: Self.update(number, 1000))), limits: limits)
            #expect(state.keptBytes <= 4096)
        }
        #expect(state.waiting.count == 3)
        state.keep(try #require(state.message(for: Self.update(11, 5000))), limits: limits)
        #expect(state.waiting.count == 3, "what is larger than the limit alone is not kept")
    }

    @Test("messages of QoS 0 are not kept")
    func atMostOnce() throws {
        var state = Self.subscribed()
        state.subscriptions[0].qos = .atMostOnce
        state.keep(try #require(state.message(for: Self.update(1))), limits: .testing())
        #expect(state.waiting.isEmpty)
    }

    @Test("a session ends at its expiry, not before, and so does its will")
    func expiry() throws {
        let handle = try Self.handle()
        let kept = KeptSessions(limits: .testing(), deviceSessions: DeviceSessions())
        let key = KeptSessions.Key(device: TestServer.device.id, clientId: "c")
        let start = NIODeadline.uptimeNanoseconds(0)
        for (willDelay, due) in [(nil, 10), (20, 10), (5, 5)] as [(UInt32?, Int64)] {
            _ = kept.take(key, isClean: false, for: handle)
            _ = kept.leave(key, Self.departure(expiry: 10, willDelay: willDelay), now: start)
            #expect(kept.elapsed(now: start + .seconds(due) - .milliseconds(1)).isEmpty)
            let departures = kept.elapsed(now: start + .seconds(due))
            #expect(departures.map { $0.will == nil } == [willDelay == nil])
            #expect(kept.elapsed(now: start + .seconds(10)).allSatisfy { $0.will == nil })
            #expect(kept.count == 0)
        }
    }

    @Test("as many sessions are kept as the limit; one more ends the one that left first")
    func sessionsMax() throws {
        let handle = try Self.handle()
        let kept = KeptSessions(limits: .testing { $0.keptSessionsMax = 2 }, deviceSessions: DeviceSessions())
        func key(_ name: String) -> KeptSessions.Key { .init(device: TestServer.device.id, clientId: name) }
        func leave(_ name: String) -> Int {
            _ = kept.take(key(name), isClean: false, for: handle)
            return kept.leave(key(name), Self.departure(willDelay: 50), now: .now()).count
        }
        #expect(leave("a") == 0)
        #expect(leave("b") == 0)
        // That it was back and left again makes it the last.
        for _ in 0..<100 { #expect(leave("a") == 0) }
        #expect(leave("c") == 1)
        #expect(kept.count == 2)
        for (name, isThere) in [("b", false), ("a", true), ("c", true)] {
            guard case .taken(let state) = kept.take(key(name), isClean: false, for: nil).0 else {
                throw NodeError(.internalError, "the session is busy")
            }
            #expect((state != nil) == isThere)
        }
        #expect(kept.count == 0)
    }

    private static func handle() throws -> Connections.Handle {
        let services = LimitTests.services(domain: try TestDomain())
        let loop = EmbeddedEventLoop()
        let admission = services.connections.admit(ConnectionHandler(services: services), on: loop)
        guard case .admitted(let handle) = admission else { throw NodeError(.internalError, "not admitted") }
        return handle
    }
}
