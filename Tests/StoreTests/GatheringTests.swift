import Dispatch
import GRDB
import NodeKit
import OTA
import Testing

@testable import Store

/// How the writer gathers writes for a transaction.
@Suite struct GatheringTests {
    /// A writer of the fixture's database that waits so long for others, after a transaction with this many writes.
    private static func writer(
        _ store: SQLiteStore,
        gatherTime: Duration,
        after count: Int
    ) async throws -> GroupCommitWriter {
        let writer = GroupCommitWriter(
            database: store.database,
            applier: store.applier,
            gatherTime: gatherTime,
            now: store.now
        )
        let gate = DispatchSemaphore(value: 0)
        writer.writeLater { _, _ in gate.wait() }
        let writes = (0..<count).map { _ in writer.begin { _, _ in } }
        gate.signal()
        for write in writes { try await write.stored() }
        return writer
    }

    @Test("a transaction begins at once when as many writes wait as were in the one before", arguments: [1, 2, 64])
    func complete(count: Int) async throws {
        try await StoreFixture.with { fixture in
            // Would it wait for more, it would wait for an hour; the time limit of a test is a minute.
            let writer = try await Self.writer(fixture.store, gatherTime: .seconds(3600), after: count)
            for write in (0..<count).map({ _ in writer.begin { _, _ in } }) { try await write.stored() }
            let refused = (0..<count).map { _ in writer.begin { _, _ in throw NodeError(.notFound, "gone") } }
            for write in refused { await #expect(throws: NodeError.self) { try await write.stored() } }
            await writer.close()
        }
    }

    @Test("a transaction does not wait for ever for writes that do not come", arguments: [2, 64])
    func incomplete(count: Int) async throws {
        try await StoreFixture.with { fixture in
            let writer = try await Self.writer(fixture.store, gatherTime: .milliseconds(1), after: count)
            for _ in 0..<3 { try await writer.write { _, _ in } }
            await writer.close()
        }
    }
}
