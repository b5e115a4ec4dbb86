import Foundation
import Logging
import NodeKit
import OTA
import Store
import Synchronization
import Testing
import Waiting

@testable import Host

/// A host knows its store only as a ``StoreEngine``, so it runs over any.
@Suite struct HostEngineTests {
    /// An engine that a host is given.
    struct Engine: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let open: @Sendable (HostOptions, HostSettings, DeviceSessions, Logger) async throws -> any StoreEngine

        static let all = [
            Engine(testDescription: "SQLite on disk", open: HostStore.open),
            Engine(testDescription: "SQLite in memory") { _, _, sessions, _ in
                try SQLiteStore.inMemory(sessions: sessions, clock: ContinuousClock(), now: { .now })
            },
        ]
    }

    /// Starts messages, but none comes.
    struct Idle: IngressNode {
        static let descriptor = NodeDescriptor(
            type: "idle",
            summary: "Waits.",
            relations: [RelationDescriptor(.success, "Never.")]
        )

        init(configuration: Configuration, services: NodeServices) throws {}

        func run(_ outlet: any Outlet) async throws {
            outlet.ready([])
            // Until the task is cancelled.
            await Signal().wait(since: 0)
        }
    }

    /// Where they would go.
    struct End: Node {
        static let descriptor = NodeDescriptor(
            type: "end",
            summary: "Ends.",
            relations: [RelationDescriptor(.success, "Always.")]
        )

        init(configuration: Configuration, services: NodeServices) throws {}

        func process(_ message: Message) async throws -> Emission { .route(message, to: .success) }
    }

    private static let plugin = Plugin(
        name: "Test",
        version: "1.0.0",
        namespace: "urn:windlass:test",
        nodes: [Idle.self, End.self]
    )

    private static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private static func options(_ folder: URL) throws -> HostOptions {
        let chains = folder.appendingPathComponent("chains")
        try FileManager.default.createDirectory(at: chains, withIntermediateDirectories: true)
        try
            #"<chain name="c" xmlns="urn:windlass:chain:1" xmlns:t="urn:windlass:test"><t:idle id="i" to="e"/><t:end id="e"/></chain>"#
            .write(to: chains.appendingPathComponent("c.xml"), atomically: true, encoding: .utf8)
        return HostOptions(
            data: folder.appendingPathComponent("data").path,
            chains: chains.path,
            plugins: [],
            managementPort: 0,
            environment: [:]
        )
    }

    @Test("a host registers, runs and closes the engine that it is given", arguments: Engine.all)
    func runs(engine: Engine) async throws {
        try await withTemporaryFolder { folder in
            let opened = OneShot<WatchedEngine>()
            let host = Host(options: try Self.options(folder), logger: Self.silent, plugins: [Self.plugin]) {
                options,
                settings,
                sessions,
                logger in
                let watched = WatchedEngine(try await engine.open(options, settings, sessions, logger))
                opened.finish(watched)
                return watched
            }
            let isReady = OneShot<Bool>()
            let run = Task {
                defer { isReady.finish(false) }
                try await host.run { event in if case .ready = event { isReady.finish(true) } }
            }
            if await !isReady.value() { try await run.value }
            let watched = await opened.value()
            await watched.running.opened()
            #expect(watched.calls == ["register", "run"])
            #expect(await watched.isReady())
            run.cancel()
            try await run.value
            #expect(watched.calls == ["register", "run", "stop", "close"])
            #expect(await !watched.isReady())
        }
    }

    @Test("a host whose store cannot be opened says why, and one that cannot start closes its store")
    func failures() async throws {
        try await withTemporaryFolder { folder in
            let options = try Self.options(folder)
            let refusing = Host(options: options, logger: Self.silent, plugins: [Self.plugin]) { _, _, _, _ in
                throw NodeError(.unavailable, "the database is elsewhere")
            }
            let error = await #expect(throws: NodeError.self) { try await refusing.run { _ in } }
            #expect(error?.message == "the database is elsewhere")
            let opened = OneShot<WatchedEngine>()
            let nothing = Host(options: options, logger: Self.silent, plugins: [Self.plugin]) { _, _, _, _ in
                let watched = WatchedEngine(nil)
                opened.finish(watched)
                return watched
            }
            await #expect(throws: NodeError.self) { try await nothing.run { _ in } }
            #expect(opened.current?.calls == ["register", "close"])
        }
    }
}

/// An engine that notes what is asked of it; one without another behind it registers nothing.
private final class WatchedEngine: StoreEngine {
    private let engine: (any StoreEngine)?
    private let noted = Mutex<[String]>([])
    let running = Latch()

    var calls: [String] { self.noted.withLock { $0 } }

    init(_ engine: (any StoreEngine)?) { self.engine = engine }

    private func note(_ call: String) { self.noted.withLock { $0.append(call) } }

    func register(in registry: inout ServiceRegistry) {
        self.note("register")
        self.engine?.register(in: &registry)
    }

    func run() async {
        self.note("run")
        self.running.open()
        await self.engine?.run()
        self.note("stop")
    }

    func isReady() async -> Bool { await self.engine?.isReady() ?? false }

    var hasRoom: Bool { self.engine?.hasRoom ?? false }

    func metrics() async throws -> [MetricFamily] { try await self.engine?.metrics() ?? [] }

    func close() async {
        await self.engine?.close()
        self.note("close")
    }
}
