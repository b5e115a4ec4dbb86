public import NodeKit

/// Update records, their history, and assignments that devices are to be told of.
public protocol UpdateService: Sendable {
    /// The update record of a device, if there ever was an update.
    func updateRecord(of device: DeviceId, type: OtaPackageType) async throws -> UpdateRecord?
    /// The history of a device's updates of a type, oldest first.
    func updateHistory(of device: DeviceId, type: OtaPackageType) async throws -> [UpdateHistoryEntry]

    /// Records what a device told; returns when it is stored. Progress without a state changes only the record.
    func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult
    /// Stores why a failed update failed.
    func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws
    /// Tells the device of its package, in one step: QUEUED becomes INITIATED, with the telemetry `fw_state`; shared attributes
    /// that are obsolete are removed, and those of the package are written. Its sessions are told of both, in this order,
    /// once that is stored. An update already further on stays in its state.
    ///
    /// - Parameters:
    ///   - packageId: The package.
    ///   - device: The device.
    ///   - type: Which of its packages.
    ///   - attributes: The shared attributes that tell of the package.
    ///   - obsolete: The names of others that an earlier package may have left.
    ///   - time: When the attributes change.
    /// - Returns: `false` if the package is not the effective one any more, or its update was cancelled or timed out, in which
    ///   case nothing was written.
    /// - Throws: ``NodeError`` if it could not be stored; nothing was written then, either.
    func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        at time: Timestamp
    ) async throws -> Bool
    /// Counts bytes served to a device, for its progress. Cheap; what was counted is stored now and then.
    func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId)

    /// The assignments that are not settled, in order of identifier and later than `after`, at most `limit`.
    ///
    /// One with a smaller identifier may become visible later; those of one device become visible in order. Whoever follows assignments
    /// therefore begins at 0 again each time that ``waitForAssignments(since:)`` returns, and passes over those that they read before.
    func assignments(after id: Int64, limit: Int) async throws -> [Assignment]
    /// The devices of these assignments were told, or someone safe was asked to.
    func settle(_ assignments: [Int64]) async throws
    /// Waits until assignments may have become visible, or the task is cancelled.
    ///
    /// - Parameter mark: What this returned before the assignments were read last; `nil` to return at once.
    /// - Returns: What to pass the next time.
    /// - Throws: ``NodeError`` if the store cannot be read.
    func waitForAssignments(since mark: UInt64?) async throws -> UInt64

    /// The packages of which a device has not been notified because no session took the push.
    func missedPushes(of device: DeviceId) async throws -> [Assignment]
    /// Notes that a device learned of a package whose push it missed, unless it should have another one by now.
    func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws
}
