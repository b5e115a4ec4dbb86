import GRDB
import NodeKit
import OTA
import Synchronization

/// The row numbers of devices, which every write of a device needs, kept in memory.
///
/// For writes only, as one that was read may be gone: the writer carries them out one after the other and forgets devices that
/// were removed, and those of a transaction that was undone, before the next.
final class DeviceNumbers: Sendable {
    /// The most devices in memory.
    static let countMax = 100_000

    private let known = Mutex(BoundedCache<DeviceId, Int64>(limit: DeviceNumbers.countMax))

    /// The row number of a device.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/notFound`` if there is no such device.
    func number(of device: DeviceId, _ db: Database) throws -> Int64 {
        if let number = self.known.withLock({ $0.value(forKey: device) }) { return number }
        let number = try db.number(of: device)
        self.known.withLock { $0.insert(number, forKey: device) }
        return number
    }

    /// Looks for these devices anew.
    func forget(_ devices: [DeviceId]) {
        guard !devices.isEmpty else { return }
        self.known.withLock { known in
            for device in devices { known.remove(device) }
        }
    }

    /// Looks for all devices anew.
    func forgetAll() { self.known.withLock { $0.removeAll() } }
}
