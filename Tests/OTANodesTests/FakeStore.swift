import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

/// The services of updates in memory, and what was asked of them.
final class FakeStore: OtaPackageService, AttributesService, TimeseriesService, UpdateService {
    /// What was done to attributes, in order.
    enum AttributeStep: Hashable {
        case saved(AttributeScope, JSON.Object, Timestamp)
        case deleted([String])
    }

    struct State {
        var packages: [OtaPackageId: EffectivePackage] = [:]
        var effective: [OtaPackageType: OtaPackageId] = [:]
        /// Whether packages can be told without waiting.
        var isInMemory = false
        var attributes: [AttributeScope: JSON.Object] = [:]
        var attributeSteps: [AttributeStep] = []
        var activeDevices: [Originator] = []
        var activeDevicesWereRead = 0
        var points: [TelemetryPoint] = []
        var pointTimes: [Timestamp] = []
        var reports: [StateReport] = []
        var results: [StateReportResult] = []
        var record: UpdateRecord?
        var classes: [OtaErrorClass?] = []
        var initiated: [OtaPackageId] = []
        var served: [Range<Int64>] = []
        var assignments: [Assignment] = []
        var settled: Set<Int64> = []
        var unsettledReadMax = 0
        var readCount = 0
        var failure: NodeError?
        var settleWaiters: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
        var arrivalWaiters: [CheckedContinuation<Void, Never>] = []
    }

    let state = Mutex(State())
    let sessions = DeviceSessions()

    func services(
        clock: any Clock<Duration> = ContinuousClock(),
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) -> NodeServices {
        .testing(
            { registry in
                registry.register(self, as: (any OtaPackageService).self)
                registry.register(self, as: (any AttributesService).self)
                registry.register(self, as: (any TimeseriesService).self)
                registry.register(self, as: (any UpdateService).self)
                registry.register(self.sessions, as: DeviceSessions.self)
                registry.register(DownloadLinks(secret: [1, 2, 3]), as: DownloadLinks.self)
                registry.register(DeviceCalls(sessions: self.sessions, lastRequest: 0), as: DeviceCalls.self)
            },
            clock: clock,
            now: now
        )
    }

    func look<T>(_ body: (inout sending State) -> sending T) -> T { self.state.withLock(body) }

    private func check() throws {
        if let failure = self.look({ $0.failure }) { throw failure }
    }

    private func unused() -> NodeError { NodeError("unused", "the nodes do not need this") }

    // MARK: Packages

    @discardableResult
    func add(
        _ package: OtaPackage,
        bytes: [UInt8]? = nil,
        isEffective: Bool = true
    ) -> EffectivePackage {
        var package = package
        package.dataSize = bytes.map { Int64($0.count) } ?? package.dataSize
        let effective = EffectivePackage(package: package, content: bytes.map { Bytes(ByteBuffer(bytes: $0)) })
        self.look { state in
            state.packages[package.id] = effective
            if isEffective { state.effective[package.type] = package.id }
        }
        return effective
    }

    func package(_ id: OtaPackageId) async throws -> EffectivePackage? {
        try self.check()
        return self.look { $0.packages[id] }
    }

    func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage? {
        try self.check()
        return self.look { state in state.effective[type].flatMap { state.packages[$0] } }
    }

    func known(_ id: OtaPackageId) -> Cached<EffectivePackage> {
        self.look { Cached($0.isInMemory ? $0.packages[id] : nil) }
    }

    func known(effectiveFor device: DeviceId, type: OtaPackageType) -> Cached<EffectivePackage> {
        self.look { state in
            guard state.isInMemory else { return .unknown }
            return state.effective[type].flatMap { state.packages[$0] }.map(Cached.hit) ?? .absent
        }
    }

    func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage? { throw self.unused() }
    func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage { throw self.unused() }
    func deleteOtaPackage(_ id: OtaPackageId) async throws { throw self.unused() }
    func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage? { throw self.unused() }
    func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage> { throw self.unused() }
    func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload { throw self.unused() }
    func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload { throw self.unused() }
    func content(of id: OtaPackageId) async throws -> (any Content)? { throw self.unused() }

    // MARK: Attributes and time series

    func attributes(
        of device: DeviceId,
        scope: AttributeScope,
        keys: [String]?
    ) async throws -> [AttributeEntry] {
        try self.check()
        return self.look { state in
            (state.attributes[scope] ?? [:]).members
                .filter { member in keys?.contains { $0.exact == member.name.exact } ?? true }
                .map { AttributeEntry(key: $0.name, value: $0.value, lastUpdate: Timestamp(milliseconds: 0)) }
        }
    }

    func saveAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at time: Timestamp
    ) async throws {
        try self.check()
        self.look { state in
            state.attributeSteps.append(.saved(scope, values, time))
            var stored = state.attributes[scope] ?? [:]
            for member in values.members { stored[member.name] = member.value }
            state.attributes[scope] = stored
        }
    }

    func deleteAttributes(of device: DeviceId, scope: AttributeScope, keys: [String]) async throws -> [String] {
        try self.check()
        return self.look { state in
            let existing = keys.filter { state.attributes[scope]?[$0] != nil }
            for key in existing { state.attributes[scope]?[key] = nil }
            if !existing.isEmpty { state.attributeSteps.append(.deleted(existing)) }
            return existing
        }
    }

    func devices(
        withAttribute key: String,
        equalTo value: JSON,
        in scope: AttributeScope,
        after: DeviceId?,
        limit: Int
    ) async throws -> [Originator] {
        try self.check()
        #expect(key == "active" && value == true && scope == .server)
        return self.look { state in
            state.activeDevicesWereRead += 1
            let later = state.activeDevices.filter { device in after.map { device.id > $0.uuid } ?? true }
            return Array(later.sorted { $0.id < $1.id }.prefix(limit))
        }
    }

    func saveTimeseries(of device: DeviceId, _ points: [TelemetryPoint], at time: Timestamp) async throws {
        try self.check()
        self.look { state in
            state.points += points
            state.pointTimes.append(time)
        }
    }

    func latestTimeseries(of device: DeviceId, keys: [String]?) async throws -> [TimeseriesEntry] {
        throw self.unused()
    }

    func timeseries(
        of device: DeviceId,
        key: String,
        from start: Timestamp,
        to end: Timestamp,
        limit: Int,
        ascending: Bool
    ) async throws -> [TimeseriesEntry] { throw self.unused() }

    func timeseries(
        of device: DeviceId,
        key: String,
        in intervals: TimeIntervals,
        aggregation: TimeseriesAggregation,
        ascending: Bool
    ) async throws -> [TimeseriesEntry] { [] }

    func deleteTimeseries(of device: DeviceId, keys: [String], in range: ClosedRange<Timestamp>?) async throws {
        throw self.unused()
    }

    // MARK: Updates

    func updateRecord(of device: DeviceId, type: OtaPackageType) async throws -> UpdateRecord? {
        self.look { $0.record }
    }

    func updateHistory(of device: DeviceId, type: OtaPackageType) async throws -> [UpdateHistoryEntry] {
        throw self.unused()
    }

    func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult {
        try self.check()
        return self.look { state in
            state.reports.append(report)
            if !state.results.isEmpty { return state.results.removeFirst() }
            return report.state.flatMap(OtaUpdateState.init(rawValue:)).map { .recorded($0) } ?? .flagged(.unknownState)
        }
    }

    func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws {
        try self.check()
        self.look { $0.classes.append(errorClass) }
    }

    func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        at time: Timestamp
    ) async throws -> Bool {
        try self.check()
        let isCurrent = self.look { state in
            guard state.effective[type] == packageId else { return false }
            state.initiated.append(packageId)
            return true
        }
        guard isCurrent else { return false }
        _ = try await self.deleteAttributes(of: device, scope: .shared, keys: obsolete)
        try await self.saveAttributes(of: device, scope: .shared, attributes, at: time)
        return true
    }

    func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId) {
        self.look { $0.served.append(range) }
    }

    // MARK: Assignments

    /// Adds assignments for these devices, one each, in order.
    func assign(_ devices: [Originator], _ packageId: OtaPackageId? = .random()) {
        let waiters = self.look { state in
            for device in devices {
                state.assignments.append(
                    Assignment(
                        id: Int64(state.assignments.count + 1),
                        device: device,
                        type: .firmware,
                        packageId: packageId,
                        timestamp: Timestamp(milliseconds: 7)
                    )
                )
            }
            defer { state.arrivalWaiters = [] }
            return state.arrivalWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    func assignments(after id: Int64, limit: Int) async throws -> [Assignment] {
        try self.check()
        return self.look { state in
            var page: [Assignment] = []
            for assignment in state.assignments.dropFirst(Int(id)) {
                if page.count == limit { break }
                if !state.settled.contains(assignment.id) { page.append(assignment) }
            }
            state.readCount = max(state.readCount, Int(page.last?.id ?? 0))
            state.unsettledReadMax = max(state.unsettledReadMax, state.readCount - state.settled.count)
            return page
        }
    }

    func settle(_ assignments: [Int64]) async throws {
        // As a real store does, a cancelled task gets nothing done.
        try Task.checkCancellation()
        try self.check()
        let waiters = self.look { state in
            state.settled.formUnion(assignments)
            let due = state.settleWaiters.filter { $0.count <= state.settled.count }
            state.settleWaiters.removeAll { $0.count <= state.settled.count }
            return due.map(\.continuation)
        }
        for waiter in waiters { waiter.resume() }
    }

    func missedPushes(of device: DeviceId) async throws -> [Assignment] { throw self.unused() }

    func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws {
        throw self.unused()
    }

    func waitForAssignments(since mark: UInt64?) async throws -> UInt64 {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDue = self.look { state in
                    guard let mark, state.assignments.count <= mark, !Task.isCancelled else { return true }
                    state.arrivalWaiters.append(continuation)
                    return false
                }
                if isDue { continuation.resume() }
            }
        } onCancel: {
            let waiters = self.look { state in
                defer { state.arrivalWaiters = [] }
                return state.arrivalWaiters
            }
            for waiter in waiters { waiter.resume() }
        }
        return self.look { UInt64($0.assignments.count) }
    }

    /// Waits until at least so many assignments are settled.
    func settled(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isDue = self.look { state in
                if state.settled.count < count { state.settleWaiters.append((count, continuation)) }
                return state.settled.count >= count
            }
            if isDue { continuation.resume() }
        }
    }
}

/// Some bytes as the content of a package.
struct Bytes: Content {
    let buffer: ByteBuffer

    init(_ buffer: ByteBuffer) { self.buffer = buffer }

    var size: Int64 { Int64(self.buffer.readableBytes) }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer { self.readAtOnce(range) ?? ByteBuffer() }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        self.buffer.getSlice(at: Int(range.lowerBound), length: range.count)
    }
}

/// A clock that stands still until somebody sleeps, and then is at once where the sleeper wants it.
final class LeapingClock: Clock {
    typealias Instant = ContinuousClock.Instant

    private let start = ContinuousClock.now
    private let passed = Mutex(Duration.zero)
    private let slept = Mutex<[Duration]>([])

    var now: Instant { self.start.advanced(by: self.passed.withLock { $0 }) }
    var minimumResolution: Duration { .nanoseconds(1) }
    /// How long each sleep was.
    var sleeps: [Duration] { self.slept.withLock { $0 } }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        try Task.checkCancellation()
        self.slept.withLock { $0.append(self.now.duration(to: deadline)) }
        self.passed.withLock { $0 = max($0, self.start.duration(to: deadline)) }
        await Task.yield()
    }
}
