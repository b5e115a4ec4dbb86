public import FoundationEssentials
public import NodeKit

/// Stored calls of devices.
public protocol PersistentCallService: Sendable {
    /// Stores a call; returns when it is safe.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/tooManyRequests`` if too many calls of the device wait, or of all, and with
    ///   ``NodeError/Code/notFound`` if there is no such device.
    func addCall(_ call: PersistentCall) async throws
    /// The call with this identifier, if it is stored.
    func call(_ id: PersistentCallId) async throws -> PersistentCall?
    /// A page of a device's calls, newest first unless the link says otherwise; those with a status if given.
    func calls(of device: DeviceId, status: PersistentCall.Status?, page: PageLink) async throws -> Page<PersistentCall>
    /// Removes a call, however far it is.
    ///
    /// - Returns: Whether it was there.
    func deleteCall(_ id: PersistentCallId) async throws -> Bool

    /// The oldest call of a device that waits for it.
    func nextCall(of device: DeviceId) async throws -> PersistentCall?
    /// The devices for which calls were added since the last time, as soon as there are any; empty if the task is cancelled.
    func devicesWithNewCalls() async -> Set<UUID>
    /// Notes how far a call is, unless it is over or gone.
    func noteCall(
        _ id: PersistentCallId,
        _ status: PersistentCall.Status,
        response: JSON?,
        retriesLeft: Int?
    ) async throws
    /// Notes that a session took a call. Cheap; stored a little later.
    func noteTaken(_ id: PersistentCallId)
    /// Calls that were on their way when the host stopped wait again; devices may get them twice.
    func requeueCalls() async throws
    /// Gives up what waits and whose time has run out.
    func expireCalls(at now: Timestamp) async throws
}
