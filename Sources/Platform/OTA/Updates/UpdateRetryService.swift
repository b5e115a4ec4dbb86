public import NodeKit

/// Ends updates as FAILED, and retries those that failed.
public protocol UpdateRetryService: Sendable {
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
}
