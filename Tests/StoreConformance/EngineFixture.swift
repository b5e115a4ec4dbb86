import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import Synchronization
import Testing

/// An engine that is open for one test, in a folder that goes with it.
final class EngineFixture: Sendable {
    let engine: EngineUnderTest
    let sessions = DeviceSessions()
    let clock = SteppingTime()
    private let folder: String
    private let opened: Mutex<any EngineServices>

    /// The engine with all its services.
    var store: any EngineServices { self.opened.withLock { $0 } }

    private init(_ engine: EngineUnderTest, _ folder: String) async throws {
        self.engine = engine
        self.folder = folder
        self.opened = Mutex(try await engine.open(folder, self.sessions, self.clock.look))
    }

    /// Runs a test with a fresh engine, whose data must be in order when the test is done with it.
    static func with(_ engine: EngineUnderTest, _ body: (EngineFixture) async throws -> Void) async throws {
        try await Self.withFolder { folder in
            let fixture = try await EngineFixture(engine, folder)
            do {
                try await body(fixture)
                #expect(try await engine.check(fixture.store) == [])
            } catch {
                await fixture.store.close()
                throw error
            }
            await fixture.store.close()
        }
    }

    /// Runs a test with an empty folder.
    static func withFolder(_ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/windlass-engine-\(UUID.random().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body(folder)
    }

    /// Closes the engine and opens it again.
    func reopen() async throws {
        await self.store.close()
        let store = try await self.engine.open(self.folder, self.sessions, self.clock.look)
        self.opened.withLock { $0 = store }
    }

    /// Runs the engine's own work until the body is done.
    func running<Value>(_ body: () async throws -> Value) async throws -> Value {
        let store = self.store
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await store.run() }
            let value = try await body()
            group.cancelAll()
            return value
        }
    }

    /// A new profile.
    func profile(_ name: String = "profile") async throws -> DeviceProfile {
        try await self.store.saveDeviceProfile(DeviceProfile(name: name))
    }

    /// A new device.
    func device(_ name: String = "device", in profile: DeviceProfileId) async throws -> Device {
        try await self.store.saveDevice(Device(name: name, deviceProfileId: profile), accessToken: "token of \(name)")
    }

    /// New devices, all made at the same time.
    func devices(_ count: Int, in profile: DeviceProfileId) async throws -> [Device] {
        try await withThrowingTaskGroup(of: Device.self) { group in
            for number in 0..<count { group.addTask { try await self.device("d\(number)", in: profile) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
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
        let upload = try await self.store.upload(to: package.id)
        try await upload.write(ByteBuffer(bytes: bytes))
        return try await upload.finish(
            fileName: "fw.bin",
            contentType: "application/octet-stream",
            algorithm: .sha256,
            checksum: nil
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
    func notifications(of device: DeviceId) -> NotificationLog {
        let log = NotificationLog()
        _ = self.sessions.subscribe(device.uuid) { log.append($0) }
        return log
    }

    /// The states in the history of a device's updates, those that were not accepted in brackets.
    func history(of device: DeviceId, type: OtaPackageType = .firmware) async throws -> [String] {
        try await self.store.updateHistory(of: device, type: type).map { $0.accepted ? $0.state : "(\($0.state))" }
    }

    /// The newest values of all time series.
    func latest(_ device: DeviceId) async throws -> [String: JSON] {
        let entries = try await self.store.latestTimeseries(of: device, keys: nil)
        return Dictionary(uniqueKeysWithValues: entries.map { ($0.key, $0.value) })
    }
}

/// A time of day that goes on by a second with each look.
final class SteppingTime: Sendable {
    private let time = Mutex(Timestamp(milliseconds: 1_700_000_000_000))

    var now: Timestamp {
        self.time.withLock { time in
            time.rawValue += 1000
            return time
        }
    }

    var look: @Sendable () -> Timestamp { { self.now } }
}

/// What sessions were told, in order.
final class NotificationLog: Sendable {
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
    let error = await #expect(throws: NodeError.self, sourceLocation: sourceLocation) { try await body() }
    #expect(error?.message == sentence, sourceLocation: sourceLocation)
    #expect(error?.code == code, sourceLocation: sourceLocation)
}

extension OtaPackage {
    /// The package as devices are served it, but for the bytes.
    var effective: EffectivePackage { EffectivePackage(package: self, content: nil) }
}

extension Device {
    /// The package of a type of the device's own.
    subscript(type: OtaPackageType) -> OtaPackageId? {
        get { self.packageId(of: type) }
        set { if type == .firmware { self.firmwareId = newValue } else { self.softwareId = newValue } }
    }
}

extension UpdateService {
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
