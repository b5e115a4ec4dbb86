import NodeKit
import NodeTesting
import OTA
import Store
import Synchronization

/// A domain in memory with the device that messages come from, and with its updates watched.
struct NodeDomain {
    let domain: TestDomain
    let updates: WatchedUpdates

    init() async throws {
        // The time of the messages that tests make.
        self.domain = try TestDomain(at: Timestamp(milliseconds: 1000))
        try await self.domain.add(.device)
        self.updates = WatchedUpdates(self.domain.store)
    }

    var store: SQLiteStore { self.domain.store }
    var device: DeviceId { DeviceId(Originator.device.id) }

    func services(clock: (any Clock<Duration>)? = nil) -> NodeServices {
        self.domain.services({ $0.register(self.updates, as: (any UpdateService).self) }, clock: clock)
    }

    /// From now on the store answers nothing, as one that the host has closed.
    func close() async { await self.store.close() }

    /// Makes a package and assigns it to the device.
    @discardableResult
    func assign(
        _ title: String = "fw",
        _ version: String = "1.1",
        type: OtaPackageType = .firmware,
        bytes: [UInt8] = [1, 2]
    ) async throws -> OtaPackage {
        let package = try await self.package(title, version, type: type, bytes: bytes)
        try await self.domain.assign(package.id, to: self.device, type: type)
        return package
    }

    /// Makes a package for the device's profile.
    func package(
        _ title: String = "fw",
        _ version: String = "1.1",
        type: OtaPackageType = .firmware,
        bytes: [UInt8] = [1, 2]
    ) async throws -> OtaPackage {
        try await self.domain.package(title, version, type: type, in: try await self.profile(), bytes: bytes)
    }

    /// The profile of the devices that are made by ``DomainFixture/add(_:accessToken:)``.
    func profile() async throws -> DeviceProfileId? {
        try await self.store.findDeviceProfileByName(Originator.device.type, of: .main)?.id
    }

    func attributes(_ scope: AttributeScope) async throws -> JSON.Object {
        try await self.domain.attributes(of: self.device, scope)
    }

    func save(_ values: JSON.Object, _ scope: AttributeScope) async throws {
        try await self.store.saveAttributes(of: self.device, scope: scope, values, at: self.domain.now())
    }
}

/// The updates of a store, and what was asked of them.
final class WatchedUpdates: UpdateService {
    struct State {
        var reports: [StateReport] = []
        /// What is said to the next reports, in place of what the store says.
        var results: [StateReportResult] = []
        var classes: [OtaErrorClass?] = []
        var initiated: [OtaPackageId] = []
        var served: [Range<Int64>] = []
        var settled: Set<Int64> = []
        var read: Set<Int64> = []
        /// The most assignments that were read and not settled.
        var unsettledMax = 0
        var waiters: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let store: any UpdateService
    private let state = Mutex(State())

    init(_ store: any UpdateService) { self.store = store }

    func look<T>(_ body: (inout sending State) -> sending T) -> T { self.state.withLock(body) }

    func updateRecord(of device: DeviceId, type: OtaPackageType) async throws -> UpdateRecord? {
        try await self.store.updateRecord(of: device, type: type)
    }

    func updateHistory(of device: DeviceId, type: OtaPackageType) async throws -> [UpdateHistoryEntry] {
        try await self.store.updateHistory(of: device, type: type)
    }

    func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult {
        let result = self.look { state in
            state.reports.append(report)
            return state.results.isEmpty ? nil : state.results.removeFirst()
        }
        if let result { return result }
        return try await self.store.record(report, of: device)
    }

    func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws {
        try await self.store.classify(errorClass, of: device, type: type)
        self.look { $0.classes.append(errorClass) }
    }

    func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        generation: Int64?,
        at time: Timestamp
    ) async throws -> Bool {
        let isInitiated = try await self.store.initiate(
            packageId,
            of: device,
            type: type,
            attributes: attributes,
            obsolete: obsolete,
            generation: generation,
            at: time
        )
        if isInitiated { self.look { $0.initiated.append(packageId) } }
        return isInitiated
    }

    func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId) {
        self.look { $0.served.append(range) }
        self.store.served(range, of: package, to: device)
    }

    func withdraw(from device: DeviceId, type: OtaPackageType, isCancelled: Bool, generation: Int64?) async throws
        -> Bool
    {
        try await self.store.withdraw(from: device, type: type, isCancelled: isCancelled, generation: generation)
    }

    var waitingAssignments: any WaitingMessages {
        WatchedAssignments(updates: self, waiting: self.store.waitingAssignments)
    }

    fileprivate func noteRead(_ ids: [Int64]) {
        self.look { state in
            state.read.formUnion(ids)
            state.unsettledMax = max(state.unsettledMax, state.read.count - state.settled.count)
        }
    }

    fileprivate func noteSettled(_ ids: [Int64]) {
        let waiters = self.look { state in
            state.settled.formUnion(ids)
            let due = state.waiters.filter { $0.count <= state.settled.count }
            state.waiters.removeAll { $0.count <= state.settled.count }
            return due.map(\.continuation)
        }
        for waiter in waiters { waiter.resume() }
    }

    func resendMissedPush(of device: DeviceId, type: OtaPackageType) async throws -> Bool {
        try await self.store.resendMissedPush(of: device, type: type)
    }

    func missedPushes(of device: DeviceId) async throws -> [Assignment] {
        try await self.store.missedPushes(of: device)
    }

    func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws {
        try await self.store.noteNotified(device, type, of: packageId)
    }

    /// Waits until at least so many assignments are settled.
    func settled(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isDue = self.look { state in
                if state.settled.count < count { state.waiters.append((count, continuation)) }
                return state.settled.count >= count
            }
            if isDue { continuation.resume() }
        }
    }
}

/// The attributes of a store, and how often devices were looked for by them.
final class WatchedAttributes: AttributesService {
    private let store: any AttributesService
    private let reads = Mutex(0)
    var readCount: Int { self.reads.withLock { $0 } }

    init(_ store: any AttributesService) { self.store = store }

    func attributes(of device: DeviceId, scope: AttributeScope, keys: [String]?) async throws -> [AttributeEntry] {
        try await self.store.attributes(of: device, scope: scope, keys: keys)
    }

    func saveAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at time: Timestamp
    ) async throws {
        try await self.store.saveAttributes(of: device, scope: scope, values, at: time)
    }

    func deleteAttributes(of device: DeviceId, scope: AttributeScope, keys: [String]) async throws -> [String] {
        try await self.store.deleteAttributes(of: device, scope: scope, keys: keys)
    }

    func devices(
        withAttribute key: String,
        equalTo value: JSON,
        in scope: AttributeScope,
        after: DeviceId?,
        limit: Int
    ) async throws -> [Originator] {
        let page = try await self.store.devices(
            withAttribute: key,
            equalTo: value,
            in: scope,
            after: after,
            limit: limit
        )
        self.reads.withLock { $0 += 1 }
        return page
    }
}

/// The assignments of a store, with what was read and settled noted.
private struct WatchedAssignments: WaitingMessages {
    let updates: WatchedUpdates
    let waiting: any WaitingMessages

    func due(at now: Timestamp, limit: Int, without held: Set<Int64>) async throws -> DueMessages {
        let due = try await self.waiting.due(at: now, limit: limit, without: held)
        self.updates.noteRead(due.messages.map(\.id))
        return due
    }

    func settle(_ messages: [SettledMessage]) async throws {
        // A cancelled task gets nothing done, as with a store behind a network.
        try Task.checkCancellation()
        try await self.waiting.settle(messages)
        self.updates.noteSettled(messages.map(\.message.id))
    }

    func postpone(_ messages: [PostponedMessage]) async throws {
        try Task.checkCancellation()
        try await self.waiting.postpone(messages)
    }

    func arrivals(since mark: UInt64?) async -> UInt64 { await self.waiting.arrivals(since: mark) }
}
