/// The log of what became of updates, for readers that follow it.
public protocol UpdateEventService: Sendable {
    /// What became of updates after an entry of the history, oldest first; reports that did not fit are left out.
    func updateEvents(after id: Int64, limit: Int) async throws -> [UpdateEvent]
    /// Up to which entry a reader has come; one that is new has come to the newest entry.
    func eventsRead(by reader: String) async throws -> Int64
    /// Notes up to which entry a reader has come.
    func setEventsRead(by reader: String, to id: Int64) async throws
    /// Waits until there may be an entry after this one, or the task is cancelled.
    func waitForUpdateEvents(after id: Int64) async throws
}
