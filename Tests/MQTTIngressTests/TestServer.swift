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
    var sessions: DeviceSessions
    var devices: TestDevices
    var packages: TestPackages

    /// Runs a listener while the body runs.
    static func run(
        _ attributes: [String: String] = [:],
        devices: TestDevices = TestDevices(),
        packages: TestPackages = TestPackages(),
        sessions: DeviceSessions? = nil,
        metrics: Metrics = Metrics(),
        answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) },
        _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        let outlet = TestOutlet { Self.events.contains($0.type) ? .completed(nil) : await answer($0) }
        try await Self.run(attributes, devices, packages, sessions ?? DeviceSessions(), outlet, metrics, body)
    }

    /// Runs a listener in front of a chain none of whose nodes waits, unless `isPrompt` is false.
    static func run(
        isPrompt: Bool,
        packages: TestPackages = TestPackages(),
        answer: @escaping @Sendable (Message) -> Outcome,
        _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        guard isPrompt else { return try await Self.run(packages: packages, answer: answer, body) }
        let outlet = TestOutlet(atOnce: { Self.events.contains($0.type) ? .completed(nil) : answer($0) })
        try await Self.run([:], TestDevices(), packages, DeviceSessions(), outlet, Metrics(), body)
    }

    private static func run(
        _ attributes: [String: String],
        _ devices: TestDevices,
        _ packages: TestPackages,
        _ sessions: DeviceSessions,
        _ outlet: TestOutlet,
        _ metrics: Metrics,
        _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        let node = try MQTTIngressNode.make(
            Self.patience.merging(attributes) { $1 },
            services: .testing { registry in
                registry.register(devices, as: (any DeviceAuthenticator).self)
                registry.register(packages, as: (any OtaPackageService).self)
                registry.register(sessions, as: DeviceSessions.self)
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
                    sessions: sessions,
                    devices: devices,
                    packages: packages
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

/// Devices by access token.
final class TestDevices: DeviceAuthenticator {
    private let state = Mutex([
        TestServer.token: TestServer.device, "OTHER": Originator(id: UUID.random(), name: "other", type: "default"),
    ])
    private let failure: NodeError?
    private let transport: ProfileTransport
    /// Devices by certificate.
    private let certificates = Mutex<[[UInt8]: Originator]>([:])

    init(failure: NodeError? = nil, transport: ProfileTransport = .any) {
        self.failure = failure
        self.transport = transport
    }

    func transport(of device: Originator) async throws -> ProfileTransport { self.transport }

    func remove(_ token: String) { self.state.withLock { $0[token] = nil } }

    func add(certificate: [UInt8], of device: Originator) { self.certificates.withLock { $0[certificate] = device } }

    func device(certificate: [UInt8]) async throws -> Originator? { self.certificates.withLock { $0[certificate] } }

    func device(accessToken: String) async throws -> Originator? { self.state.withLock { $0[accessToken] } }

    func device(clientId: String, userName: String?, password: String?) async throws -> Originator? {
        if let failure = self.failure { throw failure }
        guard let userName else { return nil }
        return self.state.withLock { $0[userName] }
    }
}

/// One package for all devices, which can be exchanged.
final class TestPackages: OtaPackageService {
    private let effective = Mutex<EffectivePackage?>(nil)
    private let lookups = Mutex(0)
    private let isInMemory: Bool

    /// - Parameter isInMemory: Whether the package is known without waiting.
    init(isInMemory: Bool = false) { self.isInMemory = isInMemory }

    func known(effectiveFor device: DeviceId, type: OtaPackageType) -> Cached<EffectivePackage> {
        self.isInMemory ? self.effective.withLock { $0.map(Cached.hit) ?? .absent } : .unknown
    }

    /// How often the effective package was waited for.
    var lookupCount: Int { self.lookups.withLock { $0 } }

    /// Assigns a new package.
    @discardableResult
    func assign(_ content: any Content) -> OtaPackageId {
        let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: "t", version: "v")
        self.effective.withLock { $0 = EffectivePackage(package: package, content: content) }
        return package.id
    }

    /// Assigns a package that is fetched from elsewhere.
    func assign(url: String) {
        let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: "t", version: "v", url: url)
        self.effective.withLock { $0 = EffectivePackage(package: package, content: nil) }
    }

    func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage? {
        self.lookups.withLock { $0 += 1 }
        return self.effective.withLock { $0 }
    }

    private static let notUsed = NodeError(.internalError, "not used here")
    func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage? { throw Self.notUsed }
    func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage { throw Self.notUsed }
    func deleteOtaPackage(_ id: OtaPackageId) async throws { throw Self.notUsed }
    func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage? { throw Self.notUsed }
    func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage> { throw Self.notUsed }
    func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload { throw Self.notUsed }
    func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload { throw Self.notUsed }
    func content(of id: OtaPackageId) async throws -> (any Content)? { throw Self.notUsed }
    func package(_ id: OtaPackageId) async throws -> EffectivePackage? { throw Self.notUsed }
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
