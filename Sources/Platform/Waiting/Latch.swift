/// Opens once, from any thread, and lets all tasks pass from then on.
///
/// A ``OneShot`` without a value: tasks go on in the order in which they began to wait, and cancellation does not end a wait.
public final class Latch: Sendable {
    private let once = OneShot<Void>()

    /// Makes one that is closed.
    public init() {}

    /// Whether it is open.
    public var isOpen: Bool { self.once.current != nil }

    /// How many tasks wait.
    var waitingCount: Int { self.once.waitingCount }

    /// Lets those pass who wait, and all who come later.
    public func open() { self.once.finish(()) }

    /// Returns when it is open.
    public func opened() async { await self.once.value() }
}
