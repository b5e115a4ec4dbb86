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

    private struct State {
        var counts: [Key: Count] = [:]
        /// Whose last byte was told of since the last interval began.
        var finished: Set<Key> = []
    }

    private let state = Mutex(State())

    /// Counts bytes.
    ///
    /// Only the furthest byte matters, as devices fetch in order and may fetch a chunk twice.
    ///
    /// - Returns: Whether the last byte was served, at most once in an interval: a device may fetch it again and again, and
    ///   what is stored at once costs a commit.
    func served(_ range: Range<Int64>, of effective: EffectivePackage, to device: DeviceId) -> Bool {
        guard let size = effective.package.dataSize, size > 0, !range.isEmpty, range.upperBound >= 0 else {
            return false
        }
        // A package is far smaller than the 90 petabytes at which this would overflow.
        let percent = Int(min(range.upperBound, size).multipliedReportingOverflow(by: 100).partialValue / size)
        let key = Key(device: device, type: effective.package.type)
        return self.state.withLock { state in
            var count: Count
            if let known = state.counts[key], known.package == effective.package.id {
                guard percent > known.percent else { return false }
                count = known
            } else {
                guard state.counts.count < Self.countedMax else { return false }
                count = Count(device: device, type: effective.package.type, package: effective.package.id, percent: 0)
            }
            count.percent = percent
            state.counts[key] = count
            guard percent == 100, state.finished.count < Self.countedMax else { return false }
            return state.finished.insert(key).inserted
        }
    }

    /// Forgets what was counted, as the device begins anew.
    func forget(_ device: DeviceId, _ type: OtaPackageType) {
        let key = Key(device: device, type: type)
        self.state.withLock { state in
            state.counts[key] = nil
            state.finished.remove(key)
        }
    }

    /// Takes all counts away.
    func drain() -> [Count] {
        self.state.withLock { state in
            defer { state.counts = [:] }
            return Array(state.counts.values)
        }
    }

    /// Begins an interval.
    ///
    /// - Returns: Whether anything was counted in the one before that is not stored.
    func beginInterval() -> Bool {
        self.state.withLock { state in
            state.finished.removeAll()
            return !state.counts.isEmpty
        }
    }
}
