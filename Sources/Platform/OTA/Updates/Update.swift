public import NodeKit

/// How far a device is with an update, in order.
///
/// The names are ThingsBoard's.
public enum OtaUpdateState: String, Sendable, Hashable, CaseIterable {
    /// The server has assigned the package; the device has not been notified yet.
    case queued = "QUEUED"
    /// The server is notifying the device.
    case initiated = "INITIATED"
    /// The device fetches the bytes.
    case downloading = "DOWNLOADING"
    /// The device has the bytes.
    case downloaded = "DOWNLOADED"
    /// The device has verified the checksum.
    case verified = "VERIFIED"
    /// The device applies the update.
    case updating = "UPDATING"
    /// The update is done.
    case updated = "UPDATED"
    /// The update failed.
    case failed = "FAILED"

    /// Whether the update is over.
    public var isFinal: Bool { self == .updated || self == .failed }

    /// Whether `next` follows this state: states go forward, possibly skipping some; any unfinished update may fail; after
    /// FAILED a device may try again from DOWNLOADING on.
    ///
    /// What else a report needs to be believed is in ``UpdateRules``.
    public func accepts(_ next: OtaUpdateState) -> Bool {
        switch (self, next) {
        case (.updated, _): false
        case (.failed, .downloading): true
        case (.failed, _): false
        case (_, .failed): true
        default: next.order > self.order
        }
    }

    /// Whether devices report this state; QUEUED and INITIATED are the server's.
    var isReportedByDevices: Bool { self.order >= Self.downloading.order }

    private var order: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// Why an update failed: the classes of the requirement.
public enum OtaErrorClass: String, Sendable, Hashable, CaseIterable {
    /// Downloaded data doesn't match the checksum.
    case checksumMismatch = "CHECKSUM_MISMATCH"
    /// The download failed because of the network.
    case networkError = "NETWORK_ERROR"
    /// Not enough storage on the device.
    case insufficientStorage = "INSUFFICIENT_STORAGE"
    /// The package's format is not recognized.
    case invalidPackage = "INVALID_PACKAGE"
    /// The package could not be installed.
    case installationFailed = "INSTALLATION_FAILED"
}

/// Where a device is with its update to its effective package of one type.
///
/// There is at most one for each device and type.
public struct UpdateRecord: Sendable, Hashable {
    /// The device.
    public var deviceId: DeviceId
    /// Firmware or software.
    public var type: OtaPackageType
    /// The target; `nil` if the package was deleted after the update ended.
    public var packageId: OtaPackageId?
    /// The target's title.
    public var title: String
    /// The target's version.
    public var version: String
    /// The present state.
    public var state: OtaUpdateState
    /// When each state was last entered.
    public var entered: [OtaUpdateState: Timestamp]
    /// Percent downloaded in this attempt, 0…100, as the device reported or as counted from the bytes served; `nil` if
    /// unknown.
    public var progress: Int?
    /// How many attempts there were: the first begins with the first download, the others when the device downloads again after
    /// a failure or the server queues the update again.
    public var attempts: Int
    /// Why it failed, if it did and the reason is known.
    public var errorClass: OtaErrorClass?
    /// The failure in words, from the device or from the node or user that ended the update.
    public var error: String?
    /// Why the server ended the update: ``UpdateCause/cancelled``, ``UpdateCause/timedOut``, ``UpdateCause/rolledBack`` or
    /// ``UpdateCause/otherVersion``; `nil` if it did not.
    public var failureCause: UpdateCause?
    /// When the server retries the update, if it does.
    public var retryTime: Timestamp?
    /// When its state or progress changed last, by the host's clock; a device's own may be wrong.
    public var activeTime: Timestamp
    /// Since when all bytes have been served to the device, counted from the assignment, or, for a package with a URL, since when it
    /// has been notified; `nil` if not.
    public var servedTime: Timestamp?
    /// Whether the device restarted in the middle of the update and has not started another attempt.
    public var isInterrupted: Bool
    /// What the device says it runs; `nil` if it never said.
    public var installed: InstalledVersion?
    /// How urgent the assignment is, 0…9.
    public var priority: Int
    /// Why the device was not notified yet; `nil` if it was.
    public var hold: UpdateHold?

    /// Makes a record.
    public init(
        deviceId: DeviceId,
        type: OtaPackageType,
        packageId: OtaPackageId?,
        title: String,
        version: String,
        state: OtaUpdateState,
        entered: [OtaUpdateState: Timestamp],
        progress: Int? = nil,
        attempts: Int = 0,
        errorClass: OtaErrorClass? = nil,
        error: String? = nil,
        failureCause: UpdateCause? = nil,
        retryTime: Timestamp? = nil,
        activeTime: Timestamp = Timestamp(milliseconds: 0),
        servedTime: Timestamp? = nil,
        isInterrupted: Bool = false,
        installed: InstalledVersion? = nil,
        priority: Int = 0,
        hold: UpdateHold? = nil
    ) {
        self.deviceId = deviceId
        self.type = type
        self.packageId = packageId
        self.title = title
        self.version = version
        self.state = state
        self.entered = entered
        self.progress = progress
        self.attempts = attempts
        self.errorClass = errorClass
        self.error = error
        self.failureCause = failureCause
        self.retryTime = retryTime
        self.activeTime = activeTime
        self.servedTime = servedTime
        self.isInterrupted = isInterrupted
        self.installed = installed
        self.priority = priority
        self.hold = hold
    }
}

/// One line of an update's history, which is only ever appended to.
public struct UpdateHistoryEntry: Sendable, Hashable {
    /// Grows with every entry of the store.
    public var id: Int64
    /// The device.
    public var deviceId: DeviceId
    /// Firmware or software.
    public var type: OtaPackageType
    /// The package's title; empty if a report came without an update under way.
    public var title: String
    /// The package's version; empty like the title.
    public var version: String
    /// The state as reported: one of ``OtaUpdateState``, another text that the device sent, or ``interrupted``.
    public var state: String
    /// When.
    public var timestamp: Timestamp
    /// Whether the report fitted and changed the record.
    ///
    /// One that did not is kept here and changes nothing.
    public var accepted: Bool
    /// The failure in words, from the device or from the node or user that ended the update.
    public var error: String?
    /// Why the server made the change; `nil` for an assignment and for what a device reported.
    public var cause: UpdateCause?
    /// Why the report did not fit; `nil` if it did, and for entries from before this was recorded.
    public var flag: ReportFlag?

    /// The state of an entry that says that the device restarted in the middle of its update.
    public static let interrupted = "INTERRUPTED"

    /// Makes an entry.
    public init(
        id: Int64,
        deviceId: DeviceId,
        type: OtaPackageType,
        title: String,
        version: String,
        state: String,
        timestamp: Timestamp,
        accepted: Bool,
        error: String? = nil,
        cause: UpdateCause? = nil,
        flag: ReportFlag? = nil
    ) {
        self.id = id
        self.deviceId = deviceId
        self.type = type
        self.title = title
        self.version = version
        self.state = state
        self.timestamp = timestamp
        self.accepted = accepted
        self.error = error
        self.cause = cause
        self.flag = flag
    }
}

/// An effective package changed, or its update is retried or cancelled: the device is to be notified.
public struct Assignment: Sendable, Hashable {
    /// Grows with every assignment of the store.
    public var id: Int64
    /// The device, in the form that messages carry.
    public var device: Originator
    /// Firmware or software.
    public var type: OtaPackageType
    /// The new package; `nil` if the device no longer has one.
    ///
    /// With ``UpdateCause/cancelled`` the one whose update was cancelled.
    public var packageId: OtaPackageId?
    /// Why: assigned, retried, resent or cancelled.
    public var cause: UpdateCause
    /// When.
    public var timestamp: Timestamp

    /// Makes an assignment.
    public init(
        id: Int64,
        device: Originator,
        type: OtaPackageType,
        packageId: OtaPackageId?,
        cause: UpdateCause = .assigned,
        timestamp: Timestamp
    ) {
        self.id = id
        self.device = device
        self.type = type
        self.packageId = packageId
        self.cause = cause
        self.timestamp = timestamp
    }
}

extension Message {
    /// What tells a device that it should have another package, or none.
    ///
    /// - Parameters:
    ///   - assignment: The assignment.
    ///   - generation: Which one of the device's it is.
    ///   - priority: How urgent it is, 0…9.
    public init(_ assignment: Assignment, generation: Int64, priority: Int) {
        let isOver = assignment.packageId == nil || assignment.cause == .cancelled
        self.init(
            originator: assignment.device,
            type: isOver ? .packageUnassigned : .packageAssigned,
            metadata: [MessageKey.packageType: .string(assignment.type.rawValue)],
            timestamp: assignment.timestamp
        )
        self.metadata[MessageKey.packageId] = (assignment.packageId?.description).map(JSON.string)
        if assignment.cause != .assigned { self.metadata[MessageKey.cause] = .string(assignment.cause.rawValue) }
        self.precedence = Precedence(key: assignment.type.rawValue, generation: generation, priority: priority)
    }
}

/// Why the device of an update that is QUEUED was not notified yet.
public struct UpdateHold: Sendable, Hashable {
    /// The queue in which its message waits, `chain/node`; `assignments` before the chain got it; `nil` if it waits nowhere any more.
    public var queue: String?
    /// Since when.
    public var since: Timestamp
    /// When it is tried the next time; `nil` if it is not.
    public var until: Timestamp?
    /// How often it was tried.
    public var tries: Int
    /// What came of the last try; `nil` if it only waits for its turn.
    public var reason: HoldReason?

    /// Describes why.
    public init(queue: String?, since: Timestamp, until: Timestamp?, tries: Int, reason: HoldReason?) {
        self.queue = queue
        self.since = since
        self.until = until
        self.tries = tries
        self.reason = reason
    }
}
