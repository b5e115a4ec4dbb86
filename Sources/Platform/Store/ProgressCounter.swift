import NodeKit
import OTA
import Synchronization

/// Counts the bytes served to devices until they are stored.
final class ProgressCounter: Sendable {
    /// The most devices and types counted at a time; more are not counted until the next time they are stored.
    static let countedMax = 100_000

    /// What was counted for one device and package type.
    struct Count: Sendable {
        var device: DeviceId
        var type: OtaPackageType
        var package: OtaPackageId
        /// Percent of the package up to the furthest byte served, 0…100.
        var percent: Int
    }

    private struct Key: Hashable {
        var device: DeviceId
        var type: OtaPackageType
    }

    private let counts = Mutex<[Key: Count]>([:])

    /// Counts bytes.
    ///
    /// Only the furthest byte matters, as devices fetch in order and may fetch a chunk twice.
    ///
    /// - Returns: Whether the last byte was served for the first time.
    func served(_ range: Range<Int64>, of package: OtaPackage, to device: DeviceId) -> Bool {
        guard let size = package.dataSize, size > 0, !range.isEmpty, range.upperBound >= 0 else { return false }
        // A package is far smaller than the 90 petabytes at which this would overflow.
        let percent = Int(min(range.upperBound, size).multipliedReportingOverflow(by: 100).partialValue / size)
        let key = Key(device: device, type: package.type)
        return self.counts.withLock { counts in
            var count: Count
            if let known = counts[key], known.package == package.id {
                guard percent > known.percent else { return false }
                count = known
            } else {
                guard counts.count < Self.countedMax else { return false }
                count = Count(device: device, type: package.type, package: package.id, percent: 0)
            }
            count.percent = percent
            counts[key] = count
            return percent == 100
        }
    }

    /// Forgets what was counted, as the device begins anew.
    func forget(_ device: DeviceId, _ type: OtaPackageType) {
        self.counts.withLock { $0[Key(device: device, type: type)] = nil }
    }

    /// Takes all counts away.
    func drain() -> [Count] {
        self.counts.withLock { counts in
            defer { counts = [:] }
            return Array(counts.values)
        }
    }

    /// Whether nothing was counted.
    var isEmpty: Bool { self.counts.withLock { $0.isEmpty } }
}
