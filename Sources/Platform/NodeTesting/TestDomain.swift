import Logging
import NIOCore
import NIOPosix
public import NodeKit
public import OTA
public import Store
import Synchronization

/// The domain in memory, for one test: the store with all of its rules, and whatever else a host lends its nodes, in a time that
/// stands still until the test moves it.
///
/// Nothing is shared between two domains. What is written is stored when the call returns, without another thread.
public final class TestDomain: Sendable {
    /// The clock for waiting; the time of day moves with it.
    public let clock = ManualClock()
    /// Who listens on behalf of devices.
    public let sessions = DeviceSessions()
    /// Calls of devices, of which the first has the identifier 1.
    public let calls: DeviceCalls
    /// The links to the bytes of packages.
    public let links = DownloadLinks(secret: [1, 2, 3])
    /// What is stored: all services of the domain in one.
    public let store: SQLiteStore
    /// Where all that works on its own runs.
    public let executor = TestExecutor()
    /// The tasks that nodes leave behind.
    public let tasks: BackgroundTasks
    /// The time of day.
    public let now: @Sendable () -> Timestamp

    /// Makes an empty domain, with a tenant and its default profile.
    ///
    /// - Parameters:
    ///   - start: The time of day at first.
    ///   - options: What an operator decides about a store.
    /// - Throws: ``NodeError`` if SQLite has no memory.
    public init(
        at start: Timestamp = Timestamp(milliseconds: 1_700_000_000_000),
        options: SQLiteStore.Options = SQLiteStore.Options()
    ) throws {
        let clock = self.clock
        let now: @Sendable () -> Timestamp = { start.adding(clock.now.offset) }
        self.now = now
        self.tasks = BackgroundTasks(executor: self.executor)
        self.calls = DeviceCalls(sessions: self.sessions, clock: clock, lastRequest: 0)
        self.store = try SQLiteStore.inMemory(sessions: self.sessions, options: options, clock: clock, now: now)
    }

    /// All services of the domain.
    public var registry: ServiceRegistry {
        var registry = ServiceRegistry()
        self.store.register(in: &registry)
        registry.register(self.calls, as: DeviceCalls.self)
        registry.register(self.links, as: DownloadLinks.self)
        return registry
    }

    /// What the host lends a node.
    ///
    /// - Parameters:
    ///   - register: Adds services, or puts others in place of the domain's, such as one that fails.
    ///   - node: The node's identifier in its chain.
    ///   - clock: The clock for waiting, if it is not to be that of the domain.
    /// - Returns: The services of the node.
    public func services(
        _ register: (inout ServiceRegistry) -> Void = { _ in },
        node: String = "node",
        clock: (any Clock<Duration>)? = nil
    ) -> NodeServices {
        var registry = self.registry
        register(&registry)
        return NodeServices(
            chain: "test",
            node: node,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            clock: clock ?? self.clock,
            now: self.now,
            tasks: self.tasks,
            registry: registry
        )
    }
}

// MARK: What there is

extension TestDomain {
    /// Makes a tenant.
    public func tenant(_ title: String = "tenant") async throws -> Tenant {
        try await self.store.saveTenant(Tenant(title: title))
    }

    /// Makes a profile.
    public func profile(_ name: String = "profile", of tenant: TenantId = .main) async throws -> DeviceProfile {
        try await self.store.saveDeviceProfile(DeviceProfile(tenantId: tenant, name: name))
    }

    /// Makes a device.
    ///
    /// - Parameters:
    ///   - name: Its name.
    ///   - accessToken: What it authenticates with; random if `nil`.
    ///   - profile: Its profile; the default one of the first tenant if `nil`.
    ///   - firmware: Firmware of its own.
    /// - Returns: The device as it is stored.
    /// - Throws: What the store throws.
    @discardableResult
    public func device(
        _ name: String = "device",
        accessToken: String? = nil,
        in profile: DeviceProfile? = nil,
        firmware: OtaPackageId? = nil
    ) async throws -> Device {
        let profile = if let profile { profile } else { try await self.store.defaultDeviceProfile(of: .main) }
        return try await self.store.saveDevice(
            Device(tenantId: profile.tenantId, name: name, deviceProfileId: profile.id, firmwareId: firmware),
            accessToken: accessToken
        )
    }

    /// Makes the device that messages of a test come from.
    ///
    /// - Parameters:
    ///   - originator: Its identifier, its name, and the name of its profile, which is made if there is none.
    ///   - accessToken: What it authenticates with; random if `nil`.
    /// - Returns: The device as it is stored.
    /// - Throws: What the store throws.
    @discardableResult
    public func add(_ originator: Originator, accessToken: String? = nil) async throws -> Device {
        let known = try await self.store.findDeviceProfileByName(originator.type, of: .main)
        let profile = if let known { known } else { try await self.profile(originator.type) }
        return try await self.store.saveDevice(
            Device(id: DeviceId(originator.id), name: originator.name, deviceProfileId: profile.id),
            accessToken: accessToken
        )
    }

    /// Makes a package with bytes.
    ///
    /// - Parameters:
    ///   - title: Its title.
    ///   - version: Its version.
    ///   - type: Firmware or software.
    ///   - tag: Its tag.
    ///   - profile: The profile that it is for; the default one of the first tenant if `nil`.
    ///   - fileName: The name of the file that is uploaded.
    ///   - bytes: Its bytes.
    /// - Returns: The package as it is stored.
    /// - Throws: What the store throws.
    public func package(
        _ title: String = "fw",
        _ version: String = "1",
        type: OtaPackageType = .firmware,
        tag: String? = nil,
        in profile: DeviceProfile? = nil,
        fileName: String = "fw.bin",
        bytes: [UInt8] = Array("the bytes".utf8)
    ) async throws -> OtaPackage {
        let package = try await self.newPackage(title, version, type: type, tag: tag, in: profile)
        let upload = try await self.store.upload(creating: package)
        try await upload.write(ByteBuffer(bytes: bytes))
        return try await upload.finish(
            fileName: fileName,
            contentType: "application/octet-stream",
            algorithm: .sha256,
            checksum: nil
        )
    }

    /// Makes a package that devices fetch elsewhere.
    ///
    /// - Returns: The package as it is stored.
    /// - Throws: What the store throws.
    public func package(
        _ title: String = "fw",
        _ version: String = "1",
        type: OtaPackageType = .firmware,
        in profile: DeviceProfile? = nil,
        url: String
    ) async throws -> OtaPackage {
        try await self.store.saveOtaPackage(
            try await self.newPackage(title, version, type: type, in: profile, url: url)
        )
    }

    private func newPackage(
        _ title: String,
        _ version: String,
        type: OtaPackageType,
        tag: String? = nil,
        in profile: DeviceProfile?,
        url: String? = nil
    ) async throws -> OtaPackage {
        let profile = if let profile { profile } else { try await self.store.defaultDeviceProfile(of: .main) }
        return OtaPackage(
            tenantId: profile.tenantId,
            deviceProfileId: profile.id,
            type: type,
            title: title,
            version: version,
            tag: tag,
            url: url
        )
    }

    /// Assigns a package to a device of its own, or takes its own away.
    ///
    /// - Returns: The device as it is stored.
    /// - Throws: What the store throws, and ``NodeError`` if there is no such device.
    @discardableResult
    public func assign(
        _ package: OtaPackageId?,
        to device: DeviceId,
        type: OtaPackageType = .firmware
    ) async throws -> Device {
        guard var saved = try await self.store.findDeviceById(device) else { throw NodeError(.notFound, "no device") }
        if type == .firmware { saved.firmwareId = package } else { saved.softwareId = package }
        return try await self.store.saveDevice(saved, accessToken: nil)
    }

    /// Assigns a package to a profile, or takes its away.
    ///
    /// - Returns: The profile as it is stored.
    /// - Throws: What the store throws, and ``NodeError`` if there is no such profile.
    @discardableResult
    public func assign(
        _ package: OtaPackageId?,
        to profile: DeviceProfileId,
        type: OtaPackageType = .firmware
    ) async throws -> DeviceProfile {
        guard var saved = try await self.store.findDeviceProfileById(profile) else {
            throw NodeError(.notFound, "no profile")
        }
        if type == .firmware { saved.firmwareId = package } else { saved.softwareId = package }
        return try await self.store.saveDeviceProfile(saved)
    }
}

// MARK: What was stored

extension TestDomain {
    /// All attributes of a device in a scope.
    public func attributes(of device: DeviceId, _ scope: AttributeScope) async throws -> JSON.Object {
        let entries = try await self.store.attributes(of: device, scope: scope, keys: nil)
        return JSON.Object(entries.map { ($0.key, $0.value) })
    }

    /// The newest value of each time series of a device.
    public func latest(_ device: DeviceId) async throws -> JSON.Object {
        let entries = try await self.store.latestTimeseries(of: device, keys: nil)
        return JSON.Object(entries.map { ($0.key, $0.value) })
    }

    /// The states in the history of a device's update, those that were not accepted in brackets.
    public func history(of device: DeviceId, type: OtaPackageType = .firmware) async throws -> [String] {
        try await self.store.updateHistory(of: device, type: type).map { $0.accepted ? $0.state : "(\($0.state))" }
    }

    /// What a device's sessions are told from now on.
    public func notifications(of device: DeviceId) -> Notifications {
        let notifications = Notifications()
        _ = self.sessions.subscribe(device.uuid) { notifications.append($0) }
        return notifications
    }

    /// What a device was told, in order.
    public final class Notifications: Sendable {
        private let told = Mutex<[DeviceNotification]>([])
        fileprivate func append(_ notification: DeviceNotification) { self.told.withLock { $0.append(notification) } }
        /// All that it was told.
        public var all: [DeviceNotification] { self.told.withLock { $0 } }
    }
}
