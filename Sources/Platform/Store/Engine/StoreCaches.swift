import FoundationEssentials
import NodeKit
import OTA
import Synchronization

/// A dictionary that forgets what was not used for long rather than grow beyond its limit.
///
/// It keeps a young and an old half. When the young half is full, the old one is dropped and the young one becomes old; what
/// is found in the old half becomes young again. So nothing is counted or linked, and no single call takes long.
struct BoundedCache<Key: Hashable, Value> {
    /// The most entries, at least 2.
    let limit: Int
    private var young: [Key: Value] = [:]
    private var old: [Key: Value] = [:]

    init(limit: Int) { self.limit = limit }

    /// How many entries there are.
    var count: Int { self.young.count + self.old.count }

    /// The value, which counts as used by this.
    mutating func value(forKey key: Key) -> Value? {
        if let value = self.young[key] { return value }
        guard let value = self.old.removeValue(forKey: key) else { return nil }
        self.insert(value, forKey: key)
        return value
    }

    /// Adds or replaces a value.
    mutating func insert(_ value: Value, forKey key: Key) {
        self.old[key] = nil
        if self.young[key] == nil, self.young.count >= max(1, self.limit / 2) {
            self.old = self.young
            self.young = [:]
        }
        self.young[key] = value
    }

    /// Removes a value.
    mutating func remove(_ key: Key) {
        self.young[key] = nil
        self.old[key] = nil
    }

    /// Removes all values.
    mutating func removeAll() {
        self.young = [:]
        self.old = [:]
    }
}

/// What is read for every request, kept in memory.
///
/// A writer forgets what it changed after its commit and before its caller goes on. A reader that began before that may have
/// read the old rows, so what it read is kept only if nothing was forgotten since: see ``version``.
final class StoreCaches: Sendable {
    /// The most credentials in memory.
    static let credentialsMax = 100_000
    /// The most pairs of device and package type in memory.
    static let effectivePackagesMax = 200_000
    /// The most packages in memory, each with one open file.
    static let openPackagesMax = 128
    /// The most API keys in memory.
    static let holdersMax = 1024

    /// A device and one of its two packages.
    struct DevicePackage: Hashable {
        var device: DeviceId
        var type: OtaPackageType
    }

    private struct State {
        var version: UInt64 = 0
        var credentials = BoundedCache<ExactText, KnownCredentials>(limit: StoreCaches.credentialsMax)
        var effective = BoundedCache<DevicePackage, Cached<OtaPackageId>>(limit: StoreCaches.effectivePackagesMax)
        var transports = BoundedCache<UUID, ProfileTransport>(limit: StoreCaches.credentialsMax)
        var packages = BoundedCache<OtaPackageId, EffectivePackage>(limit: StoreCaches.openPackagesMax)
        var holders = BoundedCache<[UInt8], ApiKeyHolder>(limit: StoreCaches.holdersMax)
    }

    private let state = Mutex(State())

    /// Grows whenever something is forgotten; read it before the database and pass it back with what was read.
    var version: UInt64 { self.state.withLock { $0.version } }

    func credentials(_ id: String) -> KnownCredentials? {
        self.state.withLock { $0.credentials.value(forKey: id.exact) }
    }

    func keep(_ credentials: KnownCredentials, as id: String, readAt version: UInt64) {
        self.state.withLock { state in
            if state.version == version { state.credentials.insert(credentials, forKey: id.exact) }
        }
    }

    /// The device with this access token and how it may connect, if both are known.
    func device(accessToken: String) -> (device: Originator, transport: ProfileTransport)? {
        self.state.withLock { state in
            guard let known = state.credentials.value(forKey: accessToken.exact), known.kind == .accessToken,
                let transport = state.transports.value(forKey: known.device.id)
            else { return nil }
            return (known.device, transport)
        }
    }

    /// How a device may connect.
    func transport(of device: UUID) -> ProfileTransport? {
        self.state.withLock { $0.transports.value(forKey: device) }
    }

    func keep(_ transport: ProfileTransport, for device: UUID, readAt version: UInt64) {
        self.state.withLock { state in
            if state.version == version { state.transports.insert(transport, forKey: device) }
        }
    }

    /// The identifier of the effective package.
    func effectivePackage(_ key: DevicePackage) -> Cached<OtaPackageId> {
        self.state.withLock { $0.effective.value(forKey: key) ?? .unknown }
    }

    func keep(_ package: OtaPackageId?, for key: DevicePackage, readAt version: UInt64) {
        self.state.withLock { state in
            if state.version == version { state.effective.insert(package.map(Cached.hit) ?? .absent, forKey: key) }
        }
    }

    func package(_ id: OtaPackageId) -> EffectivePackage? {
        self.state.withLock { $0.packages.value(forKey: id) }
    }

    /// The effective package.
    func package(effectiveFor key: DevicePackage) -> Cached<EffectivePackage> {
        self.state.withLock { state in
            switch state.effective.value(forKey: key) {
            case .hit(let id): Cached(state.packages.value(forKey: id))
            case .absent: .absent
            case .unknown, nil: .unknown
            }
        }
    }

    /// Keeps a package unless another reader already did; returns the one to use, so that one file is open once.
    func keep(_ package: EffectivePackage, readAt version: UInt64) -> EffectivePackage {
        self.state.withLock { state in
            guard state.version == version else { return package }
            if let known = state.packages.value(forKey: package.package.id) { return known }
            state.packages.insert(package, forKey: package.package.id)
            return package
        }
    }

    /// The API key whose value has this digest, with its user.
    func holder(_ digest: [UInt8]) -> ApiKeyHolder? { self.state.withLock { $0.holders.value(forKey: digest) } }

    func keep(_ holder: ApiKeyHolder, for digest: [UInt8], readAt version: UInt64) {
        self.state.withLock { state in
            if state.version == version { state.holders.insert(holder, forKey: digest) }
        }
    }

    func forget(_ effects: Effects) {
        guard
            effects.allHolders || effects.allCredentials || effects.allDevices || effects.allTransports
                || !effects.credentials.isEmpty
                || !effects.devices.isEmpty
                || !effects.packages.isEmpty
        else { return }
        self.state.withLock { state in
            state.version += 1
            if effects.allHolders { state.holders.removeAll() }
            if effects.allCredentials { state.credentials.removeAll() }
            for id in effects.credentials { state.credentials.remove(id.exact) }
            if effects.allDevices { state.effective.removeAll() }
            if effects.allTransports { state.transports.removeAll() }
            for device in effects.devices {
                state.transports.remove(device.uuid)
                for type in OtaPackageType.allCases {
                    state.effective.remove(DevicePackage(device: device, type: type))
                }
            }
            for id in effects.packages { state.packages.remove(id) }
        }
    }
}
