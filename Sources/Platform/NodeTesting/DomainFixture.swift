import NIOCore
public import NodeKit
public import OTA
import Synchronization

/// The services that ``DomainFixture`` makes entities with and looks into.
public typealias DomainServices = TenantService & DeviceProfileService & DeviceService & DeviceCredentialsService
    & OtaPackageService & UpdateService & AttributesService & TimeseriesService

/// A domain that one test has to itself: makes what tests need in it, and shows what was stored.
public protocol DomainFixture: Sendable {
    /// The services of the domain.
    var stored: any DomainServices { get }
    /// Who listens on behalf of devices.
    var sessions: DeviceSessions { get }
}

// MARK: What there is

extension DomainFixture {
    /// Makes a tenant.
    public func tenant(_ title: String = "tenant") async throws -> Tenant {
        try await self.stored.saveTenant(Tenant(title: title))
    }

    /// Makes a profile.
    public func profile(_ name: String = "profile", of tenant: TenantId = .main) async throws -> DeviceProfile {
        try await self.stored.saveDeviceProfile(DeviceProfile(tenantId: tenant, name: name))
    }

    /// Makes a device of the first tenant.
    ///
    /// - Parameters:
    ///   - name: Its name.
    ///   - accessToken: The token that it authenticates with; `token of ` and its name if `nil`.
    ///   - profile: Its profile; the default one if `nil`.
    ///   - firmware: Firmware of its own.
    /// - Returns: The device as it is stored.
    /// - Throws: What the store throws.
    @discardableResult
    public func device(
        _ name: String = "device",
        accessToken: String? = nil,
        in profile: DeviceProfileId? = nil,
        firmware: OtaPackageId? = nil
    ) async throws -> Device {
        try await self.stored.saveDevice(
            Device(name: name, deviceProfileId: try await self.orDefault(profile), firmwareId: firmware),
            accessToken: accessToken ?? "token of \(name)"
        )
    }

    /// Makes the device that messages of a test come from.
    ///
    /// - Parameters:
    ///   - originator: Its identifier, its name, and the name of its profile, which is made if it does not exist.
    ///   - accessToken: The token that it authenticates with; random if `nil`.
    /// - Returns: The device as it is stored.
    /// - Throws: What the store throws.
    @discardableResult
    public func add(_ originator: Originator, accessToken: String? = nil) async throws -> Device {
        let known = try await self.stored.findDeviceProfileByName(originator.type, of: .main)
        let profile = if let known { known } else { try await self.profile(originator.type) }
        return try await self.stored.saveDevice(
            Device(id: DeviceId(originator.id), name: originator.name, deviceProfileId: profile.id),
            accessToken: accessToken
        )
    }

    /// Gives a device a certificate in place of the credentials that it has.
    public func certify(_ device: DeviceId, by certificate: TestCertificate) async throws {
        let credentials = DeviceCredentials(
            deviceId: device,
            kind: .x509Certificate,
            credentialsId: "",
            credentialsValue: certificate.certificate
        )
        _ = try await self.stored.saveCredentials(credentials)
    }

    /// Makes a package of the first tenant, with bytes in the file `fw.bin`.
    ///
    /// - Parameters:
    ///   - title: Its title.
    ///   - version: Its version.
    ///   - type: Firmware or software.
    ///   - tag: Its tag.
    ///   - profile: The profile that it is for; the default one if `nil`.
    ///   - bytes: Its bytes.
    /// - Returns: The package as it is stored.
    /// - Throws: What the store throws.
    public func package(
        _ title: String = "fw",
        _ version: String = "1",
        type: OtaPackageType = .firmware,
        tag: String? = nil,
        in profile: DeviceProfileId? = nil,
        bytes: [UInt8] = Array("the bytes".utf8)
    ) async throws -> OtaPackage {
        let profile = try await self.orDefault(profile)
        let package = OtaPackage(deviceProfileId: profile, type: type, title: title, version: version, tag: tag)
        return try await self.upload(bytes, to: try await self.stored.saveOtaPackage(package).id)
    }

    /// Makes a package of the first tenant that devices fetch elsewhere.
    ///
    /// - Returns: The package as it is stored.
    /// - Throws: What the store throws.
    public func package(
        _ title: String = "fw",
        _ version: String = "1",
        type: OtaPackageType = .firmware,
        in profile: DeviceProfileId? = nil,
        url: String
    ) async throws -> OtaPackage {
        let profile = try await self.orDefault(profile)
        return try await self.stored.saveOtaPackage(
            OtaPackage(deviceProfileId: profile, type: type, title: title, version: version, url: url)
        )
    }

    private func orDefault(_ profile: DeviceProfileId?) async throws -> DeviceProfileId {
        if let profile { profile } else { try await self.stored.defaultDeviceProfile(of: .main).id }
    }

    /// Uploads the bytes of a package, as the file `fw.bin`.
    ///
    /// - Parameters:
    ///   - bytes: Its bytes.
    ///   - id: The package.
    ///   - algorithm: How its checksum is computed.
    ///   - checksum: The checksum to compare with; `nil` to take what is computed.
    /// - Returns: The package as it is stored.
    /// - Throws: What the store throws.
    @discardableResult
    public func upload(
        _ bytes: [UInt8],
        to id: OtaPackageId,
        algorithm: ChecksumAlgorithm = .sha256,
        checksum: String? = nil
    ) async throws -> OtaPackage {
        let upload = try await self.stored.upload(to: id)
        try await upload.write(ByteBuffer(bytes: bytes))
        return try await upload.finish(
            fileName: "fw.bin",
            contentType: "application/octet-stream",
            algorithm: algorithm,
            checksum: checksum
        )
    }

    /// Assigns a package to a device of its own, or takes its own away.
    ///
    /// - Returns: The device as it is stored.
    /// - Throws: What the store throws, and ``NodeError`` if the device does not exist.
    @discardableResult
    public func assign(
        _ package: OtaPackageId?,
        to device: DeviceId,
        type: OtaPackageType = .firmware
    ) async throws -> Device {
        guard var saved = try await self.stored.findDeviceById(device) else { throw NodeError(.notFound, "no device") }
        saved[type] = package
        return try await self.stored.saveDevice(saved, accessToken: nil)
    }

    /// Assigns a package to a profile, or takes its away.
    ///
    /// - Returns: The profile as it is stored.
    /// - Throws: What the store throws, and ``NodeError`` if the profile does not exist.
    @discardableResult
    public func assign(
        _ package: OtaPackageId?,
        to profile: DeviceProfileId,
        type: OtaPackageType = .firmware
    ) async throws -> DeviceProfile {
        guard var saved = try await self.stored.findDeviceProfileById(profile) else {
            throw NodeError(.notFound, "no profile")
        }
        if type == .firmware { saved.firmwareId = package } else { saved.softwareId = package }
        return try await self.stored.saveDeviceProfile(saved)
    }
}

extension Device {
    /// The package of a type of the device's own.
    public subscript(type: OtaPackageType) -> OtaPackageId? {
        get { self.packageId(of: type) }
        set { if type == .firmware { self.firmwareId = newValue } else { self.softwareId = newValue } }
    }
}

extension OtaPackage {
    /// The package as devices are served it, but for the bytes.
    public var effective: EffectivePackage { EffectivePackage(package: self, content: nil) }
}

extension UpdateService {
    /// Notifies a device of its package by two attributes.
    ///
    /// - Returns: `false` if the package is not the device's, or its update is over; nothing was written then.
    /// - Throws: What the store throws.
    public func initiate(_ package: OtaPackageId, of device: DeviceId, type: OtaPackageType) async throws -> Bool {
        try await self.initiate(
            package,
            of: device,
            type: type,
            attributes: ["fw_title": "fw", "fw_version": "1"],
            obsolete: [],
            generation: nil,
            at: Timestamp(milliseconds: 1)
        )
    }
}

extension UpdateService {
    /// What devices are to be told of their packages, oldest first, whether or not it is due.
    public func assignments(after id: Int64 = 0, limit: Int = 1_000_000) async throws -> [Assignment] {
        let all = try await self.waitingAssignments.due(
            at: Timestamp(milliseconds: .max),
            limit: 1_000_000,
            without: []
        )
        return all.messages.filter { $0.id > id }.sorted { $0.id < $1.id }.prefix(limit).map(Assignment.init)
    }

    /// Waits until assignments may have been added.
    public func waitForAssignments(since mark: UInt64?) async -> UInt64 {
        await self.waitingAssignments.arrivals(since: mark)
    }

    /// Devices were told of these.
    public func settle(_ ids: [Int64]) async throws {
        let waiting = try await self.waitingAssignments.due(
            at: Timestamp(milliseconds: .max),
            limit: 1_000_000,
            without: []
        )
        try await self.waitingAssignments.settle(
            waiting.messages.filter { ids.contains($0.id) }.map { SettledMessage($0) }
        )
    }
}

extension Message {
    /// What tells a device of an assignment, whichever it is of the device's.
    public init(_ assignment: Assignment) {
        self.init(assignment, generation: 0, priority: 0)
        self.precedence = nil
    }
}

extension Assignment {
    /// Reads the message that tells of it.
    fileprivate init(_ waiting: WaitingMessage) {
        let metadata = waiting.message.metadata
        self.init(
            id: waiting.id,
            device: waiting.message.originator,
            type: metadata.string(MessageKey.packageType).flatMap(OtaPackageType.init(rawValue:)) ?? .firmware,
            packageId: metadata.string(MessageKey.packageId).flatMap(OtaPackageId.init),
            cause: metadata.string(MessageKey.cause).flatMap(UpdateCause.init(rawValue:)) ?? .assigned,
            timestamp: waiting.since
        )
    }
}

// MARK: What was stored

extension DomainFixture {
    /// All attributes of a device in a scope.
    public func attributes(of device: DeviceId, _ scope: AttributeScope) async throws -> JSON.Object {
        let entries = try await self.stored.attributes(of: device, scope: scope, keys: nil)
        return JSON.Object(entries.map { ($0.key, $0.value) })
    }

    /// The newest value of each time series of a device.
    public func latest(_ device: DeviceId) async throws -> JSON.Object {
        let entries = try await self.stored.latestTimeseries(of: device, keys: nil)
        return JSON.Object(entries.map { ($0.key, $0.value) })
    }

    /// The states in the history of a device's update, those that were not accepted in brackets.
    public func history(of device: DeviceId, type: OtaPackageType = .firmware) async throws -> [String] {
        try await self.stored.updateHistory(of: device, type: type).map { $0.accepted ? $0.state : "(\($0.state))" }
    }

    /// What a device's sessions are told from now on.
    public func notifications(of device: DeviceId) -> Notifications {
        let notifications = Notifications()
        _ = self.sessions.subscribe(device.uuid) { notifications.append($0) }
        return notifications
    }
}

/// What a device was told, in order.
public final class Notifications: Sendable {
    private let told = Mutex<[DeviceNotification]>([])
    fileprivate func append(_ notification: DeviceNotification) { self.told.withLock { $0.append(notification) } }
    /// All that it was told.
    public var all: [DeviceNotification] { self.told.withLock { $0 } }
}
