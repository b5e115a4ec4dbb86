import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import MQTTIngress

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@Suite("What is answered at once, and what waits", .timeLimit(.minutes(5))) struct PromptTests {
    // MARK: Requests

    static func requests(
        _ attributes: [String: String] = [:],
        _ domain: TestDomain,
        _ outlet: TestOutlet
    ) throws -> DeviceRequests {
        let node = try MQTTIngressNode.make(attributes, services: domain.live())
        return DeviceRequests(device: TestServer.device, services: node.connectionServices(outlet))
    }

    /// A chain whose nodes wait.
    static func waiting(_ content: TestContent) -> TestOutlet {
        TestOutlet { (message) async in content.outcome(message) }
    }

    static func chunk(_ index: Int, size: Int) -> Session.Request {
        Session.Request(
            qos: .atMostOnce,
            topic: .chunkRequest(type: .firmware, id: "1", chunk: String(index)),
            payload: ByteBuffer(string: String(size))
        )
    }

    static func isForPackage(_ wait: DeviceRequests.Wait) -> Bool {
        if case .package = wait { true } else { false }
    }

    static func text(_ answer: Answer) -> String? {
        guard let response = answer.response, case .bytes(let bytes) = response.body else { return nil }
        return "\(response.topic) \(bytes.readableBytes)"
    }

    @Test(
        "a chunk is answered at once if its package, the chain and its bytes need not be waited for; the answer is the same",
        arguments: [false, true],
        [false, true]
    )
    func begin(isPackageKnown: Bool, isChainPrompt: Bool) async throws {
        // Chunk 0 is not in memory, chunk 1 is.
        let content = TestContent(size: 150, inMemoryFrom: 100)
        let outlet = isChainPrompt ? TestOutlet(atOnce: { content.outcome($0) }) : Self.waiting(content)
        for (index, size) in [(0, 100), (1, 50), (2, 0)] {
            // Anew, as a download that has its package does not look for it, and a package that was found is in memory.
            let domain = try await TestServer.domain()
            try await domain.assignPackages(isInMemory: isPackageKnown)
            let requests = try Self.requests([:], domain, outlet)
            let request = Self.chunk(index, size: 100)
            let answer: Answer
            switch requests.begin(request) {
            case .now(let atOnce):
                #expect(isPackageKnown && isChainPrompt && index > 0)
                answer = atOnce
            case .suspended(let wait):
                #expect(!isPackageKnown || !isChainPrompt || index == 0)
                #expect(Self.isForPackage(wait) == !isPackageKnown)
                answer = await requests.finish(request, after: wait)
            }
            #expect(Self.text(answer) == "v2/fw/response/1/chunk/\(index) \(size)")
        }
        #expect(outlet.sent.count == 3)
    }

    @Test("a request that waits counts once for the limit of its device")
    func rate() async throws {
        let content = TestContent(size: 100)
        let domain = try await TestServer.domain()
        try await domain.assignPackages()
        let limit = ["device-requests-per-second-max": "2"]
        let requests = try Self.requests(limit, domain, Self.waiting(content))
        for index in 0..<2 {
            let answer = await requests.answer(Self.chunk(index, size: 10))
            #expect(Self.text(answer) == "v2/fw/response/1/chunk/\(index) 10")
        }
    }

    // MARK: Connections

    @Test("what could be answered at once waits for what came before it", arguments: ChunkTests.versions)
    func order(version: ProtocolVersion) async throws {
        let gate = Gate()
        let content = TestContent(size: 300, inMemoryFrom: 100, gate: gate)
        let domain = try await TestServer.domain()
        try await domain.assignPackages(isInMemory: true)
        try await TestServer.run(isPrompt: true, domain: domain, answer: { content.outcome($0) }) { server in
            let client = try await server.connected(version)
            try await client.subscribe("v2/fw/response/+/chunk/+", .atMostOnce)
            func expect(_ chunk: Int, _ packetId: UInt16) async throws {
                #expect(try await client.acknowledgement() == (packetId, 0))
                #expect(try await client.message().topic == "v2/fw/response/1/chunk/\(chunk)")
            }
            client.publish("v2/fw/request/1/chunk/1", "100")
            try await expect(1, 1)
            for chunk in [0, 1] { client.publish("v2/fw/request/1/chunk/\(chunk)", "100") }
            client.publish("v2/t", "{}")
            client.publish("v2/fw/request/1/chunk/2", "100")
            await gate.arrived()
            client.send(.pingreq)
            #expect(try await client.next() == .pingresp)
            #expect(server.sent.count == 2)
            gate.open()
            try await expect(0, 2)
            try await expect(1, 3)
            #expect(try await client.acknowledgement() == (4, 0))
            try await expect(2, 5)
        }
    }

    @Test("chunks in memory wait for a client that does not read, and come in order once it does")
    func slowClient() async throws {
        let content = TestContent(size: 64 << 20, inMemoryFrom: 0)
        let domain = try await TestServer.domain()
        try await domain.assignPackages(isInMemory: true)
        try await TestServer.run(isPrompt: true, domain: domain, answer: { content.outcome($0) }) { server in
            let client = try await server.client(.v5, reads: false)
            client.send(.connect(ConnectPacket(version: .v5, clientId: "c", userName: TestServer.token)))
            // More than the system's own buffers and what may wait for one client hold together.
            let count = 500
            for chunk in 0..<count { client.publish("v2/fw/request/1/chunk/\(chunk)", "65536", qos: .atMostOnce) }
            // Others are served meanwhile.
            let other = try await server.connected(token: "OTHER")
            for _ in 0..<100 {
                other.publish("v2/fw/request/1/chunk/0", "10", qos: .atMostOnce)
                _ = try await other.message()
            }
            #expect(server.sent.count < count)
            try await client.startReading()
            _ = try await client.next()
            for chunk in 0..<count {
                let message = try await client.message()
                #expect(message.topic == "v2/fw/response/1/chunk/\(chunk)" && message.payload.readableBytes == 65_536)
            }
        }
    }

    @Test("a failure of the chain that comes at once is told, and the session goes on")
    func failure() async throws {
        let content = TestContent(size: 100, inMemoryFrom: 0)
        let domain = try await TestServer.domain()
        try await domain.assignPackages(isInMemory: true)
        let failsNext = Mutex(true)
        try await TestServer.run(
            isPrompt: true,
            domain: domain,
            answer: { message in
                let fails = failsNext.withLock { fails in
                    defer { fails = false }
                    return fails
                }
                return fails ? .failed(NodeError(.unavailable, "later")) : content.outcome(message)
            }
        ) { server in
            let client = try await server.connected(.v3_1_1)
            for chunk in 0..<2 { client.publish("v2/fw/request/1/chunk/\(chunk)", "10") }
            #expect(try await client.acknowledgement() == (1, 0))
            #expect(try await client.text() == "v2/fw/error FAILURE: later")
            #expect(try await client.acknowledgement() == (2, 0))
            #expect(try await client.message().topic == "v2/fw/response/1/chunk/1")
        }
    }

    @Test("a connection that ends with what is answered at once carries out nothing after it, and leaves once")
    func ending() async throws {
        let outcome = Outcome.failed(NodeError(.unavailable, "later"))
        try await TestServer.run(isPrompt: true, answer: { _ in outcome }) { server in
            let (client, _) = try await server.connected(WillTests.connect(.v3_1_1))
            client.send(
                (1...3).map { id in
                    .publish(
                        PublishPacket(qos: .atLeastOnce, topic: "v2/t", packetId: id, payload: ByteBuffer(string: "{}"))
                    )
                }
            )
            #expect(await client.rest().isEmpty)
            try await server.until { server.events.count == 2 }
            #expect(server.events == [.connectEvent, .disconnectEvent])
            // The will is carried out, too.
            #expect(server.sent.count == 2)
            #expect(server.sent.last?.message.data == .json(["online": false]))
        }
    }

    #if os(Linux)
        @Test("TCP acknowledges a PUBACK at once if nothing is sent that would do so")
        func acknowledgement() async throws {
            let channel = try await LimitTests.channel()
            try await LimitTests.connect(channel, keepAlive: 10)
            let option = ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: TCP_QUICKACK))
            func setting() -> SocketOptionValue? {
                channel.options.first { $0.option as? ChannelOptions.Types.SocketOption == option }?.value
                    as? SocketOptionValue
            }
            var bytes = ByteBuffer()
            for packet in [Packet.puback(AcknowledgementPacket(packetId: 1)), .pingreq] {
                packet.write(into: &bytes, version: .v5)
            }
            try await channel.writeInbound(bytes)
            #expect(try await LimitTests.next(channel) == .pingresp)
            #expect(setting() == nil)
            try await LimitTests.send(.puback(AcknowledgementPacket(packetId: 2)), to: channel)
            #expect(setting() == 2)
        }
    #endif
}
