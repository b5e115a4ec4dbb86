import NIOCore
import NodeKit
import OTA
import Synchronization

/// All services that the API needs, in memory, with just enough rules to see that the API passes things on.
final class FakeServices: OtaPackageService, DeviceService, DeviceProfileService, DeviceCredentialsService,
    AttributesService, TimeseriesService, EntityQueryService, UpdateService, TenantService, UserService, ApiKeyService,
    AuditService
{
    struct State {
        var packages: [OtaPackageId: OtaPackage] = [:]
        var bytes: [OtaPackageId: ByteBuffer] = [:]
        var devices: [DeviceId: Device] = [:]
        var credentials: [DeviceId: DeviceCredentials] = [:]
        var profiles: [DeviceProfileId: DeviceProfile] = [:]
        var attributes: [DeviceId: [AttributeScope: [AttributeEntry]]] = [:]
        var points: [DeviceId: [TimeseriesEntry]] = [:]
        var records: [UpdateRecord] = []
        var history: [UpdateHistoryEntry] = []
        var tenants: [TenantId: Tenant] = [.main: Tenant(id: .main, title: "Tenant")]
        var users: [UserId: User] = [:]
        var endedLogins: [String: Timestamp] = [:]
        var keys: [(digest: [UInt8], key: ApiKey)] = []
        var log: [AuditEntry] = []
        /// What writing the audit log throws.
        var logFailure: NodeError?
        /// What the next call of a service throws.
        var failure: NodeError?
        /// What writing an upload throws.
        var writeFailure: NodeError?
        var uploadsCancelled = 0
        var cancelWaiters: [CheckedContinuation<Void, Never>] = []
        var deletedRanges: [ClosedRange<Timestamp>?] = []
    }

    let state = Mutex(State())
    let calls = DeviceCalls(sessions: DeviceSessions(), clock: ContinuousClock())
    let updateControl = FakeUpdateControl()
    let storedCalls = FakePersistentCalls()
    let defaultProfile = DeviceProfile(name: "default", isDefault: true)

    init() {
        self.state.withLock { $0.profiles[self.defaultProfile.id] = self.defaultProfile }
    }

    var registry: ServiceRegistry {
        var registry = ServiceRegistry()
        registry.register(self, as: (any OtaPackageService).self)
        registry.register(self, as: (any DeviceService).self)
        registry.register(self, as: (any DeviceProfileService).self)
        registry.register(self, as: (any DeviceCredentialsService).self)
        registry.register(self, as: (any AttributesService).self)
        registry.register(self, as: (any TimeseriesService).self)
        registry.register(self, as: (any EntityQueryService).self)
        registry.register(self, as: (any UpdateService).self)
        registry.register(self, as: (any TenantService).self)
        registry.register(self.updateControl, as: (any UpdateControlService).self)
        registry.register(self.storedCalls, as: (any PersistentCallService).self)
        registry.register(self.updateControl, as: (any DeviceQueryService).self)
        registry.register(self, as: (any UserService).self)
        registry.register(self, as: (any ApiKeyService).self)
        registry.register(self, as: (any AuditService).self)
        registry.register(self.calls, as: DeviceCalls.self)
        return registry
    }

    private func failIfAsked() throws {
        if let failure = self.state.withLock({ $0.failure }) { throw failure }
    }

    // MARK: Packages

    func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage? {
        try self.failIfAsked()
        return self.state.withLock { $0.packages[id] }
    }

    func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage {
        if package.title.isEmpty { throw NodeError(.badRequest, "OtaPackage title should be specified!") }
        if package.version.isEmpty { throw NodeError(.badRequest, "OtaPackage version should be specified!") }
        return try self.state.withLock { state in
            if let old = state.packages[package.id] {
                if old.title != package.title {
                    throw NodeError(.badRequest, "Updating otaPackage title is prohibited!")
                }
            } else if state.packages.values.contains(where: {
                $0.title == package.title && $0.version == package.version
            }) {
                throw NodeError(.badRequest, "OtaPackage with such title and version already exists!")
            }
            state.packages[package.id] = package
            return package
        }
    }

    func deleteOtaPackage(_ id: OtaPackageId) async throws {
        try self.state.withLock { state in
            if state.devices.values.contains(where: { $0.firmwareId == id }) {
                throw NodeError(.badRequest, "The otaPackage referenced by the devices cannot be deleted!")
            }
            state.packages[id] = nil
        }
    }

    func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage? { nil }

    func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage> {
        let all = self.state.withLock { state in
            state.packages.values.filter {
                $0.tenantId == tenant && (deviceProfileId == nil || $0.deviceProfileId == deviceProfileId)
                    && (type == nil || $0.type == type)
                    && (hasData == nil || $0.hasData == hasData)
            }
        }
        return Self.page(all.sorted { $0.version < $1.version }, page)
    }

    private static func page<Element>(_ all: [Element], _ link: PageLink) -> Page<Element> {
        let data = Array(all.dropFirst(link.page * link.pageSize).prefix(link.pageSize))
        return Page(data: data, totalElements: all.count, link: link)
    }

    func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload {
        guard self.state.withLock({ $0.packages[id] }) != nil else {
            throw NodeError(.notFound, "Ota package with id [\(id)] is not found")
        }
        return FakeUpload(services: self, id: id)
    }

    func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload {
        try await self.upload(to: try await self.saveOtaPackage(package).id)
    }

    func content(of id: OtaPackageId) async throws -> (any Content)? {
        self.state.withLock { $0.bytes[id] }.map(FakeContent.init)
    }

    func package(_ id: OtaPackageId) async throws -> EffectivePackage? { nil }
    func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage? { nil }

    // MARK: Devices

    func findDeviceById(_ id: DeviceId) async throws -> Device? {
        try self.failIfAsked()
        return self.state.withLock { $0.devices[id] }
    }

    func findDeviceByName(_ name: String, of tenant: TenantId) async throws -> Device? {
        self.state.withLock { $0.devices.values.first { $0.name == name && $0.tenantId == tenant } }
    }

    func findDevices(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        page: PageLink
    ) async throws -> Page<Device> {
        let all = self.state.withLock { state in
            state.devices.values.filter {
                $0.tenantId == tenant && (deviceProfileId == nil || $0.deviceProfileId == deviceProfileId)
            }
        }
        return Self.page(all.sorted { $0.name < $1.name }, page)
    }

    func findDeviceInfos(of tenant: TenantId, matching filter: DeviceFilter, page: PageLink) async throws -> Page<
        DeviceInfo
    > {
        let found = try await self.findDevices(of: tenant, deviceProfileId: filter.deviceProfileId, page: page)
        var infos: [DeviceInfo] = []
        for device in found.data { infos.append(try await self.deviceInfo(of: device)) }
        return Page(data: infos, totalElements: found.totalElements, link: page)
    }

    func deviceInfo(of device: Device) async throws -> DeviceInfo {
        let type = self.state.withLock { $0.profiles[device.deviceProfileId]?.name }
        return DeviceInfo(device: device, type: type ?? "", isActive: false)
    }

    func saveDevice(_ device: Device, accessToken: String?) async throws -> Device {
        try self.state.withLock { state in
            if state.devices.values.contains(where: { $0.name == device.name && $0.id != device.id }) {
                throw NodeError(.badRequest, "Device with such name already exists!")
            }
            if state.devices[device.id] == nil {
                state.credentials[device.id] = DeviceCredentials(
                    deviceId: device.id,
                    credentialsId: accessToken ?? "RANDOMTOKEN123456789"
                )
            }
            state.devices[device.id] = device
            return device
        }
    }

    func saveDevice(_ device: Device, credentials: DeviceCredentials) async throws -> Device {
        let saved = try await self.saveDevice(device, accessToken: nil)
        do {
            _ = try await self.saveCredentials(credentials)
        } catch {
            try await self.deleteDevice(device.id)
            throw error
        }
        return saved
    }

    func deleteDevice(_ id: DeviceId) async throws { self.state.withLock { $0.devices[id] = nil } }

    func countDevices(deviceProfileId: DeviceProfileId, withoutOwn type: OtaPackageType) async throws -> Int {
        self.state.withLock { state in
            state.devices.values.count {
                $0.deviceProfileId == deviceProfileId && $0.packageId(of: type) == nil
            }
        }
    }

    func findCredentials(of id: DeviceId) async throws -> DeviceCredentials? {
        self.state.withLock { $0.credentials[id] }
    }

    func saveCredentials(_ credentials: DeviceCredentials) async throws -> DeviceCredentials {
        try self.state.withLock { state in
            if state.credentials.values.contains(where: {
                $0.credentialsId == credentials.credentialsId && $0.deviceId != credentials.deviceId
            }) {
                throw NodeError(.badRequest, "Device credentials are already assigned to another device!")
            }
            state.credentials[credentials.deviceId] = credentials
            return credentials
        }
    }

    func findDeviceProfileById(_ id: DeviceProfileId) async throws -> DeviceProfile? {
        self.state.withLock { $0.profiles[id] }
    }

    func findDeviceProfileByName(_ name: String, of tenant: TenantId) async throws -> DeviceProfile? {
        self.state.withLock { $0.profiles.values.first { $0.name == name && $0.tenantId == tenant } }
    }

    func defaultDeviceProfile(of tenant: TenantId) async throws -> DeviceProfile {
        self.state.withLock { state in state.profiles.values.first(where: \.isDefault) ?? self.defaultProfile }
    }

    func findDeviceProfiles(of tenant: TenantId, page: PageLink) async throws -> Page<DeviceProfile> {
        let all = self.state.withLock { $0.profiles.values.filter { $0.tenantId == tenant } }
        return Self.page(all.sorted { $0.name < $1.name }, page)
    }

    func saveDeviceProfile(_ profile: DeviceProfile) async throws -> DeviceProfile {
        self.state.withLock { $0.profiles[profile.id] = profile }
        return profile
    }

    func setDefaultDeviceProfile(_ id: DeviceProfileId) async throws -> DeviceProfile {
        self.state.withLock { state in
            for key in state.profiles.keys { state.profiles[key]?.isDefault = key == id }
        }
        return try await self.defaultDeviceProfile(of: .main)
    }

    func deleteDeviceProfile(_ id: DeviceProfileId) async throws {
        try self.state.withLock { state in
            if state.devices.values.contains(where: { $0.deviceProfileId == id }) {
                throw NodeError(.badRequest, "The device profile referenced by the devices cannot be deleted!")
            }
            state.profiles[id] = nil
        }
    }

    // MARK: Attributes and time series

    func attributes(of device: DeviceId, scope: AttributeScope, keys: [String]?) async throws -> [AttributeEntry] {
        let entries = self.state.withLock { $0.attributes[device]?[scope] ?? [] }
        return entries.filter { keys?.contains($0.key) ?? true }.sorted { $0.key < $1.key }
    }

    func saveAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at time: Timestamp
    ) async throws {
        let entries = values.members.map { AttributeEntry(key: $0.name, value: $0.value, lastUpdate: time) }
        self.state.withLock { state in
            var old = state.attributes[device]?[scope] ?? []
            old.removeAll { values[$0.key] != nil }
            state.attributes[device, default: [:]][scope] = old + entries
        }
    }

    func deleteAttributes(of device: DeviceId, scope: AttributeScope, keys: [String]) async throws -> [String] {
        self.state.withLock { $0.attributes[device]?[scope]?.removeAll { keys.contains($0.key) } }
        return keys
    }

    func devices(
        withAttribute key: String,
        equalTo value: JSON,
        in scope: AttributeScope,
        after: DeviceId?,
        limit: Int
    ) async throws -> [Originator] { [] }

    func saveTimeseries(of device: DeviceId, _ points: [TelemetryPoint], at time: Timestamp) async throws {
        let entries = points.flatMap { point in
            point.values.members.map {
                TimeseriesEntry(key: $0.name, timestamp: point.timestamp ?? time, value: $0.value)
            }
        }
        self.state.withLock { $0.points[device, default: []] += entries }
    }

    func latestTimeseries(of device: DeviceId, keys: [String]?) async throws -> [TimeseriesEntry] {
        var latest: [String: TimeseriesEntry] = [:]
        for entry in self.state.withLock({ $0.points[device] ?? [] }) where keys?.contains(entry.key) ?? true {
            if latest[entry.key].map({ $0.timestamp <= entry.timestamp }) ?? true { latest[entry.key] = entry }
        }
        return latest.values.sorted { $0.key < $1.key }
    }

    func timeseries(
        of device: DeviceId,
        key: String,
        from start: Timestamp,
        to end: Timestamp,
        limit: Int,
        ascending: Bool
    ) async throws -> [TimeseriesEntry] {
        let entries = self.state.withLock { $0.points[device] ?? [] }
            .filter { $0.key == key && start <= $0.timestamp && $0.timestamp <= end }
            .sorted { ascending ? $0.timestamp < $1.timestamp : $0.timestamp > $1.timestamp }
        return Array(entries.prefix(limit))
    }

    func timeseries(
        of device: DeviceId,
        key: String,
        in intervals: TimeIntervals,
        aggregation: TimeseriesAggregation,
        ascending: Bool
    ) async throws -> [TimeseriesEntry] { [] }

    func deleteTimeseries(of device: DeviceId, keys: [String], in range: ClosedRange<Timestamp>?) async throws {
        self.state.withLock { state in
            state.deletedRanges.append(range)
            state.points[device]?.removeAll { keys.contains($0.key) && (range?.contains($0.timestamp) ?? true) }
        }
    }

    func findEntities(_ query: EntityQuery) async throws -> Page<EntityRow> {
        Page(data: [], totalElements: 0, link: PageLink(pageSize: query.pageSize, page: query.page))
    }

    func countEntities(_ query: EntityQuery) async throws -> Int { 0 }

    func entities(matching query: EntityQuery, after: DeviceId?, limit: Int) async throws -> [DeviceId] { [] }

    // MARK: Updates

    func updateRecord(of device: DeviceId, type: OtaPackageType) async throws -> UpdateRecord? {
        self.state.withLock { $0.records.first { $0.deviceId == device && $0.type == type } }
    }

    func updateHistory(of device: DeviceId, type: OtaPackageType) async throws -> [UpdateHistoryEntry] {
        self.state.withLock { $0.history.filter { $0.deviceId == device && $0.type == type } }
    }

    func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult { .flagged(.noUpdate) }
    func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws {}
    func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        at time: Timestamp
    ) async throws -> Bool { false }
    func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId) {}
    func assignments(after id: Int64, limit: Int) async throws -> [Assignment] { [] }
    func settle(_ assignments: [Int64]) async throws {}
    func missedPushes(of device: DeviceId) async throws -> [Assignment] { [] }
    func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws {}
    func waitForAssignments(since mark: UInt64?) async throws -> UInt64 { 0 }

    // MARK: Tenants and users

    func findTenantById(_ id: TenantId) async throws -> Tenant? { self.state.withLock { $0.tenants[id] } }

    func findTenants(page: PageLink) async throws -> Page<Tenant> {
        Self.page(self.state.withLock { $0.tenants.values.sorted { $0.title < $1.title } }, page)
    }

    func saveTenant(_ tenant: Tenant) async throws -> Tenant {
        self.state.withLock { $0.tenants[tenant.id] = tenant }
        return tenant
    }

    func deleteTenant(_ id: TenantId) async throws {
        self.state.withLock { state in
            state.tenants[id] = nil
            state.users = state.users.filter { $0.value.tenantId != id }
        }
    }

    func findUsers(of tenant: TenantId, authority: Authority?, page: PageLink) async throws -> Page<User> {
        let all = self.state.withLock { state in
            state.users.values.filter { $0.tenantId == tenant && (authority == nil || $0.authority == authority) }
        }
        return Self.page(all.sorted { $0.name < $1.name }, page)
    }

    func changeUser(
        _ id: UserId,
        _ change: @escaping @Sendable (inout User) throws -> Void
    ) async throws -> User {
        try self.state.withLock { state in
            guard var user = state.users[id] else { throw NodeError(.notFound, "User with id [\(id)] is not found") }
            try change(&user)
            state.users[id] = user
            return user
        }
    }

    func deleteUser(_ id: UserId) async throws { self.state.withLock { $0.users[id] = nil } }

    func findUser(name: String) async throws -> User? {
        self.state.withLock { $0.users.values.first { $0.name.lowercased() == name.lowercased() } }
    }

    func findUserById(_ id: UserId) async throws -> User? { self.state.withLock { $0.users[id] } }

    func saveUser(_ user: User) async throws -> User {
        self.state.withLock { $0.users[user.id] = user }
        return user
    }

    func endLogin(_ id: String, until: Timestamp) async throws { self.state.withLock { $0.endedLogins[id] = until } }

    func endedLogins() async throws -> [String: Timestamp] { self.state.withLock { $0.endedLogins } }

    func countUsers() async throws -> Int { self.state.withLock { $0.users.count } }

    func secret(named name: String, count: Int) async throws -> [UInt8] { (0..<count).map { UInt8($0 & 255) } }

    // MARK: Keys and the audit log

    func findApiKeyById(_ id: ApiKeyId) async throws -> ApiKey? {
        self.state.withLock { $0.keys.first { $0.key.id == id }?.key }
    }

    func findApiKeys(of user: UserId, page: PageLink) async throws -> Page<ApiKey> {
        Self.page(self.state.withLock { $0.keys.map(\.key).filter { $0.userId == user } }, page)
    }

    func createApiKey(_ key: ApiKey, digest: [UInt8]) async throws -> ApiKey {
        self.state.withLock { $0.keys.append((digest, key)) }
        return key
    }

    func changeApiKey(
        _ id: ApiKeyId,
        _ change: @escaping @Sendable (inout ApiKey) throws -> Void
    ) async throws -> ApiKey {
        try self.state.withLock { state in
            guard let index = state.keys.firstIndex(where: { $0.key.id == id }) else {
                throw NodeError(.notFound, "API key with id [\(id)] is not found")
            }
            try change(&state.keys[index].key)
            return state.keys[index].key
        }
    }

    func deleteApiKey(_ id: ApiKeyId) async throws { self.state.withLock { $0.keys.removeAll { $0.key.id == id } } }

    func knownHolder(digest: [UInt8]) -> Cached<ApiKeyHolder> { .unknown }

    func holder(digest: [UInt8]) async throws -> ApiKeyHolder? {
        self.state.withLock { state in
            guard let key = state.keys.first(where: { $0.digest == digest })?.key else { return nil }
            return state.users[key.userId].map { ApiKeyHolder(key: key, user: $0) }
        }
    }

    func record(_ entry: AuditEntry) async throws {
        try self.state.withLock { state in
            if let failure = state.logFailure { throw failure }
            state.log.append(entry)
        }
    }

    func recordLater(_ entry: AuditEntry) { self.state.withLock { $0.log.append(entry) } }

    func findAuditEntries(
        of tenant: TenantId,
        _ query: AuditQuery,
        page: PageLink
    ) async throws -> Page<AuditEntry> {
        Self.page(self.state.withLock { $0.log.filter { $0.tenantId == tenant } }, page)
    }

    // MARK: What tests ask

    /// Waits until an upload was given up.
    func uploadCancelled() async {
        await withCheckedContinuation { continuation in
            let isDone = self.state.withLock { state in
                if state.uploadsCancelled == 0 { state.cancelWaiters.append(continuation) }
                return state.uploadsCancelled > 0
            }
            if isDone { continuation.resume() }
        }
    }
}

private struct FakeContent: Content {
    let bytes: ByteBuffer
    var size: Int64 { Int64(self.bytes.readableBytes) }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        let start = self.bytes.readerIndex + Int(range.lowerBound)
        guard let slice = self.bytes.getSlice(at: start, length: range.count) else {
            throw NodeError(.internalError, "out of range")
        }
        return slice
    }
}

private final class FakeUpload: OtaPackageUpload {
    let services: FakeServices
    let id: OtaPackageId
    let bytes = Mutex(ByteBuffer())

    init(services: FakeServices, id: OtaPackageId) {
        self.services = services
        self.id = id
    }

    func write(_ bytes: ByteBuffer) async throws {
        if let failure = self.services.state.withLock({ $0.writeFailure }) { throw failure }
        self.bytes.withLock { _ = $0.writeImmutableBuffer(bytes) }
    }

    func finish(
        fileName: String?,
        contentType: String?,
        algorithm: ChecksumAlgorithm,
        checksum: String?
    ) async throws -> OtaPackage {
        let bytes = self.bytes.withLock { $0 }
        guard checksum != "wrong" else { throw NodeError(.badRequest, "Wrong otaPackage file!") }
        return try self.services.state.withLock { state in
            guard var package = state.packages[self.id] else { throw NodeError(.notFound, "gone") }
            package.fileName = fileName
            package.contentType = contentType
            package.checksumAlgorithm = algorithm
            package.checksum = checksum ?? "computed"
            package.sha256 = "abc"
            package.dataSize = Int64(bytes.readableBytes)
            package.hasData = true
            state.packages[self.id] = package
            state.bytes[self.id] = bytes
            return package
        }
    }

    func cancel() async {
        let waiters = self.services.state.withLock { state in
            state.uploadsCancelled += 1
            defer { state.cancelWaiters = [] }
            return state.cancelWaiters
        }
        for waiter in waiters { waiter.resume() }
    }
}
