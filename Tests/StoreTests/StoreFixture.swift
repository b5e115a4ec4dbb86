import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import Synchronization
import Testing

@testable import Store

/// A store in a folder of its own, which goes when the test ends.
final class StoreFixture: Sendable {
    let directory: String
    let sessions = DeviceSessions()
    let store: SQLiteStore
    let clock: ManualTime

    private init(
        directory: String,
        system: any FileSystem,
        options: SQLiteStore.Options,
        clock: ManualTime
    ) async throws {
        self.directory = directory
        self.clock = clock
        self.store = try await SQLiteStore.open(
            directory: directory,
            sessions: self.sessions,
            options: options,
            now: { clock.now },
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
            let fixture = try await StoreFixture(
                directory: "\(folder)/data",
                system: system,
                options: options,
                clock: ManualTime()
            )
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

    /// Runs a test with an empty folder.
    static func withFolder(_ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/windlass-store-\(UUID.random().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body(folder)
    }

    /// A new profile.
    func profile(_ name: String = "profile") async throws -> DeviceProfile {
        try await self.store.saveDeviceProfile(DeviceProfile(name: name))
    }

    /// A new device.
    func device(_ name: String = "device", in profile: DeviceProfileId) async throws -> Device {
        try await self.store.saveDevice(Device(name: name, deviceProfileId: profile), accessToken: "token of \(name)")
    }

    /// A new package with bytes.
    func package(
        _ title: String = "fw",
        _ version: String = "1",
        type: OtaPackageType = .firmware,
        tag: String? = nil,
        in profile: DeviceProfileId?,
        bytes: [UInt8] = Array("the bytes".utf8)
    ) async throws -> OtaPackage {
        let package = try await self.store.saveOtaPackage(
            OtaPackage(deviceProfileId: profile, type: type, title: title, version: version, tag: tag)
        )
        return try await self.upload(bytes, to: package.id)
    }

    @discardableResult
    func upload(
        _ bytes: [UInt8],
        to id: OtaPackageId,
        algorithm: ChecksumAlgorithm = .sha256,
        checksum: String? = nil
    ) async throws -> OtaPackage {
        let upload = try await self.store.upload(to: id)
        try await upload.write(ByteBuffer(bytes: bytes))
        return try await upload.finish(
            fileName: "fw.bin",
            contentType: "application/octet-stream",
            algorithm: algorithm,
            checksum: checksum
        )
    }

    /// Assigns a package to a device of its own.
    @discardableResult
    func assign(_ package: OtaPackageId?, to device: DeviceId) async throws -> Device {
        var saved = try #require(try await self.store.findDeviceById(device))
        saved.firmwareId = package
        return try await self.store.saveDevice(saved, accessToken: nil)
    }

    /// Assigns a package to a profile.
    func assign(_ package: OtaPackageId?, to profile: DeviceProfileId) async throws {
        var saved = try #require(try await self.store.findDeviceProfileById(profile))
        saved.firmwareId = package
        _ = try await self.store.saveDeviceProfile(saved)
    }

    /// What a device's sessions are told from now on.
    func notifications(of device: DeviceId) -> Notifications {
        let notifications = Notifications()
        _ = self.sessions.subscribe(device.uuid) { notifications.append($0) }
        return notifications
    }

    /// The names in the folder with the bytes of packages.
    func packageFiles() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(self.directory)/packages").sorted()
    }

    /// The states in the history of a device's firmware, those that were not accepted in brackets.
    func history(of device: DeviceId, type: OtaPackageType = .firmware) async throws -> [String] {
        try await self.store.updateHistory(of: device, type: type).map { $0.accepted ? $0.state : "(\($0.state))" }
    }

    /// The newest values of all time series.
    func latest(_ device: DeviceId) async throws -> [String: JSON] {
        let entries = try await self.store.latestTimeseries(of: device, keys: nil)
        return Dictionary(uniqueKeysWithValues: entries.map { ($0.key, $0.value) })
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
            updateEvents: self.updateEventsAdded,
            massAssignments: self.massAssignments,
            sessions: self.sessions
        )
    }

    /// Tells a device of its package by two attributes.
    func initiate(_ package: OtaPackageId, of device: DeviceId, type: OtaPackageType) async throws -> Bool {
        try await self.initiate(
            package,
            of: device,
            type: type,
            attributes: ["fw_title": "fw", "fw_version": "1"],
            obsolete: [],
            at: Timestamp(milliseconds: 1)
        )
    }
}

/// A time of day that a test sets.
final class ManualTime: Sendable {
    private let time = Mutex(Timestamp(milliseconds: 1_700_000_000_000))

    /// Each look is a second later.
    var now: Timestamp {
        self.time.withLock { time in
            time.rawValue += 1000
            return time
        }
    }
}

/// What was told, in order.
final class Notifications: Sendable {
    private let told = Mutex<[DeviceNotification]>([])
    func append(_ notification: DeviceNotification) { self.told.withLock { $0.append(notification) } }
    var all: [DeviceNotification] { self.told.withLock { $0 } }
}

/// Expects an error with this sentence.
func expectRefusal(
    _ sentence: String,
    code: NodeError.Code = .badRequest,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Void
) async {
    do {
        try await body()
        Issue.record("nothing was thrown; expected: \(sentence)", sourceLocation: sourceLocation)
    } catch let error as NodeError {
        #expect(error.message == sentence, sourceLocation: sourceLocation)
        #expect(error.code == code, sourceLocation: sourceLocation)
    } catch {
        Issue.record("not a NodeError: \(error)", sourceLocation: sourceLocation)
    }
}

extension OtaPackage {
    /// The package as devices are served it, but for the bytes.
    var effective: EffectivePackage { EffectivePackage(package: self, content: nil) }
}
