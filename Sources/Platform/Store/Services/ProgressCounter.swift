import NodeKit
import OTA
import Synchronization

/// Counts the bytes served to devices until they are stored.
///
/// What a transaction is to store is looked at and not taken away, as the transaction may be undone: only after its commit it is
/// forgotten. To store bytes twice does no harm.
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
        /// When the bytes were served, for those of a process that ended early: they do not count for a later assignment.
        var time: Timestamp?
        /// Which look at the counts this comes from.
        fileprivate var look: UInt64 = 0
    }

    /// What a transaction stored, to be forgotten after its commit.
    struct Stored: Sendable {
        fileprivate var counts: [(key: Key, look: UInt64)] = []
        /// The half of the journal whose entries all are in the database now.
        fileprivate var journalHalves: [Int] = []

        /// Whether nothing is to be forgotten.
        var isEmpty: Bool { self.counts.isEmpty && self.journalHalves.isEmpty }

        /// Adds what a later write of the transaction stored.
        mutating func add(_ later: Stored) {
            self.counts += later.counts
            self.journalHalves += later.journalHalves
        }
    }

    fileprivate struct Key: Hashable {
        var device: DeviceId
        var type: OtaPackageType
        var package: OtaPackageId
    }

    private struct DeviceType: Hashable {
        var device: DeviceId
        var type: OtaPackageType
    }

    /// A count that may grow.
    private struct Growing {
        var size: Int64
        /// What was served since the last look.
        var fresh: ServedRanges
        /// What was seen by a look and is not known to be committed.
        var seen = ServedRanges()
        var look: UInt64 = 0
        /// Where the journal has the range that was served last, and that range.
        var place: ServedJournal.Place?
        var run: Range<Int64>
    }

    private struct State {
        var counts: [Key: Growing] = [:]
        /// The packages that each device was given, of those that are counted; the last one at the end.
        var given: [DeviceType: [OtaPackageId]] = [:]
        /// Whose last byte was served since the last interval began.
        var finished: Set<DeviceType> = []
        var look: UInt64 = 0
    }

    private let state = Mutex(State())
    /// Used under the lock of the state; `nil` if the file cannot be had, and then what is not stored yet is lost with the process.
    private let journal: ServedJournal?
    private let now: @Sendable () -> Timestamp

    init(journal: ServedJournal? = nil, now: @escaping @Sendable () -> Timestamp = { Timestamp(milliseconds: 0) }) {
        self.journal = journal
        self.now = now
    }

    /// Counts bytes.
    ///
    /// - Returns: Whether the last byte was served, at most once in an interval: a device may fetch it again and again, and
    ///   what is stored at once costs a commit.
    func served(_ range: Range<Int64>, of effective: EffectivePackage, to device: DeviceId) -> Bool {
        guard let size = effective.package.dataSize, size > 0, range.lowerBound >= 0 else { return false }
        let range = range.clamped(to: 0..<size)
        guard !range.isEmpty else { return false }
        let key = Key(device: device, type: effective.package.type, package: effective.package.id)
        return self.state.withLock { state in
            guard self.count(range, as: key, size: size, &state) else { return false }
            guard range.upperBound == size, state.finished.count < Self.countedMax else { return false }
            return state.finished.insert(DeviceType(device: device, type: key.type)).inserted
        }
    }

    /// - Returns: Whether any byte was new since the last look.
    private func count(_ range: Range<Int64>, as key: Key, size: Int64, _ state: inout State) -> Bool {
        // Changed in place, as each chunk comes here.
        guard let index = state.counts.index(forKey: key) else {
            guard state.counts.count < Self.countedMax else { return false }
            var fresh = ServedRanges()
            fresh.insert(range)
            state.counts[key] = Growing(size: size, fresh: fresh, place: self.note(range, of: key), run: range)
            Self.give(key, &state)
            return true
        }
        guard state.counts.values[index].fresh.insert(range) else { return false }
        let run = state.counts.values[index].run
        let goesOn = run.lowerBound <= range.lowerBound && range.lowerBound <= run.upperBound
        if goesOn, let place = state.counts.values[index].place,
            self.journal?.extend(place, to: max(run.upperBound, range.upperBound)) == true
        {
            state.counts.values[index].run = run.lowerBound..<max(run.upperBound, range.upperBound)
        } else {
            state.counts.values[index].place = self.note(range, of: key)
            state.counts.values[index].run = range
        }
        Self.give(key, &state)
        return true
    }

    private static func give(_ key: Key, _ state: inout State) {
        let device = DeviceType(device: key.device, type: key.type)
        guard state.given[device]?.last != key.package else { return }
        state.given[device, default: []].removeAll { $0 == key.package }
        state.given[device, default: []].append(key.package)
    }

    private func note(_ range: Range<Int64>, of key: Key) -> ServedJournal.Place? {
        self.journal?.append(
            ServedJournal.Entry(
                device: key.device,
                type: key.type,
                package: key.package,
                range: range,
                time: self.now()
            )
        )
    }

    /// The package whose bytes a device was given last, if no transaction has seen that yet.
    func package(givenTo device: DeviceId, _ type: OtaPackageType) -> OtaPackageId? {
        self.state.withLock { state in
            // Nearly all devices have none.
            guard let package = state.given[DeviceType(device: device, type: type)]?.last,
                state.counts[Key(device: device, type: type, package: package)]?.fresh.ranges.isEmpty == false
            else { return nil }
            return package
        }
    }

    /// The counts of one device that no transaction has seen yet, the package that it was given last at the end.
    func counts(of device: DeviceId, _ type: OtaPackageType) -> [Count] {
        self.state.withLock { state in
            // Nearly all devices have none.
            guard let given = state.given[DeviceType(device: device, type: type)] else { return [] }
            let keys = given.map { Key(device: device, type: type, package: $0) }
            return Self.look(at: keys.filter { state.counts[$0]?.fresh.ranges.isEmpty == false }, &state)
        }
    }

    /// All counts, and the half of the journal that has nothing else.
    func all() -> (counts: [Count], journal: Int?) {
        self.state.withLock { state in (Self.look(at: Array(state.counts.keys), &state), self.journal?.turn()) }
    }

    private static func look(at keys: [Key], _ state: inout State) -> [Count] {
        state.look += 1
        return keys.compactMap { key in
            guard var growing = state.counts[key] else { return nil }
            growing.seen.formUnion(growing.fresh)
            growing.fresh = ServedRanges()
            growing.look = state.look
            state.counts[key] = growing
            return Count(
                device: key.device,
                type: key.type,
                package: key.package,
                size: growing.size,
                ranges: growing.seen,
                look: state.look
            )
        }
    }

    /// What is to be forgotten when counts are committed.
    func stored(_ counts: [Count], journal half: Int? = nil) -> Stored {
        Stored(
            counts: counts.map { (Key(device: $0.device, type: $0.type, package: $0.package), $0.look) },
            journalHalves: half.map { [$0] } ?? []
        )
    }

    /// Forgets what is committed, unless it was looked at again for another transaction.
    func forget(_ stored: Stored) {
        guard !stored.isEmpty else { return }
        self.state.withLock { state in
            for (key, look) in stored.counts where state.counts[key]?.look == look {
                state.counts[key]?.seen = ServedRanges()
                guard state.counts[key]?.fresh.ranges.isEmpty == true else { continue }
                state.counts[key] = nil
                let device = DeviceType(device: key.device, type: key.type)
                state.given[device]?.removeAll { $0 == key.package }
                if state.given[device]?.isEmpty == true { state.given[device] = nil }
            }
            for half in stored.journalHalves { self.journal?.empty(half) }
        }
    }

    /// What transactions saw is not in the database, as they were undone: all of it is to be seen again.
    func undone() {
        self.state.withLock { state in
            for (key, growing) in state.counts where !growing.seen.ranges.isEmpty {
                state.counts[key]?.fresh.formUnion(growing.seen)
                state.counts[key]?.seen = ServedRanges()
            }
        }
    }

    /// What a process that ended early had counted and not stored.
    func recovered() -> (counts: [Count], stored: Stored) {
        self.state.withLock { _ in
            let counts = (self.journal?.entries ?? []).map { entry in
                var ranges = ServedRanges()
                ranges.insert(entry.range)
                return Count(
                    device: entry.device,
                    type: entry.type,
                    package: entry.package,
                    size: nil,
                    ranges: ranges,
                    time: entry.time
                )
            }
            return (counts, Stored(journalHalves: [0, 1]))
        }
    }

    /// Begins an interval.
    ///
    /// - Returns: Whether there is anything to store, or noted in the journal.
    func beginInterval() -> Bool {
        self.state.withLock { state in
            state.finished.removeAll()
            return !state.counts.isEmpty || self.journal?.isEmpty == false
        }
    }
}
