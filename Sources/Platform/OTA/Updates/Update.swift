public import NodeKit

/// How far a device is with an update, in order.
///
/// The names are ThingsBoard's.
public enum OtaUpdateState: String, Sendable, Hashable, CaseIterable {
    /// The server has assigned the package; the device does not know yet.
    case queued = "QUEUED"
    /// The server is telling the device.
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

    /// Whether a report of `next` fits when the update is in this state: states go forward, possibly skipping some; any
    /// unfinished update may fail; after FAILED a device may try again from DOWNLOADING on.
    public func accepts(_ next: OtaUpdateState) -> Bool {
        switch (self, next) {
        case (.updated, _): false
        case (.failed, .downloading): true
        case (.failed, _): false
        case (_, .failed): true
        default: next.order > self.order
        }
    }

    /// Whether a report of `next` changes or completes an update in this state, which failed for `cause` if it did.
    ///
    /// After a cancellation nothing does. That an update timed out is only what the server made of silence, so whatever the
    /// device then tells counts.
    public func takes(_ next: OtaUpdateState, failedFor cause: UpdateCause?) -> Bool {
        switch cause {
        case .cancelled: false
        case .timedOut: next.order >= OtaUpdateState.downloading.order
        default: next == self || self.accepts(next)
        }
    }

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
    /// Percent downloaded, 0…100, as the device told or as counted from the chunks served; `nil` if nothing is known.
    public var progress: Int?
    /// How many attempts there were: the first begins with the first download, the others when the device downloads again after
    /// a failure or the server queues the update again.
    public var attempts: Int
    /// Why it failed, if it did and the reason is known.
    public var errorClass: OtaErrorClass?
    /// What the device, or whoever ended the update, said about the failure.
    public var error: String?
    /// Why the server ended the update, ``UpdateCause/cancelled`` or ``UpdateCause/timedOut``; `nil` if it did not.
    public var failureCause: UpdateCause?
    /// When the update begins again by itself, if it does.
    public var retryTime: Timestamp?
    /// When its state or progress changed last, by the host's clock; a device's own may be wrong.
    public var activeTime: Timestamp

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
        activeTime: Timestamp = Timestamp(milliseconds: 0)
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
    /// The state as told: one of ``OtaUpdateState`` or whatever text the device sent.
    public var state: String
    /// When.
    public var timestamp: Timestamp
    /// Whether the report fitted and changed the record.
    ///
    /// One that did not is kept here and changes nothing.
    public var accepted: Bool
    /// What the device, or whoever ended the update, said about a failure.
    public var error: String?
    /// Why the server made the change; `nil` for an assignment and for what a device reported.
    public var cause: UpdateCause?

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
        cause: UpdateCause? = nil
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
    }
}

/// What a device told about an update in one report.
public struct StateReport: Sendable, Hashable {
    /// Firmware or software.
    public var type: OtaPackageType
    /// The state as sent; `nil` if only progress or an error was sent.
    public var state: String?
    /// Percent, 0…100.
    public var progress: Int?
    /// What the device said about a failure.
    public var error: String?
    /// When.
    public var timestamp: Timestamp

    /// Makes a report.
    public init(
        type: OtaPackageType,
        state: String?,
        progress: Int? = nil,
        error: String? = nil,
        timestamp: Timestamp
    ) {
        self.type = type
        self.state = state
        self.progress = progress
        self.error = error
        self.timestamp = timestamp
    }
}

/// What became of a report.
public enum StateReportResult: Sendable, Hashable {
    /// The record changed; this is its new state.
    case recorded(OtaUpdateState)
    /// The record is in this state already; nothing was written.
    case duplicate(OtaUpdateState)
    /// It does not fit the record, or there is none; it is in the history, flagged.
    case flagged
}

/// An effective package changed, or its update begins again or is cancelled: the device is to be told.
public struct Assignment: Sendable, Hashable {
    /// Grows with every assignment of the store.
    public var id: Int64
    /// The device, in the form that messages carry.
    public var device: Originator
    /// Firmware or software.
    public var type: OtaPackageType
    /// The new package; `nil` if the device has none any more.
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
