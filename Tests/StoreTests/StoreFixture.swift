import FoundationEssentials
import NodeKit
import NodeTesting
import OTA
import StoreTesting
import Testing

@testable import Store

/// A store in a folder of its own, which goes when the test ends.
final class StoreFixture: DomainFixture {
    let directory: String
    let sessions = DeviceSessions()
    let store: SQLiteStore
    var stored: any DomainServices { self.store }
    let clock = SteppingTime()

    private init(directory: String, system: any FileSystem, options: SQLiteStore.Options) async throws {
        self.directory = directory
        self.store = try await SQLiteStore.open(
            directory: directory,
            sessions: self.sessions,
            options: options,
            now: self.clock.look,
            system: system
        )
    }

    /// Runs a test with a fresh store, which must be in order when the test is done with it.
    static func with(
        system: any FileSystem = POSIXFileSystem(),
        options: SQLiteStore.Options = SQLiteStore.Options(),
        _ body: (StoreFixture) async throws -> Void
    ) async throws {
        try await Self.withFolder { folder in
            let fixture = try await StoreFixture(directory: "\(folder)/data", system: system, options: options)
            do {
                try await body(fixture)
                #expect(try await fixture.store.check() == [])
            } catch {
                await fixture.store.close()
                throw error
            }
            await fixture.store.close()
        }
    }

    /// The names in the folder with the bytes of packages.
    func packageFiles() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(self.directory)/packages").sorted()
    }
}

extension SQLiteStore {
    /// Carries out the effects of another writer of the store's database.
    var applier: EffectApplier {
        EffectApplier(
            caches: self.caches,
            numbers: self.numbers,
            times: self.times,
            progress: self.progress,
            assignments: self.assignmentsAdded,
            queues: self.queues,
            updateEvents: self.updateEventsAdded,
            massAssignments: self.massAssignments,
            sessions: self.sessions
        )
    }
}
