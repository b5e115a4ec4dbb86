import FoundationEssentials
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing
import Waiting

@testable import OTANodes

/// Entries of logs that become visible behind others with greater identifiers, as in a database with several writers.
@Suite struct LateEntriesTests {
    @Test("an assignment that becomes visible behind a later one is handed on as well, and each once")
    func assignments() async throws {
        let log = LateAssignments((1...3).map { .numbered($0) })
        log.show([2, 3])
        let outlet = TestOutlet()
        let node = try AssignmentsNode.make(services: .testing({ $0.register(log, as: (any UpdateService).self) }))
        let run = Task { try await node.run(outlet) }
        await log.settled([2, 3])
        log.show([1])
        await log.settled([1, 2, 3])
        run.cancel()
        try await run.value
        #expect(outlet.sent.map(\.message.originator).sorted { $0.name < $1.name } == (1...3).map { .numbered($0) })
    }

    @Test("a change of an update that becomes visible behind a later one is handed on as well, and each once")
    func events() async throws {
        let log = LateEvents((1...3).map { .numbered($0) })
        log.show([2, 3])
        let outlet = TestOutlet()
        let node = try UpdateEventsNode.make(
            services: .testing({ $0.register(log, as: (any UpdateEventService).self) })
        )
        let run = Task { try await node.run(outlet) }
        await log.read([2, 3])
        log.show([1])
        await log.read([1, 2, 3])
        run.cancel()
        try await run.value
        #expect(outlet.sent.map(\.message.originator).sorted { $0.name < $1.name } == (1...3).map { .numbered($0) })
    }
}

/// Entries with the identifiers 1, 2 …, of which a reader sees those that are shown and that it is not done with.
private final class LateLog<Entry: Sendable>: Sendable {
    private struct State {
        var shown: Set<Int64> = []
        var done: Set<Int64> = []
    }

    private let entries: [Entry]
    private let state = Mutex(State())
    let shown = Signal()
    private let ended = Signal()

    init(_ entries: [Entry]) { self.entries = entries }

    func show(_ ids: Set<Int64>) {
        self.state.withLock { $0.shown.formUnion(ids) }
        self.shown.raise()
    }

    func visible(after id: Int64, _ limit: Int) -> [Entry] {
        let ids = self.state.withLock { $0.shown.subtracting($0.done) }.filter { $0 > id }.sorted().prefix(limit)
        return ids.map { self.entries[Int($0) - 1] }
    }

    func end(_ ids: [Int64]) {
        self.state.withLock { $0.done.formUnion(ids) }
        self.ended.raise()
    }

    func wait(since mark: UInt64?) async -> UInt64 {
        if let mark { await self.shown.wait(since: mark) }
        return self.shown.count
    }

    func done(_ ids: Set<Int64>) async {
        while true {
            let count = self.ended.count
            if self.state.withLock({ $0.done }) == ids { return }
            await self.ended.wait(since: count)
        }
    }
}

private final class LateAssignments: UpdateService, WaitingMessages {
    private let log: LateLog<Assignment>

    init(_ devices: [Originator]) {
        self.log = LateLog(
            devices.enumerated().map { index, device in
                Assignment(
                    id: Int64(index + 1),
                    device: device,
                    type: .firmware,
                    packageId: .random(),
                    timestamp: Timestamp(milliseconds: 7)
                )
            }
        )
    }

    func show(_ ids: Set<Int64>) { self.log.show(ids) }
    func settled(_ ids: Set<Int64>) async { await self.log.done(ids) }

    func due(at now: Timestamp, limit: Int, without held: Set<Int64>) async throws -> DueMessages {
        let entries = self.log.visible(after: 0, limit + held.count).filter { !held.contains($0.id) }
        return DueMessages(
            messages: entries.map { assignment in
                WaitingMessage(
                    id: assignment.id,
                    message: Message(assignment, generation: 1, priority: 0),
                    since: assignment.timestamp,
                    due: assignment.timestamp,
                    tries: 0
                )
            }
        )
    }
    func settle(_ messages: [SettledMessage]) async throws { self.log.end(messages.map(\.message.id)) }
    func postpone(_ messages: [PostponedMessage]) async throws {}
    func arrivals(since mark: UInt64?) async -> UInt64 { await self.log.wait(since: mark) }

    var waitingAssignments: any WaitingMessages { self }

    private static let unused = NodeError("unused", "the node does not need this")

    func updateRecord(of device: DeviceId, type: OtaPackageType) async throws -> UpdateRecord? { throw Self.unused }
    func updateHistory(of device: DeviceId, type: OtaPackageType) async throws -> [UpdateHistoryEntry] {
        throw Self.unused
    }
    func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult { throw Self.unused }
    func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws {
        throw Self.unused
    }
    func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        generation: Int64?,
        at time: Timestamp
    ) async throws -> Bool { throw Self.unused }
    func withdraw(from device: DeviceId, type: OtaPackageType, isCancelled: Bool, generation: Int64?) async throws
        -> Bool
    {
        throw Self.unused
    }
    func resendMissedPush(of device: DeviceId, type: OtaPackageType) async throws -> Bool { throw Self.unused }
    func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId) {}
    func missedPushes(of device: DeviceId) async throws -> [Assignment] { throw Self.unused }
    func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws {
        throw Self.unused
    }
}

private final class LateEvents: UpdateEventService {
    private let log: LateLog<UpdateEvent>

    init(_ devices: [Originator]) {
        self.log = LateLog(
            devices.enumerated().map { index, device in
                UpdateEvent(
                    device: device,
                    entry: UpdateHistoryEntry(
                        id: Int64(index + 1),
                        deviceId: DeviceId(device.id),
                        type: .firmware,
                        title: "fw",
                        version: "1",
                        state: "QUEUED",
                        timestamp: Timestamp(milliseconds: 7),
                        accepted: true
                    ),
                    packageId: nil
                )
            }
        )
    }

    func show(_ ids: Set<Int64>) { self.log.show(ids) }
    func read(_ ids: Set<Int64>) async { await self.log.done(ids) }

    func addReader(_ reader: String) async throws {}
    func updateEvents(unreadBy reader: String, limit: Int) async throws -> [UpdateEvent] {
        self.log.visible(after: 0, limit)
    }
    func noteRead(_ events: [UpdateEvent], by reader: String) async throws { self.log.end(events.map(\.entry.id)) }
    func waitForUpdateEvents(since mark: UInt64?) async throws -> UInt64 { await self.log.wait(since: mark) }
}
