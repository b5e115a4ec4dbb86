/// The log of what became of updates, for readers that follow it and go on after a restart where they were.
///
/// Which entries a reader has read is for the store to remember and not to be told by their identifiers: one with a smaller identifier may
/// become visible later. The entries of one device become visible in order.
public protocol UpdateEventService: Sendable {
    /// Makes a reader known; one that is new reads what happens from now on.
    func addReader(_ reader: String) async throws
    /// What became of updates and the reader has not read, oldest first, at most `limit`; reports that did not fit are left out.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/notFound`` if the reader is not known.
    func updateEvents(unreadBy reader: String, limit: Int) async throws -> [UpdateEvent]
    /// Notes that a reader is done with all that ``updateEvents(unreadBy:limit:)`` returned to it last.
    func noteRead(_ events: [UpdateEvent], by reader: String) async throws
    /// Waits until entries may have become visible, or the task is cancelled.
    ///
    /// - Parameter mark: What this returned before the entries were read last; `nil` to return at once.
    /// - Returns: What to pass the next time.
    /// - Throws: ``NodeError`` if the store cannot be read.
    func waitForUpdateEvents(since mark: UInt64?) async throws -> UInt64
}
