import NIOCore

/// The deadlines of the connections of one event loop, looked at once a second.
///
/// A task for each connection would take more memory than the rest of an idle connection, and moving it with each packet more
/// time than reading the packet. Here a connection is one number in the slot of a second; when its time has come, it says
/// whether there is more to wait for.
final class DeadlineWheel {
    private let eventLoop: any EventLoop
    private let connections: Connections
    /// Connections by the second, of the event loop's time, in which to look at them.
    private var slots: [Int64: [UInt64]] = [:]
    private var isTicking = false

    init(_ eventLoop: any EventLoop, connections: Connections) {
        self.eventLoop = eventLoop
        self.connections = connections
    }

    /// Has ``ConnectionHandler/deadlineReached(now:)`` called less than a second after a deadline.
    func watch(_ connection: UInt64, until deadline: NIODeadline) {
        self.slots[Self.second(of: deadline, roundingUp: true), default: []].append(connection)
        guard !self.isTicking else { return }
        self.isTicking = true
        self.tick(after: Self.second(of: self.eventLoop.now, roundingUp: false))
    }

    private static func second(of time: NIODeadline, roundingUp: Bool) -> Int64 {
        let nanoseconds = Int64(clamping: time.uptimeNanoseconds)
        let (second, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        return roundingUp && rest > 0 ? second + 1 : second
    }

    private func tick(after last: Int64) {
        let next = NIODeadline.uptimeNanoseconds(UInt64(last + 1) * 1_000_000_000)
        self.eventLoop.assumeIsolated().scheduleTask(deadline: next) {
            let now = self.eventLoop.now
            let second = Self.second(of: now, roundingUp: false)
            // A loop that was busy may have missed some.
            for second in last + 1...max(second, last + 1) { self.look(at: second, now: now) }
            if self.slots.isEmpty { self.isTicking = false } else { self.tick(after: max(second, last + 1)) }
        }
    }

    private func look(at second: Int64, now: NIODeadline) {
        for id in self.slots.removeValue(forKey: second) ?? [] {
            guard let handle = self.connections.handle(id) else { continue }
            if let next = handle.connection.value.deadlineReached(now: now) { self.watch(id, until: next) }
        }
    }
}
