import FoundationEssentials
import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

@Suite("Chunks", .timeLimit(.minutes(5))) struct ChunkTests {
    static let versions: [ProtocolVersion] = [.v3_1_1, .v5]

    /// Runs a server with one package, in front of a chain whose nodes wait, and in front of one where nothing does.
    static func run(
        size: Int64,
        failsFrom: Int64 = .max,
        _ body: @escaping @Sendable (TestServer, TestContent) async throws -> Void
    ) async throws {
        for isPrompt in [false, true] {
            let content = TestContent(size: size, failsFrom: failsFrom, inMemoryFrom: isPrompt ? 0 : .max)
            let domain = try await TestServer.domain()
            try await domain.assignPackages(isInMemory: isPrompt)
            try await TestServer.run(isPrompt: isPrompt, domain: domain, answer: { content.outcome($0) }) {
                try await body($0, content)
            }
        }
    }

    static func bytes(_ range: Range<Int64>) -> ByteBuffer { ByteBuffer(bytes: range.map(TestContent.byte)) }

    @Test("a package comes chunk by chunk, acknowledged first, and nothing after its end", arguments: Self.versions)
    func download(version: ProtocolVersion) async throws {
        try await Self.run(size: 10_000) { server, _ in
            let client = try await server.connected(version)
            try await client.subscribe("v2/fw/response/+")
            for (chunk, range) in [(0, 0..<4096), (1, 4096..<8192), (2, 8192..<10_000), (3, 0..<0), (9, 0..<0)]
                as [(Int, Range<Int64>)]
            {
                let packetId = client.publish("v2/fw/request/7/chunk/\(chunk)", "4096")
                #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: packetId)))
                let message = try await client.message()
                #expect(message.topic == "v2/fw/response/7/chunk/\(chunk)")
                #expect(message.payload == Self.bytes(range))
            }
        }
    }

    @Test("an empty payload means the size that the download had last, else the whole package")
    func lastSize() async throws {
        try await Self.run(size: 1000) { server, _ in
            let client = try await server.connected()
            for (topic, payload, size) in [
                ("v2/sw/request/1/chunk/0", "", 1000), ("v2/sw/request/1/chunk/0", "{\"chunkSize\":100}", 100),
                ("v2/sw/request/1/chunk/1", "", 100), ("v2/sw/request/2/chunk/0", "", 1000),
                ("v2/fw/request/1/chunk/0", "", 1000),
                ("v2/sw/request/1/chunk/0", "\"10\"", 10), ("v2/sw/request/1/chunk/0", "0", 1000),
            ] {
                client.publish(topic, payload, qos: .atMostOnce)
                #expect(try await client.message().payload.readableBytes == size)
            }
        }
    }

    @Test("chunks requested at once are answered in order", arguments: Self.versions)
    func pipelined(version: ProtocolVersion) async throws {
        try await Self.run(size: 100_000) { server, _ in
            let client = try await server.connected(version)
            for chunk in 0..<100 { client.publish("v2/fw/request/1/chunk/\(chunk)", "1000", qos: .atMostOnce) }
            for chunk in 0..<100 {
                let message = try await client.message()
                #expect(message.topic == "v2/fw/response/1/chunk/\(chunk)")
                #expect(message.payload == Self.bytes(Int64(chunk) * 1000..<Int64(chunk) * 1000 + 1000))
            }
        }
    }

    @Test("a download keeps the package that it began with, a new one gets the one assigned by then")
    func pinned() async throws {
        let content = TestContent(size: 100)
        try await TestServer.run(answer: { content.outcome($0) }) { server in
            let device = DeviceId(TestServer.device.id)
            func assign(_ version: String) async throws -> OtaPackageId {
                let package = try await server.domain.package("t", version)
                try await server.domain.assign(package.id, to: device)
                return package.id
            }
            func isLookedUp() -> Bool {
                guard case .hit = server.domain.store.known(effectiveFor: device, type: .firmware) else { return false }
                return true
            }
            func packageId(_ client: TestClient, _ topic: String) async throws -> String? {
                client.publish(topic, "10", qos: .atMostOnce)
                _ = try await client.message()
                return server.sent.last?.message.metadata.string(MessageKey.packageId)
            }
            let client = try await server.connected()
            #expect(try await packageId(client, "v2/fw/request/1/chunk/0") == nil)
            let first = try await assign("1")
            #expect(try await packageId(client, "v2/fw/request/1/chunk/0") == first.description)
            let second = try await assign("2")
            #expect(try await packageId(client, "v2/fw/request/1/chunk/1") == first.description)
            #expect(!isLookedUp())
            #expect(try await packageId(client, "v2/fw/request/2/chunk/0") == second.description)
            #expect(isLookedUp())
            let again = try await server.connected()
            #expect(try await packageId(again, "v2/fw/request/1/chunk/1") == second.description)
        }
    }

    @Test("metadata says what is asked for")
    func metadata() async throws {
        try await Self.run(size: 100) { server, _ in
            let client = try await server.connected()
            client.publish("v2/sw/request/5/chunk/3", "16", qos: .atMostOnce)
            _ = try await client.message()
            let message = try #require(server.sent.last).message
            #expect(message.type == .packageChunkRequest)
            #expect(message.metadata.string(MessageKey.packageType) == "SOFTWARE")
            #expect(message.metadata.integer(MessageKey.chunk) == 3)
            #expect(message.metadata.integer(MessageKey.size) == 16)
        }
    }

    @Test(
        "what cannot be understood is told on the error topic, and the session goes on",
        arguments: [
            ("v2/fw/request/1/chunk/0", "-5", "v2/fw/error FAILURE: "),
            ("v2/fw/request/1/chunk/0", "abc", "v2/fw/error FAILURE: "),
            ("v2/sw/request/1/chunk/-1", "5", "v2/sw/error FAILURE: "),
            ("v2/fw/request/1/chunk/99999999999", "5", "v2/fw/error FAILURE: "),
            ("v2/fw/request/x/chunk/0", "5", "v2/fw/error FAILURE: "),
            ("v2/fw/request/1/chunk/0", "99999999999999999999", "v2/fw/error PAYLOAD_TOO_LARGE"),
            ("v2/fw/request/1/chunk/0", "16777217", "v2/fw/error PAYLOAD_TOO_LARGE"),
        ]
    )
    func badRequest(topic: String, payload: String, error: String) async throws {
        try await Self.run(size: 100) { server, _ in
            for version in Self.versions {
                let client = try await server.connected(version)
                client.publish(topic, payload)
                #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 1)))
                let text = try await client.text()
                // A sentence follows the word FAILURE, and no other.
                #expect(error.hasSuffix(" ") ? text.hasPrefix(error) : text == error)
                client.publish("v2/fw/request/1/chunk/0", "10")
                #expect(try await client.next() == .puback(AcknowledgementPacket(packetId: 2)))
                #expect(try await client.message().payload.readableBytes == 10)
            }
        }
    }

    @Test(
        "what the chain cannot serve is told on the error topic",
        arguments: [
            (Outcome.completed(nil), "NOT_FOUND"),
            (.failed(NodeError(.notFound, "nothing is assigned")), "NOT_FOUND"),
            (.completed(.refused(NodeError(.badRequest, "no"))), "FAILURE: no"),
            (.failed(NodeError(.unavailable, "later")), "FAILURE: later"),
        ]
    )
    func notServed(outcome: Outcome, text: String) async throws {
        for isPrompt in [false, true] {
            let domain = try await TestServer.domain()
            if isPrompt { try await domain.lookUpPackages() }
            try await TestServer.run(isPrompt: isPrompt, domain: domain, answer: { _ in outcome }) { server in
                for version in Self.versions {
                    let client = try await server.connected(version)
                    for type in ["fw", "sw"] {
                        client.publish("v2/\(type)/request/1/chunk/0", "10", qos: .atMostOnce)
                        #expect(try await client.text() == "v2/\(type)/error \(text)")
                    }
                }
            }
        }
    }

    @Test("a package that is fetched from its URL is told by the bare word FAILURE, at every request")
    func elsewhere() async throws {
        let refusal = Reply.refused(NodeError(.notFound, "the bytes are elsewhere"))
        for isInMemory in [false, true] {
            let domain = try await TestServer.domain()
            let package = try await domain.package(url: "https://downloads.example.org/firmware.bin")
            try await domain.assign(package.id, to: DeviceId(TestServer.device.id))
            if isInMemory { try await domain.lookUpPackages() }
            try await TestServer.run(domain: domain, answer: { _ in .completed(refusal) }) { server in
                let client = try await server.connected()
                for chunk in [0, 1] {
                    client.publish("v2/fw/request/1/chunk/\(chunk)", "10", qos: .atMostOnce)
                    #expect(try await client.text() == "v2/fw/error FAILURE")
                }
            }
        }
    }

    @Test("a chunk that cannot be read is told on the error topic")
    func readFailure() async throws {
        try await Self.run(size: 100, failsFrom: 50) { server, _ in
            let client = try await server.connected()
            client.publish("v2/fw/request/1/chunk/9", "10", qos: .atMostOnce)
            #expect(try await client.text() == "v2/fw/error FAILURE: Internal Server Error")
        }
    }

    // MARK: Whole packages

    @Test("a whole package is one message, read in pieces; what else is sent comes after it", arguments: Self.versions)
    func wholePackage(version: ProtocolVersion) async throws {
        try await Self.run(size: 1_000_003) { server, content in
            let client = try await server.connected(version)
            client.publish("v2/fw/request/1/chunk/0", "0", qos: .atMostOnce)
            client.send(.pingreq)
            var packets: [Packet] = []
            for _ in 0..<2 { packets.append(try await client.next()) }
            // The ping may have been answered before the package began, but never within it.
            let published = try #require(packets.first { $0 != .pingresp })
            guard case .publish(let packet) = published else { throw NodeError(.internalError, "no PUBLISH") }
            #expect(packet.payload == Self.bytes(0..<1_000_003))
            #expect(packet.qos == .atLeastOnce)
            #expect(content.largestRead == Int64(Limits.pieceBytes))
        }
    }

    @Test("a package is read no faster than the client reads it, and memory does not grow with it")
    func backpressure() async throws {
        try await Self.run(size: 64 << 20) { server, content in
            let slow = try await server.client(.v5, reads: false)
            slow.send(
                .connect(ConnectPacket(version: .v5, clientId: "c", userName: TestServer.token)),
                .publish(
                    PublishPacket(qos: .atMostOnce, topic: "v2/fw/request/1/chunk/0", payload: ByteBuffer(string: "0"))
                )
            )
            // Others are served meanwhile; the system's own buffers hold some megabytes at most.
            let other = try await server.connected(token: "OTHER")
            for chunk in 0..<200 {
                other.publish("v2/fw/request/1/chunk/\(chunk % 4)", "4096", qos: .atMostOnce)
                _ = try await other.message()
            }
            try await server.until { content.readEnd > 0 }
            #expect(content.readEnd < 32 << 20)
            try await slow.startReading()
            _ = try await slow.next()
            #expect(try await slow.message().payload.readableBytes == 64 << 20)
        }
    }

    @Test(
        "a package that cannot be read to its end ends the connection, because half of it is sent",
        arguments: Self.versions
    )
    func wholePackageFailure(version: ProtocolVersion) async throws {
        try await Self.run(size: 1_000_000, failsFrom: 500_000) { server, _ in
            let client = try await server.connected(version)
            client.publish("v2/fw/request/1/chunk/0", "0", qos: .atMostOnce)
            #expect(await client.rest().isEmpty)
        }
    }

    @Test("a package larger than the client or MQTT can take is told on the error topic")
    func tooLarge() async throws {
        try await Self.run(size: 300_000_000) { server, _ in
            let client = try await server.connected(.v3_1_1)
            client.publish("v2/fw/request/1/chunk/0", "0", qos: .atMostOnce)
            #expect(try await client.text() == "v2/fw/error PAYLOAD_TOO_LARGE")
            let small = try await server.connected(.v5, properties: [(.maximumPacketSize, .fourBytes(1000))])
            small.publish("v2/fw/request/1/chunk/0", "1000", qos: .atMostOnce)
            #expect(try await small.text() == "v2/fw/error PAYLOAD_TOO_LARGE")
            small.publish("v2/fw/request/1/chunk/0", "900", qos: .atMostOnce)
            #expect(try await small.message().payload.readableBytes == 900)
        }
    }

    @Test("no more chunks are on their way than the client's Receive Maximum")
    func receiveMaximum() async throws {
        try await Self.run(size: 100) { server, _ in
            let client = try await server.connected(.v5, properties: [(.receiveMaximum, .twoBytes(1))])
            for chunk in 0..<3 { client.publish("v2/fw/request/1/chunk/\(chunk)", "10", qos: .atMostOnce) }
            guard case .publish(let first) = try await client.next() else {
                throw NodeError(.internalError, "no PUBLISH")
            }
            client.send(.pingreq)
            #expect(try await client.next() == .pingresp)
            client.send(.puback(AcknowledgementPacket(packetId: try #require(first.packetId))))
            #expect(try await client.message().topic == "v2/fw/response/1/chunk/1")
            #expect(try await client.message().topic == "v2/fw/response/1/chunk/2")
        }
    }

    @Test("the QoS of chunks is that of a matching subscription")
    func subscribedQoS() async throws {
        try await Self.run(size: 100) { server, _ in
            let client = try await server.connected()
            try await client.subscribe("v2/fw/response/+/chunk/+", .atMostOnce)
            client.publish("v2/fw/request/1/chunk/0", "10", qos: .atMostOnce)
            guard case .publish(let packet) = try await client.next() else {
                throw NodeError(.internalError, "no PUBLISH")
            }
            #expect(packet.qos == .atMostOnce && packet.packetId == nil)
        }
    }
}
