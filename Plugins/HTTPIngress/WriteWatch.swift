import NIOCore

/// Tells a client that reads slowly from one that does not read: by how many bytes wait for it.
struct WriteWatch: Hashable {
    private var waiting = 0
    private var deadline = NIODeadline.distantFuture

    /// Begins to watch, with so many bytes waiting.
    ///
    /// - Parameters:
    ///   - waiting: How many bytes wait for the client.
    ///   - now: The present time.
    ///   - timeout: How long none of them may be taken.
    /// - Returns: When to look again.
    mutating func begin(waiting: Int, at now: NIODeadline, timeout: TimeAmount) -> NIODeadline {
        self.waiting = waiting
        self.deadline = now + timeout
        return self.deadline
    }

    /// Looks again: another number than before means that the client reads, and that the time begins anew.
    ///
    /// - Parameters:
    ///   - waiting: How many bytes wait for the client.
    ///   - now: The present time.
    ///   - timeout: How long none of them may be taken.
    /// - Returns: When to look again; `nil` if the time is up.
    mutating func check(waiting: Int, at now: NIODeadline, timeout: TimeAmount) -> NIODeadline? {
        if waiting != self.waiting { return self.begin(waiting: waiting, at: now, timeout: timeout) }
        return now < self.deadline ? self.deadline : nil
    }
}
