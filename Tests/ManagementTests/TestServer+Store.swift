import FoundationEssentials
import NodeKit
import OTA
import Store

extension TestServer {
    /// Runs a server on a store in a folder of its own while the body runs.
    static func runOnStore(_ body: (TestServer, SQLiteStore) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/windlass-management-\(UUID.random().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let sessions = DeviceSessions()
        let store = try await SQLiteStore.open(directory: folder, sessions: sessions)
        var registry = ServiceRegistry()
        store.register(in: &registry)
        registry.register(DeviceCalls(sessions: sessions, clock: ContinuousClock()), as: DeviceCalls.self)
        do {
            try await Self.run(services: registry) { try await body($0, store) }
        } catch {
            await store.close()
            throw error
        }
        await store.close()
    }
}
