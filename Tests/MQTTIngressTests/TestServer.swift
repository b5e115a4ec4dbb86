import FoundationEssentials
import NIOCore
import NIOPosix
import NodeKit
import NodeTesting
import OTA
import Synchronization

@testable import MQTTIngress

/// A listener on a free port of this machine, with a few devices.
struct TestServer: Sendable {
    static let device = Originator(id: UUID.random(), name: "device", type: "default")
    static let other = Originator(id: UUID.random(), name: "other", type: "default")
    static let token = "TOKEN"
    /// Time-outs that no test waits for, however busy the machine is.
    static let patience = [
        "port": "0", "host": "127.0.0.1", "connect-timeout-seconds": "600", "write-timeout-seconds": "600",
    ]

    /// Of plain MQTT.
    var port: Int
    /// All ports, by scheme.
    var ports: [String: Int]
    var outlet: TestOutlet
    var domain: TestDomain
    /// Who listens on behalf of devices.
    var sessions: DeviceSessions { self.domain.sessions }

    /// A domain with two devices.
    ///
    /// - Parameter settings: What the profile of both says about how they connect.
    /// - Returns: The domain.
    /// - Throws: What the store throws.
    static func domain(settings: JSON = [:]) async throws -> TestDomain {
        let domain = try TestDomain()
        var profile = try await domain.store.defaultDeviceProfile(of: .main)
        profile.settings = settings
        _ = try await domain.store.saveDeviceProfile(profile)
        try await domain.add(Self.device, accessToken: Self.token)
        try await domain.add(Self.other, accessToken: "OTHER")
        return domain
    }

    /// Runs a listener while the body runs.
    static func run(
        _ attributes: [String: String] = [:],
        domain: TestDomain? = nil,
        metrics: Metrics = Metrics(),
        answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) },
        _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        let outlet = TestOutlet { Self.events.contains($0.type) ? .completed(nil) : await answer($0) }
        try await Self.run(attributes, domain, outlet, metrics, body)
    }

    /// Runs a listener in front of a chain none of whose nodes waits, unless `isPrompt` is false.
    static func run(
        isPrompt: Bool,
        domain: TestDomain? = nil,
        answer: @escaping @Sendable (Message) -> Outcome,
        _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        guard isPrompt else { return try await Self.run(domain: domain, answer: answer, body) }
        let outlet = TestOutlet(atOnce: { Self.events.contains($0.type) ? .completed(nil) : answer($0) })
        try await Self.run([:], domain, outlet, Metrics(), body)
    }

    private static func run(
        _ attributes: [String: String],
        _ given: TestDomain?,
        _ outlet: TestOutlet,
        _ metrics: Metrics,
        _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        let domain = if let given { given } else { try await Self.domain() }
        let node = try MQTTIngressNode.make(
            Self.patience.merging(attributes) { $1 },
            services: domain.live { registry in
                registry.register(AwayAuthenticator(before: domain), as: (any DeviceAuthenticator).self)
                registry.register(metrics, as: Metrics.self)
            }
        )
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await node.run(outlet) }
            let listeners = await outlet.listeners()
            try await body(
                TestServer(
                    port: listeners.first?.port ?? 0,
                    ports: Dictionary(uniqueKeysWithValues: listeners.map { ($0.scheme, $0.port) }),
                    outlet: outlet,
                    domain: domain
                )
            )
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    /// What tells of sessions, not of what a device sent.
    private static let events: [MessageType] = [.connectEvent, .disconnectEvent]

    /// What the chain got of what devices sent.
    var sent: [(message: Message, relation: Relation)] {
        self.outlet.sent.filter { !Self.events.contains($0.message.type) }
    }

    /// What the chain got of sessions that began and ended.
    var events: [MessageType] { self.outlet.sent.map(\.message.type).filter(Self.events.contains) }

    /// Waits until something is so; looks again every few milliseconds, as a loop that only yields would take the
    /// processor from the server.
    func until(_ condition: () -> Bool) async throws {
        while !condition() { try await Task.sleep(for: .milliseconds(5)) }
    }

    /// Connects without saying anything yet.
    func client(_ version: ProtocolVersion = .v5, reads: Bool = true) async throws -> TestClient {
        try await TestClient(port: self.port, version: version, reads: reads)
    }

    /// Connects as the device.
    func connected(
        _ version: ProtocolVersion = .v5,
        token: String = Self.token,
        clientId: String = "c",
        properties: Properties = []
    ) async throws -> TestClient {
        let connect = ConnectPacket(
            version: version,
            keepAlive: 60,
            clientId: clientId,
            userName: token,
            properties: properties
        )
        return try await self.connected(connect).client
    }

    /// Connects with a packet of the test's own.
    func connected(_ connect: ConnectPacket) async throws -> (client: TestClient, connack: ConnackPacket) {
        let client = try await self.client(connect.version)
        client.send(.connect(connect))
        guard case .connack(let connack) = try await client.next(), connack.code == 0 else {
            throw NodeError(.internalError, "the connection was refused")
        }
        return (client, connack)
    }
}

extension TestDomain {
    /// Assigns firmware and software to all devices, known without waiting if they are to be in memory.
    ///
    /// The bytes that devices get are those that the chain answers with.
    func assignPackages(isInMemory: Bool = false) async throws {
        let profile = try await self.store.defaultDeviceProfile(of: .main)
        for type in OtaPackageType.allCases {
            let package = try await self.package("t", type.rawValue, type: type)
            try await self.assign(package.id, to: profile.id, type: type)
        }
        if isInMemory { try await self.lookUpPackages() }
    }

    /// Has in memory which packages the devices should have.
    func lookUpPackages() async throws {
        for device in [TestServer.device, TestServer.other] {
            for type in OtaPackageType.allCases {
                _ = try await self.store.effectivePackage(for: DeviceId(device.id), type: type)
            }
        }
    }
}

/// Bytes that are computed, so that there can be very many; remembers how large pieces are read.
final class TestContent: Content {
    let size: Int64
    private let failsFrom: Int64
    private let inMemoryFrom: Int64
    private let gate: Gate?
    private let largest = Mutex<Int64>(0)
    private let end = Mutex<Int64>(0)

    /// - Parameters:
    ///   - size: How many bytes there are.
    ///   - failsFrom: The first byte that cannot be read.
    ///   - inMemoryFrom: The first byte that, with all after it, can be had without waiting.
    ///   - gate: What the bytes before that wait for.
    init(size: Int64, failsFrom: Int64 = .max, inMemoryFrom: Int64 = .max, gate: Gate? = nil) {
        self.size = size
        self.failsFrom = failsFrom
        self.inMemoryFrom = inMemoryFrom
        self.gate = gate
    }

    private static let computedMax: Int64 = 2_000_000

    /// The largest piece that was read.
    var largestRead: Int64 { self.largest.withLock { $0 } }
    /// The end of what was waited for so far.
    var readEnd: Int64 { self.end.withLock { $0 } }

    static func byte(at offset: Int64) -> UInt8 { UInt8(truncatingIfNeeded: offset &* 31 &+ offset >> 8) }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        await self.gate?.pass()
        guard range.upperBound <= self.failsFrom else { throw NodeError(.internalError, "the disk is broken") }
        self.largest.withLock { $0 = max($0, Int64(range.count)) }
        self.end.withLock { $0 = max($0, range.upperBound) }
        return self.bytes(range)
    }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        range.lowerBound >= self.inMemoryFrom && range.upperBound <= self.failsFrom ? self.bytes(range) : nil
    }

    private func bytes(_ range: Range<Int64>) -> ByteBuffer {
        // Of very many bytes it is how many that matters.
        if self.size > Self.computedMax { return ByteBuffer(repeating: 0, count: range.count) }
        return ByteBuffer(bytes: range.map(Self.byte))
    }

    /// Answers chunk requests as a chain would.
    func outcome(_ message: Message) -> Outcome {
        guard message.type == .packageChunkRequest else { return .completed(nil) }
        let size = message.metadata.integer(MessageKey.size) ?? 0
        let chunk = message.metadata.integer(MessageKey.chunk) ?? 0
        let start = size == 0 ? 0 : min(chunk * size, self.size)
        let end = size == 0 ? self.size : min(start + size, self.size)
        return .completed(.content(ContentReply(content: self, range: start..<end)))
    }
}
