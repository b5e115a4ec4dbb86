import Logging
import NodeKit
import OTA
import Store
import Synchronization
import Testing

@testable import Host

@Suite struct StrandedQueuesTests {
    @Test("messages whose node does not run are warned of once for each load, with how many there are and since when")
    func warnings() async throws {
        let store = try SQLiteStore.inMemory(sessions: DeviceSessions(), clock: ContinuousClock()) {
            Timestamp(milliseconds: 1_700_000_000_000)
        }
        for (queue, count) in [("ota/pace", 1), ("ota/others", 2)] {
            for _ in 0..<count {
                let originator = Originator(id: .random(), name: "d", type: "default")
                let message = Message(originator: originator, type: "TEST", timestamp: Timestamp(milliseconds: 1))
                try await store.queue(named: queue).append(message, countMax: 9)
            }
        }
        let log = WarningLog()
        let running = Mutex([QueueName(chain: "ota", node: "pace"), QueueName(chain: "ota", node: "others")])
        let stranded = StrandedQueues(queues: store, running: { running.withLock { $0 } }, logger: log.logger)
        await stranded.warn()
        #expect(log.warnings == [])
        running.withLock { _ = $0.removeLast() }
        await stranded.warn()
        let warning: Logger.Metadata = [
            "queue.name": "ota/others", "queue.messages": "2", "queue.oldest": "2023-11-14T22:13:20Z",
        ]
        #expect(log.warnings == [warning])
        await stranded.warn()
        #expect(log.warnings == [warning, warning])
        #expect(try await store.waitingQueues().map(\.count) == [2, 1], "nothing is removed by itself")
        await store.close()
        await stranded.warn()
        #expect(log.warnings.last?.keys.map(\.self) == ["error"])
    }
}

/// Keeps the metadata of warnings.
private final class WarningLog: Sendable {
    private let entries = Mutex<[Logger.Metadata]>([])

    var warnings: [Logger.Metadata] { self.entries.withLock { $0 } }
    var logger: Logger { Logger(label: "test") { _ in Handler(log: self) } }

    private struct Handler: LogHandler {
        let log: WarningLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.warning

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { self.metadata[key] }
            set { self.metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            guard event.level == .warning else { return }
            self.log.entries.withLock { $0.append(event.metadata ?? [:]) }
        }
    }
}
