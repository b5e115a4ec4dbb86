import FoundationEssentials
import NodeKit
import Synchronization

/// The devices that are active, and when each was heard of.
///
/// Every message of a device passes it, so it is split into parts with a lock each, held for one look-up.
final class ActivityTable: Sendable {
    /// What is known of an active device.
    struct Entry: Sendable {
        var device: Originator
        /// When it was last heard of.
        var lastActivity: Timestamp
        /// The last of these times that was told.
        var toldActivity: Timestamp
        /// When it was told.
        var toldTime: Timestamp
        /// Whether it was told, or was known before the host started, that the device is active.
        var isTold: Bool
    }

    /// What is due to be told.
    struct Due: Sendable {
        /// Devices that became active.
        var active: [Entry] = []
        /// Devices that became inactive; they are not in the table any more.
        var inactive: [Entry] = []
        /// Devices that are active as before, but were heard of since it was last told when.
        var seen: [Entry] = []
    }

    private static let partsCount = 64

    private final class Part: Sendable {
        let entries = Mutex<[UUID: Entry]>([:])
    }

    private let parts = (0..<ActivityTable.partsCount).map { _ in Part() }
    private let partCountMax: Int

    /// Makes an empty table for about so many devices: each part takes its share, rounded up.
    init(countMax: Int) {
        self.partCountMax = (countMax + Self.partsCount - 1) / Self.partsCount
    }

    /// How many devices are active.
    var count: Int { self.parts.reduce(0) { $0 + $1.entries.withLock(\.count) } }

    private func part(_ device: UUID) -> Part {
        // The last byte is random in every version of UUID, or part of the node's address, which differs just as well.
        self.parts[Int(device.uuid.15) % Self.partsCount]
    }

    /// What hearing of a device came to.
    enum Hearing: Sendable {
        /// It was active already.
        case known
        /// It is active from now on.
        case new
        /// It is not, as there is no room for it.
        case full
    }

    /// Notes that a device was heard of.
    func heard(of device: Originator, at time: Timestamp) -> Hearing {
        self.part(device.id).entries.withLock { entries in
            // In place: to take an entry out and put it back would copy its texts.
            if let index = entries.index(forKey: device.id) {
                let last = entries.values[index].lastActivity
                if last < time || last.believed(at: time) != last { entries.values[index].lastActivity = time }
                return .known
            }
            guard entries.count < self.partCountMax else { return .full }
            entries[device.id] = Entry(
                device: device,
                lastActivity: time,
                toldActivity: time,
                toldTime: time,
                isTold: false
            )
            return .new
        }
    }

    /// Notes that a device was active when the host started, as it has not been told otherwise.
    func restore(_ device: Originator, at time: Timestamp) {
        self.part(device.id).entries.withLock { entries in
            if entries[device.id] != nil {
                entries[device.id]?.isTold = true
            } else if entries.count < self.partCountMax {
                entries[device.id] = Entry(
                    device: device,
                    lastActivity: time,
                    toldActivity: time,
                    toldTime: time,
                    isTold: true
                )
            }
        }
    }

    /// Takes out what is due; what could not be told is to be given back.
    ///
    /// - Parameters:
    ///   - time: The time of day.
    ///   - timeout: After how much silence a device is inactive.
    ///   - interval: How often to tell when an active device was heard of; `nil` for never.
    /// - Returns: What is due, as it was before it was taken out.
    func takeDue(at time: Timestamp, timeout: Duration, interval: Duration?) -> Due {
        var due = Due()
        for part in self.parts {
            part.entries.withLock { entries in
                for (id, var entry) in entries {
                    if entry.bringBack(to: time) { entries[id] = entry }
                    if !entry.isTold {
                        entries[id]?.markTold(at: time)
                        due.active.append(entry)
                    } else if entry.lastActivity.duration(to: time) >= timeout {
                        entries[id] = nil
                        due.inactive.append(entry)
                    } else if let interval, entry.lastActivity > entry.toldActivity,
                        entry.toldTime.duration(to: time) >= interval
                    {
                        entries[id]?.markTold(at: time)
                        due.seen.append(entry)
                    }
                }
            }
        }
        return due
    }

    /// The device could not be told about now: it is due again.
    func giveBack(_ entry: Entry) {
        self.part(entry.device.id).entries.withLock { entries in
            guard var newer = entries[entry.device.id] else {
                // Room was made for it a moment ago; a device that took it meanwhile may stay.
                entries[entry.device.id] = entry
                return
            }
            newer.isTold = entry.isTold
            newer.toldActivity = entry.toldActivity
            newer.toldTime = entry.toldTime
            entries[entry.device.id] = newer
        }
    }

    /// Forgets a device that is gone.
    func forget(_ device: UUID) { self.part(device).entries.withLock { $0[device] = nil } }
}

extension ActivityTable.Entry {
    /// Lets times that lie in the future, as the clock was ahead, count as now.
    ///
    /// - Returns: Whether there were any.
    fileprivate mutating func bringBack(to now: Timestamp) -> Bool {
        let times = (self.lastActivity, self.toldTime)
        self.lastActivity = self.lastActivity.believed(at: now)
        self.toldActivity = self.toldActivity.believed(at: now)
        self.toldTime = self.toldTime.believed(at: now)
        return times != (self.lastActivity, self.toldTime)
    }

    fileprivate mutating func markTold(at time: Timestamp) {
        self.isTold = true
        self.toldActivity = self.lastActivity
        self.toldTime = time
    }
}

/// Whether the table was ever full, which is worth one line in the log.
final class Fullness: Sendable {
    private let isNoted = Atomic(false)

    /// Whether this is the first call.
    func isFirst() -> Bool { !self.isNoted.exchange(true, ordering: .relaxed) }
}
