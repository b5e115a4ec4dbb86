public import FoundationEssentials
public import NodeKit

/// Names a kind of entity in ``PersistentCallId``.
public enum PersistentCallEntity {}

/// Identifies a stored call of a device.
public typealias PersistentCallId = EntityID<PersistentCallEntity>

/// A call of a method of a device that is stored until the device has taken it, as ThingsBoard's persistent RPC.
public struct PersistentCall: Sendable, Hashable {
    /// How far a call is.
    ///
    /// The names are ThingsBoard's.
    public enum Status: String, Sendable, Hashable, CaseIterable {
        /// It waits for the device.
        case queued = "QUEUED"
        /// A session of the device took it, and the answer is waited for.
        case sent = "SENT"
        /// One way: a session of the device took it, and that is all.
        case delivered = "DELIVERED"
        /// The device answered.
        case successful = "SUCCESSFUL"
        /// The device took it and did not answer, as often as it was tried.
        case timeout = "TIMEOUT"
        /// Its time ran out before the device took it.
        case expired = "EXPIRED"
        /// The chain refused it, or the answer is none.
        case failed = "FAILED"
    }

    /// Its identifier.
    public var id: PersistentCallId
    /// The device.
    public var device: Originator
    /// When it was made.
    public var createdTime: Timestamp
    /// When it is given up.
    public var expirationTime: Timestamp
    /// How far it is.
    public var status: Status
    /// The method's name.
    public var method: String
    /// Its parameters.
    public var params: JSON
    /// Whether no answer is wanted.
    public var isOneWay: Bool
    /// How long the device has to answer each time.
    public var timeout: Duration
    /// How often it is sent again to a device that did not answer.
    public var retriesLeft: Int
    /// Whatever the caller wants to remember.
    public var additionalInfo: JSON?
    /// What the device answered, or what went wrong.
    public var response: JSON?

    /// Makes a call that waits for its device.
    public init(
        id: PersistentCallId = .random(),
        device: Originator,
        createdTime: Timestamp,
        expirationTime: Timestamp,
        status: Status = .queued,
        method: String,
        params: JSON,
        isOneWay: Bool,
        timeout: Duration,
        retriesLeft: Int,
        additionalInfo: JSON? = nil,
        response: JSON? = nil
    ) {
        self.id = id
        self.device = device
        self.createdTime = createdTime
        self.expirationTime = expirationTime
        self.status = status
        self.method = method
        self.params = params
        self.isOneWay = isOneWay
        self.timeout = timeout
        self.retriesLeft = retriesLeft
        self.additionalInfo = additionalInfo
        self.response = response
    }
}

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

extension MessageKey {
    /// The identifier of a stored call.
    public static let callId = "rpcId"
}
