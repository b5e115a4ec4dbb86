import Chains
import FlowNodes
import FoundationEssentials
import Logging
import NodeKit
import NodeTesting
import OTA
import OTANodes
import Store
import Synchronization
import Testing

/// A chain of real nodes on a domain in memory, where time passes when the test says so.
final class Campaign: Sendable {
    let domain: TestDomain
    let bench = Bench()
    private let runtime: ChainRuntime
    private let start: Timestamp

    private init() throws {
        let domain = try TestDomain()
        self.domain = domain
        self.start = domain.now()
        var types = NodeTypes()
        try types.add(
            Plugin(
                name: "OTANodes",
                version: "1",
                namespace: "urn:windlass:ota",
                nodes: [AssignmentsNode.self, AttributePushNode.self, MissedPushesNode.self]
            )
        )
        try types.add(
            Plugin(
                name: "FlowNodes",
                version: "1",
                namespace: "urn:windlass:flow",
                nodes: [FilterNode.self, ThrottleNode.self]
            )
        )
        try types.add(
            Plugin(name: "Test", version: "1", namespace: "urn:test", nodes: [WindowNode.self, HeardNode.self])
        )
        self.runtime = ChainRuntime(
            types: types,
            environment: [:],
            services: { [bench] chain, node in
                var services = domain.services({ $0.register(bench, as: Bench.self) }, node: node)
                services.chain = chain
                return services
            },
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
    }

    /// Runs a chain with these nodes, and the store's own work, until the test is done.
    static func run(_ nodes: String, _ body: (Campaign) async throws -> Void) async throws {
        let campaign = try Campaign()
        let store = campaign.domain.start { [store = campaign.domain.store] in await store.run() }
        let chains = campaign.domain.start { [runtime = campaign.runtime] in
            try await runtime.run([Self.source(nodes)]) { _ in }
        }
        await campaign.domain.idle()
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(campaign))
        } catch {
            result = .failure(error)
        }
        chains.cancel()
        store.cancel()
        try await chains.value
        try await store.value
        try result.get()
    }

    private static func source(_ nodes: String) -> ChainSource {
        let text = """
            <chain xmlns="urn:windlass:chain:1" xmlns:ota="urn:windlass:ota" xmlns:flow="urn:windlass:flow"
                   xmlns:t="urn:test" name="test">
            \(nodes)
            </chain>
            """
        return ChainSource(path: "test.xml", bytes: Array(text.utf8))
    }

    /// Lets another chain take over.
    func reload(_ nodes: String) async throws {
        let reload = self.domain.start { [runtime] in try await runtime.reload([Self.source(nodes)]) }
        try await reload.value
        await self.domain.idle()
    }

    /// The time since the campaign began.
    var time: Duration { self.start.duration(to: self.domain.now()) }

    var store: SQLiteStore { self.domain.store }

    /// Makes devices `d0`, `d1` … of a profile.
    func devices(_ count: Int, in profile: DeviceProfileId) async throws -> [Device] {
        var devices: [Device] = []
        for number in 0..<count { devices.append(try await self.domain.device("d\(number)", in: profile)) }
        return devices
    }

    func record(_ device: Device) async throws -> UpdateRecord {
        try #require(try await self.store.updateRecord(of: device.id, type: .firmware))
    }

    /// The devices that were notified, by the names of their packages, with the time since the campaign began.
    func heard(_ package: OtaPackage) -> [(device: String, time: Duration)] {
        self.bench.heard.filter { $0.package == package.id.description }.map {
            ($0.device, self.start.duration(to: $0.time))
        }
    }
}

/// What the nodes of a test do and see.
final class Bench: Sendable {
    struct Heard: Sendable {
        var device: String
        var package: String?
        var cause: String?
        var time: Timestamp
    }

    private struct State {
        var heard: [Heard] = []
        var window: @Sendable (Message) throws -> Later? = { _ in nil }
    }

    private let state = Mutex(State())

    /// What came behind the push, in order.
    var heard: [Heard] { self.state.withLock { $0.heard } }
    func note(_ heard: Heard) { self.state.withLock { $0.heard.append(heard) } }

    /// What the window says from now on.
    func setWindow(_ window: @escaping @Sendable (Message) throws -> Later?) {
        self.state.withLock { $0.window = window }
    }

    func later(_ message: Message) throws -> Later? { try self.state.withLock { $0.window }(message) }
}

/// Lets a message pass when the test says so.
private struct WindowNode: Node {
    static let descriptor = NodeDescriptor(
        type: "window",
        summary: "Lets messages pass at some times.",
        relations: [RelationDescriptor(.success, "It is open.")],
        traits: .saysLater
    )

    private let bench: Bench

    init(configuration: Configuration, services: NodeServices) throws { self.bench = try services.require(Bench.self) }

    func process(_ message: Message) async throws -> Emission {
        if let later = try self.bench.later(message) { return .later(later) }
        return .route(message, to: .success)
    }
}

/// Notes which devices were notified.
private struct HeardNode: Node {
    static let descriptor = NodeDescriptor(type: "heard", summary: "Notes devices.", relations: [])

    private let bench: Bench
    private let now: @Sendable () -> Timestamp

    init(configuration: Configuration, services: NodeServices) throws {
        self.bench = try services.require(Bench.self)
        self.now = services.now
    }

    func process(_ message: Message) async throws -> Emission {
        self.bench.note(
            Bench.Heard(
                device: message.originator.name,
                package: message.metadata.string(MessageKey.packageId),
                cause: message.metadata.string(MessageKey.cause),
                time: self.now()
            )
        )
        return .end
    }
}
