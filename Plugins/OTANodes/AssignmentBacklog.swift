import FoundationEssentials
import NIOCore
import OTA

/// Assignments that were read and are not handed on yet, in an order that lets one device wait without the others.
///
/// Of each device at most one is under way.
struct AssignmentBacklog {
    private var waiting = CircularBuffer<Assignment>()
    /// For each device with an assignment under way those that came after it.
    private var behind: [UUID: CircularBuffer<Assignment>] = [:]
    /// How many assignments wait, those behind others of their device included.
    private(set) var count = 0

    /// Takes in assignments, those of one device in order.
    mutating func add(_ assignments: [Assignment]) {
        self.waiting.append(contentsOf: assignments)
        self.count += assignments.count
    }

    /// The next assignment of a device that has none under way; it is under way from now on.
    mutating func next() -> Assignment? {
        while let assignment = self.waiting.popFirst() {
            guard self.behind[assignment.device.id] == nil else {
                self.behind[assignment.device.id]?.append(assignment)
                continue
            }
            self.behind[assignment.device.id] = CircularBuffer()
            self.count -= 1
            return assignment
        }
        return nil
    }

    /// Notes that the one under way of this device is done.
    ///
    /// - Returns: The next of the same device, which is under way from now on, if there is one.
    mutating func finished(_ device: UUID) -> Assignment? {
        guard let next = self.behind[device]?.popFirst() else {
            self.behind[device] = nil
            return nil
        }
        self.count -= 1
        return next
    }
}
