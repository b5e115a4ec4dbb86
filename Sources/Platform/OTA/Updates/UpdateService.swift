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
    /// once that is stored; this returns when they have sent it. An update already further on stays in its state.
    ///
    /// - Parameters:
    ///   - packageId: The package.
    ///   - device: The device.
    ///   - type: Which of its packages.
    ///   - attributes: The shared attributes that tell of the package.
    ///   - obsolete: The names of others that an earlier package may have left.
    ///   - generation: Which of the device's assignments it is (``Precedence/generation``); `nil` for whichever is the present one.
    ///   - time: When the attributes change.
    /// - Returns: `false` if the package is not the effective one any more, its update was cancelled or timed out, or another
    ///   assignment came meanwhile; nothing was written then.
    /// - Throws: ``NodeError`` if it could not be stored; nothing was written then, either.
    func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        generation: Int64?,
        at time: Timestamp
    ) async throws -> Bool
    /// Takes the shared attributes of a package away from a device that should not install it any more, and tells its sessions.
    ///
    /// - Parameters:
    ///   - device: The device.
    ///   - type: Which of its packages.
    ///   - isCancelled: Whether its update was cancelled, and not the package taken away.
    ///   - generation: Which of the device's assignments it is; `nil` for whichever is the present one.
    /// - Returns: `false` if it should install a package by now; nothing was written then.
    /// - Throws: ``NodeError`` if it could not be stored; nothing was written then, either.
    func withdraw(from device: DeviceId, type: OtaPackageType, isCancelled: Bool, generation: Int64?) async throws
        -> Bool
    /// Counts bytes served to a device, for its progress. Cheap; what was counted is stored now and then.
    func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId)

    /// What devices are to be told of their packages, each as the message that says it (``Message/init(_:precedence:)``).
    ///
    /// There is at most one of a device and a type. A newer one takes the place of an older one; those of one device become visible
    /// in order. What is settled with a ``SettledMessage/end`` is kept as the reason why the device was not notified
    /// (``UpdateRecord/hold``).
    var waitingAssignments: any WaitingMessages { get }

    /// The packages of which a device has not been notified because no session took the push.
    func missedPushes(of device: DeviceId) async throws -> [Assignment]
    /// Has a device told again of the package whose push it missed, in its turn: puts it where assignments wait, in place of what waits
    /// for it there or further on, unless the device need not be told any more.
    ///
    /// - Returns: Whether it waits from now on.
    @discardableResult
    func resendMissedPush(of device: DeviceId, type: OtaPackageType) async throws -> Bool
    /// Notes that a device learned of a package whose push it missed, unless it should have another one by now.
    func noteNotified(_ device: DeviceId, _ type: OtaPackageType, of packageId: OtaPackageId) async throws
}
