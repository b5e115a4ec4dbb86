import Waiting

/// Holds all who come to it until a test opens it, and tells the test how many have come.
public final class Gate: Sendable {
    private let latch = Latch()
    private let arrivals = Signal()

    /// Makes one that is closed.
    public init() {}

    /// Returns when the gate is open.
    public func pass() async {
        self.arrivals.raise()
        await self.latch.opened()
    }

    /// Returns when as many as `count` have come to the gate, or when the task is cancelled.
    public func arrived(_ count: UInt64 = 1) async {
        var seen = self.arrivals.count
        while seen < count, !Task.isCancelled {
            await self.arrivals.wait(since: seen)
            seen = self.arrivals.count
        }
    }

    /// Lets those pass who are held, and all who come later.
    public func open() { self.latch.open() }
}
