import NodeKit
import NodeTesting
import OTA
import StoreTesting
import Synchronization
import Testing

/// An engine that is open for one test, in a folder that goes with it.
final class EngineFixture: DomainFixture {
    let engine: EngineUnderTest
    let sessions = DeviceSessions()
    let clock = SteppingTime()
    private let folder: String
    private let opened: Mutex<any EngineServices>

    /// The engine with all its services.
    var store: any EngineServices { self.opened.withLock { $0 } }
    var stored: any DomainServices { self.store }

    private init(_ engine: EngineUnderTest, _ folder: String) async throws {
        self.engine = engine
        self.folder = folder
        self.opened = Mutex(try await engine.open(folder, self.sessions, self.clock.look))
    }

    /// Runs a test with a fresh engine, whose data must be in order when the test is done with it.
    static func with(_ engine: EngineUnderTest, _ body: (EngineFixture) async throws -> Void) async throws {
        try await Self.withFolder { folder in
            let fixture = try await EngineFixture(engine, folder)
            do {
                try await body(fixture)
                #expect(try await engine.check(fixture.store) == [])
            } catch {
                await fixture.store.close()
                throw error
            }
            await fixture.store.close()
        }
    }

    /// Closes the engine and opens it again.
    func reopen() async throws {
        await self.store.close()
        let store = try await self.engine.open(self.folder, self.sessions, self.clock.look)
        self.opened.withLock { $0 = store }
    }

    /// Runs the engine's own work until the body is done.
    func running<Value>(_ body: () async throws -> Value) async throws -> Value {
        let store = self.store
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await store.run() }
            let value = try await body()
            group.cancelAll()
            return value
        }
    }

    /// New devices, all made at the same time.
    func devices(_ count: Int, in profile: DeviceProfileId) async throws -> [Device] {
        try await withThrowingTaskGroup(of: Device.self) { group in
            for number in 0..<count { group.addTask { try await self.device("d\(number)", in: profile) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
    }
}
