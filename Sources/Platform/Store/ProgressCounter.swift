import NodeKit
import OTA
import Synchronization

/// Counts the bytes served to devices until they are stored.
final class ProgressCounter: Sendable {
    /// The most devices and types counted at a time; more are not counted until the next time they are stored.
    static let countedMax = 100_000

    /// What was counted for one device and package.
    struct Count: Sendable {
        var device: DeviceId
        var type: OtaPackageType
        var package: OtaPackageId
        /// The package's size in bytes; `nil` if it is not known and has to be looked up.
        var size: Int64?
        var ranges: ServedRanges
    }

    private struct Key: Hashable {
        var device: DeviceId
        var type: OtaPackageType
    }

    /// A count that may grow.
    private struct Growing {
        var count: Count
        /// Where the journal has the range that was served last, and that range.
        var place: ServedJournal.Place?
        var run: Range<Int64>
    }

    private struct State {
        var counts: [Key: Growing] = [:]
        /// Counts of devices that went on with another package.
        var replaced: [Count] = []
        /// Whose last byte was reported since the last interval began.
        var finished: Set<Key> = []
    }

    private let state = Mutex(State())
    /// Used under the lock of the state; `nil` if the file cannot be had, and then what is not stored yet is lost with the process.
    private let journal: ServedJournal?

    init(journal: ServedJournal? = nil) { self.journal = journal }

    /// Counts bytes.
    ///
    /// - Returns: Whether the last byte was served, at most once in an interval: a device may fetch it again and again, and
    ///   what is stored at once costs a commit.
    func served(_ range: Range<Int64>, of effective: EffectivePackage, to device: DeviceId) -> Bool {
        guard let size = effective.package.dataSize, size > 0, range.lowerBound >= 0 else { return false }
        let range = range.clamped(to: 0..<size)
        guard !range.isEmpty else { return false }
        let key = Key(device: device, type: effective.package.type)
        return self.state.withLock { state in
            guard self.count(range, as: key, of: effective.package.id, size: size, &state) else { return false }
            guard range.upperBound == size, state.finished.count < Self.countedMax else { return false }
            return state.finished.insert(key).inserted
        }
    }

    /// - Returns: Whether any byte was new in this interval.
    private func count(
        _ range: Range<Int64>,
        as key: Key,
        of package: OtaPackageId,
        size: Int64,
        _ state: inout State
    ) -> Bool {
        if state.counts[key]?.count.package == package {
            return self.add(range, to: &state.counts[key])
        }
        guard state.counts.count + state.replaced.count < Self.countedMax else { return false }
        if let old = state.counts.removeValue(forKey: key) { state.replaced.append(old.count) }
        var count = Count(device: key.device, type: key.type, package: package, size: size, ranges: ServedRanges())
        count.ranges.insert(range)
        state.counts[key] = Growing(count: count, place: self.note(range, of: count), run: range)
        return true
    }

    private func add(_ range: Range<Int64>, to growing: inout Growing?) -> Bool {
        guard var changed = growing.take() else { return false }
        defer { growing = changed }
        guard changed.count.ranges.insert(range) else { return false }
        let goesOn = changed.run.lowerBound <= range.lowerBound && range.lowerBound <= changed.run.upperBound
        if goesOn, let place = changed.place, self.journal?.extend(place, to: range.upperBound) == true {
            changed.run = changed.run.lowerBound..<max(changed.run.upperBound, range.upperBound)
        } else {
            changed.place = self.note(range, of: changed.count)
            changed.run = range
        }
        return true
    }

    private func note(_ range: Range<Int64>, of count: Count) -> ServedJournal.Place? {
        self.journal?.append(
            ServedJournal.Entry(device: count.device, type: count.type, package: count.package, range: range)
        )
    }

    /// The package whose bytes a device was given last, if that is not stored yet.
    func package(givenTo device: DeviceId, _ type: OtaPackageType) -> OtaPackageId? {
        self.state.withLock { $0.counts[Key(device: device, type: type)]?.count.package }
    }

    /// Takes the counts of one device away.
    func take(_ device: DeviceId, _ type: OtaPackageType) -> [Count] {
        let key = Key(device: device, type: type)
        return self.state.withLock { state in
            guard let last = state.counts.removeValue(forKey: key)?.count else { return [] }
            state.finished.remove(key)
            let earlier = state.replaced.filter { $0.device == device && $0.type == type }
            if !earlier.isEmpty { state.replaced.removeAll { $0.device == device && $0.type == type } }
            return earlier + [last]
        }
    }

    /// Takes all counts away.
    ///
    /// - Returns: The counts, and what of the journal is to be emptied once they are committed.
    func drain() -> (counts: [Count], journal: Int?) {
        self.state.withLock { state in
            defer {
                state.counts = [:]
                state.replaced = []
            }
            return (state.replaced + state.counts.values.map(\.count), self.journal?.turn())
        }
    }

    /// Empties what ``drain()`` named.
    func committed(_ half: Int) { self.state.withLock { _ in self.journal?.empty(half) } }

    /// What a process that ended early had counted and not stored, and the halves of the journal that have it.
    func recovered() -> (counts: [Count], journal: [Int]) {
        self.state.withLock { _ in
            let counts = (self.journal?.entries ?? []).map { entry in
                var ranges = ServedRanges()
                ranges.insert(entry.range)
                return Count(device: entry.device, type: entry.type, package: entry.package, size: nil, ranges: ranges)
            }
            return (counts, [0, 1])
        }
    }

    /// Begins an interval.
    ///
    /// - Returns: Whether anything was counted in the one before that is not stored.
    func beginInterval() -> Bool {
        self.state.withLock { state in
            state.finished.removeAll()
            return !state.counts.isEmpty || !state.replaced.isEmpty
        }
    }
}
