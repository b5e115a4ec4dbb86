import NodeKit
import Synchronization

/// How many messages a queue holds, kept beside it: to count the rows for every message would cost more than the message.
final class WaitingCount: Sendable {
    private let queue: any MessageQueue
    private let count = Mutex<Int?>(nil)

    init(of queue: any MessageQueue) { self.queue = queue }

    /// Takes a place for one more message.
    ///
    /// - Returns: Whether there was one.
    func take(of max: Int) async throws -> Bool {
        try await self.load()
        return self.count.withLock { count in
            guard let present = count, present < max else { return false }
            count = present + 1
            return true
        }
    }

    /// Gives places back.
    func give(_ places: Int) async throws {
        try await self.load()
        self.count.withLock { count in
            if let present = count { count = max(0, present - places) }
        }
    }

    /// Asks the queue, once.
    ///
    /// Nobody appends or removes before the first answer is noted, so a later answer is ignored.
    private func load() async throws {
        guard self.count.withLock({ $0 == nil }) else { return }
        let present = try await self.queue.count()
        self.count.withLock { if $0 == nil { $0 = present } }
    }
}
