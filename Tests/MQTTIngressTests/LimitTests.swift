import FoundationEssentials
import IngressKit
import Logging
import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import MQTTIngress

extension RateLimits {
    static let none = Self(
        Configuration([
            "device-requests-per-second-max": .integer(0), "address-connections-per-second-max": .integer(0),
        ])
    )
}

@Suite("Limits", .timeLimit(.minutes(5))) struct LimitTests {
    /// A connection on a channel whose time is the test's.
    static func channel(
        _ limits: Limits = .testing(),
        connections: Connections = Connections(countMax: 10),
        logger: Logger = NodeServices.testing().logger
    ) async throws -> NIOAsyncTestingChannel {
        let domain = try await TestServer.domain()
        let services = Self.services(limits, domain: domain, connections: connections, logger: logger)
        return try await NIOAsyncTestingChannel { channel in
            try Endpoint(port: 0).configure(channel, services: services, tls: nil)
        }
    }

    static func services(
        _ limits: Limits = .testing(),
        domain: TestDomain,
        connections: Connections = Connections(countMax: 10),
        logger: Logger = NodeServices.testing().logger
    ) -> ConnectionServices {
        ConnectionServices(
            limits: limits,
            rateLimits: .none,
            outlet: TestOutlet(),
            authenticator: domain.store,
            packages: domain.store,
            deviceSessions: domain.sessions,
            connections: connections,
            now: { .now },
            tasks: BackgroundTasks(),
            logger: logger
        )
    }

    static func send(_ packet: Packet, to channel: NIOAsyncTestingChannel, _ version: ProtocolVersion = .v5)
        async throws
    {
        var bytes = ByteBuffer()
        packet.write(into: &bytes, version: version)
        try await channel.writeInbound(bytes)
    }

    static func next(_ channel: NIOAsyncTestingChannel, _ version: ProtocolVersion = .v5) async throws -> Packet? {
        var bytes = try await channel.waitForOutboundWrite(as: ByteBuffer.self)
        var decoder = PacketDecoder(packetBytesMax: .max, version: version)
        return try decoder.next(in: &bytes)
    }

    static func connect(_ channel: NIOAsyncTestingChannel, keepAlive: UInt16) async throws {
        try await channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).get()
        try await Self.send(
            .connect(ConnectPacket(version: .v5, keepAlive: keepAlive, clientId: "c", userName: TestServer.token)),
            to: channel
        )
        _ = try await Self.next(channel)
    }

    @Test("a connection that does not introduce itself ends after the connect timeout, not before")
    func connectTimeout() async throws {
        let channel = try await Self.channel()
        try await channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).get()
        await channel.testingEventLoop.advanceTime(by: .milliseconds(9999))
        #expect(channel.isActive)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(1))
        try await channel.closeFuture.get()
    }

    static let silent = DisconnectPacket(
        reason: .keepAliveTimeout,
        explanation: "nothing came for one and a half times the keep alive"
    )

    @Test("silence ends a session after one and a half times the keep alive, not before; any packet counts")
    func keepAlive() async throws {
        let channel = try await Self.channel()
        try await Self.connect(channel, keepAlive: 10)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(14_000))
        #expect(channel.isActive)
        try await Self.send(.pingreq, to: channel)
        #expect(try await Self.next(channel) == .pingresp)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(14_999))
        #expect(channel.isActive)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(1))
        #expect(try await Self.next(channel) == .disconnect(Self.silent))
        try await channel.closeFuture.get()
    }

    @Test("a deadline that lies between two seconds is looked at in the second after it")
    func keepAliveBetweenSeconds() async throws {
        let channel = try await Self.channel()
        try await Self.connect(channel, keepAlive: 1)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(1999))
        #expect(channel.isActive)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(1))
        #expect(try await Self.next(channel) == .disconnect(Self.silent))
        try await channel.closeFuture.get()
    }

    @Test("an accepted connection outlives the connect timeout")
    func connected() async throws {
        let channel = try await Self.channel()
        try await Self.connect(channel, keepAlive: 0)
        await channel.testingEventLoop.advanceTime(by: .seconds(3600))
        #expect(channel.isActive)
        await channel.testingEventLoop.advanceTime(by: .seconds(1800))
        #expect(try await Self.next(channel) == .disconnect(Self.silent))
    }

    @Test("a connection that is gone is forgotten")
    func forgotten() async throws {
        let connections = Connections(countMax: 1)
        let channel = try await Self.channel(connections: connections)
        try await Self.connect(channel, keepAlive: 10)
        #expect(connections.count == 1)
        try await channel.close().get()
        #expect(connections.count == 0)
        connections.close { _ in }
        await connections.empty()
    }

    @Test("what a client does wrong is logged once for its connection, and how it ended once")
    func logged() async throws {
        let log = Log()
        let channel = try await Self.channel(logger: Logger(label: "test") { _ in log })
        try await Self.connect(channel, keepAlive: 0)
        for id in 1...3 {
            try await Self.send(SessionTests.publish(id: UInt16(id), topic: "nowhere"), to: channel)
            guard case .puback(let puback) = try await Self.next(channel) else {
                throw NodeError(.internalError, "no PUBACK")
            }
            #expect(puback.reason == .topicNameInvalid)
            #expect(puback.properties == .reason("this path or topic is not part of the device API"))
        }
        #expect(log.messages.count == 1)
        // What is wrong with a packet is thrown to the writer too, as the test's channel does.
        _ = try? await channel.writeInbound(ByteBuffer(bytes: [0, 0, 0, 0]))
        try await channel.closeFuture.get()
        _ = try? await channel.writeInbound(ByteBuffer(bytes: [0, 0, 0, 0]))
        #expect(log.messages.count == 2)
        #expect(log.messages.allSatisfy { !$0.contains(TestServer.token) })
    }

    /// Remembers what is logged.
    private final class Log: LogHandler {
        private let state = Mutex<[String]>([])
        var messages: [String] { self.state.withLock { $0 } }
        var metadata: Logger.Metadata {
            get { [:] }
            set {}
        }
        var logLevel: Logger.Level {
            get { .info }
            set {}
        }
        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { nil }
            set {}
        }
        func log(event: LogEvent) { self.state.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") } }
    }

    @Test("a client that never reads is let go when too much waits for it; nobody else notices")
    func outboundBytesMax() async throws {
        try await TestServer.run(["outbound-bytes-max": "65536"]) { server in
            let other = try await server.connected(token: "OTHER")
            let deaf = try await server.client(.v3_1_1, reads: false)
            deaf.send(
                .connect(ConnectPacket(version: .v3_1_1, clientId: "c", userName: TestServer.token)),
                .subscribe(SubscribePacket(packetId: 1, subscriptions: [.init(filter: "#", qos: .atMostOnce)]))
            )
            // Once the system's buffers are full, what waits grows until the limit ends the session and nobody listens.
            let update = DeviceNotification.attributesUpdated(["k": .string(String(repeating: "x", count: 60_000))])
            var told = 0
            while told == 0 || server.sessions.notify(TestServer.device.id, update) > 0 {
                if told == 0 { told = server.sessions.notify(TestServer.device.id, update) }
                other.send(.pingreq)
                #expect(try await other.next() == .pingresp)
            }
            #expect(told == 1)
        }
    }

    @Test("a client that does not read a package in time is let go")
    func writeTimeout() async throws {
        let content = TestContent(size: 64 << 20)
        try await TestServer.run(["write-timeout-seconds": "1"], answer: { content.outcome($0) }) { server in
            let deaf = try await server.client(.v3_1_1, reads: false)
            deaf.send(
                .connect(ConnectPacket(version: .v3_1_1, clientId: "c", userName: TestServer.token)),
                .publish(
                    PublishPacket(qos: .atMostOnce, topic: "v2/fw/request/1/chunk/0", payload: ByteBuffer(string: "0"))
                )
            )
            try await server.until { content.readEnd > 0 }
            try await server.until { server.sessions.notify(TestServer.device.id, .attributesDeleted([])) == 0 }
            #expect(content.readEnd < content.size)
        }
    }

    @Test("every limit has a default within its range, and a range with both ends allowed")
    func attributes() throws {
        for attribute in MQTTIngressNode.descriptor.attributes {
            #expect(attribute.defaultText != nil || attribute.isOptional)
            if let text = attribute.defaultText { _ = try attribute.parse(text) }
            let range: ClosedRange<Int64>
            switch attribute.kind {
            case .integer(let allowed), .duration(_, let allowed): range = allowed
            default: continue
            }
            for value in [range.lowerBound, range.upperBound] { _ = try attribute.parse(String(value)) }
            for value in [range.lowerBound - 1, range.upperBound + 1] {
                #expect(throws: NodeError.self) { try attribute.parse(String(value)) }
            }
        }
    }
}
