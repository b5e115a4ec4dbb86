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

extension MessageKey {
    /// The identifier of a stored call.
    public static let callId = "rpcId"
}
