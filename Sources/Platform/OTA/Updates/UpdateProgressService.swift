public import NodeKit

/// Stalled updates for the chain to act on, and changes of updates for it to forward.
public protocol UpdateProgressService: Sendable {
    /// Updates that are in a state and have not changed since a time, those that stalled first coming first.
    func stalledUpdates(in state: OtaUpdateState, since: Timestamp, limit: Int) async throws -> [StalledUpdate]
    /// The chain has handled a stalled update: its time starts over now, if it has not changed meanwhile.
    func toldStalled(_ update: StalledUpdate) async throws

    /// Ends an update as FAILED, unless it is over or has changed meanwhile.
    ///
    /// - Parameters:
    ///   - device: The device.
    ///   - type: Firmware or software.
    ///   - since: When it changed last, as far as the caller knows; `nil` to end it in any case.
    ///   - cause: `nil` if it is to count as the device's own failure.
    ///   - reason: A sentence for people.
    ///   - retryTime: When it is retried, if it is.
    /// - Returns: Whether it was ended.
    /// - Throws: ``NodeError`` with ``NodeError/Code/notFound`` if there is no such device, and what the store throws.
    func fail(
        _ device: DeviceId,
        _ type: OtaPackageType,
        ifUnmovedSince since: Timestamp?,
        cause: UpdateCause?,
        reason: String,
        retryAt retryTime: Timestamp?
    ) async throws -> Bool
    /// Notes that a FAILED update is to be retried at a time, unless the device or an administrator retries it earlier.
    ///
    /// - Returns: Whether it was FAILED, not cancelled, and its package still is the device's.
    func scheduleRetry(of device: DeviceId, _ type: OtaPackageType, at time: Timestamp) async throws -> Bool
    /// Retries the updates that are due.
    ///
    /// - Returns: How many updates were retried, and when the next one is due.
    func releaseRetries(until now: Timestamp, limit: Int) async throws -> (count: Int, next: Timestamp?)

    /// What became of updates after an entry of the history, oldest first; reports that did not fit are left out.
    func updateEvents(after id: Int64, limit: Int) async throws -> [UpdateEvent]
    /// Up to which entry a reader has come; one that is new has come to the newest entry.
    func eventsRead(by reader: String) async throws -> Int64
    /// Notes up to which entry a reader has come.
    func setEventsRead(by reader: String, to id: Int64) async throws
    /// Waits until there may be an entry after this one, or the task is cancelled.
    func waitForUpdateEvents(after id: Int64) async throws

    /// The packages of which a device has not been notified because no session took the push.
    func missedPushes(of device: DeviceId) async throws -> [Assignment]
    /// Notes that a device learned of a package whose push it missed, unless it should have another one by now.
    func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws
}
