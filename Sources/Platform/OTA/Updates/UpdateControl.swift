public import NodeKit

/// Why the server changed an update, or notifies its device again.
public enum UpdateCause: String, Sendable, Hashable, CaseIterable {
    /// A package was assigned, or the assignment was removed.
    case assigned = "ASSIGNED"
    /// An update that had failed is retried.
    case retried = "RETRIED"
    /// The device is notified once more.
    case resent = "RESENT"
    /// A user cancelled the update.
    case cancelled = "CANCELLED"
    /// The device reported nothing about the update for too long.
    case timedOut = "TIMED_OUT"
    /// The device ran the package before it was assigned.
    case alreadyInstalled = "ALREADY_INSTALLED"
    /// After the installation the device runs its former version again.
    case rolledBack = "ROLLED_BACK"
    /// After the installation the device runs a version that is neither the target's nor its former one.
    case otherVersion = "OTHER_VERSION"
}

/// What an administrator can do with updates.
public enum UpdateCommand: Sendable, Hashable, CaseIterable {
    /// An update that failed or was cancelled is QUEUED again, as a new attempt.
    case retry
    /// An update that is not over ends as FAILED. Its device is notified that the update is gone, and what the device still
    /// reports about it changes nothing.
    ///
    /// FAILED, because devices, dashboards and the requirement know these eight states only; ``UpdateRecord/failureCause``
    /// distinguishes it from a failure.
    case cancel
    /// The device is notified again. An update under way stays in its state; one that is over is QUEUED again, but one that is
    /// UPDATED only if it is included.
    case resend(includesUpdated: Bool)

    /// Every command in each of its forms.
    public static let allCases: [Self] = [
        .retry, .cancel, .resend(includesUpdated: false), .resend(includesUpdated: true),
    ]
}

/// Which updates are meant; members that are `nil` do not restrict the selection.
public struct UpdateFilter: Sendable, Hashable {
    /// Whose devices.
    public var tenantId: TenantId
    /// Firmware or software.
    public var type: OtaPackageType?
    /// One of these states.
    public var states: Set<OtaUpdateState>?
    /// To this package.
    public var packageId: OtaPackageId?
    /// Of devices of this profile.
    public var deviceProfileId: DeviceProfileId?
    /// Of these devices, at most ``devicesMax``.
    public var devices: [DeviceId]?

    /// The most devices that a filter may name.
    public static let devicesMax = 1000

    /// Makes a filter.
    public init(
        tenantId: TenantId = .main,
        type: OtaPackageType? = nil,
        states: Set<OtaUpdateState>? = nil,
        packageId: OtaPackageId? = nil,
        deviceProfileId: DeviceProfileId? = nil,
        devices: [DeviceId]? = nil
    ) {
        self.tenantId = tenantId
        self.type = type
        self.states = states
        self.packageId = packageId
        self.deviceProfileId = deviceProfileId
        self.devices = devices
    }

    /// Whether every update of the tenant is meant.
    public var isUnrestricted: Bool { self == UpdateFilter(tenantId: self.tenantId, type: self.type) }
}

/// An update record with what a list shows of its device.
public struct ListedUpdate: Sendable, Hashable {
    /// The record.
    public var record: UpdateRecord
    /// The device's name.
    public var deviceName: String
    /// The device's profile.
    public var deviceProfileId: DeviceProfileId

    /// Makes an entry.
    public init(record: UpdateRecord, deviceName: String, deviceProfileId: DeviceProfileId) {
        self.record = record
        self.deviceName = deviceName
        self.deviceProfileId = deviceProfileId
    }
}

/// How many devices say they run a version.
public struct InstalledCount: Sendable, Hashable {
    /// The most versions that are counted apart; devices choose what they report.
    public static let countMax = 1000

    /// Firmware or software.
    public var type: OtaPackageType
    /// What they say; empty for those that never said.
    public var running: ReportedVersion
    /// How many devices.
    public var count: Int

    /// Makes a count.
    public init(type: OtaPackageType, running: ReportedVersion, count: Int) {
        self.type = type
        self.running = running
        self.count = count
    }
}

/// An update whose device has reported nothing about it for some time.
public struct StalledUpdate: Sendable, Hashable {
    /// The device, in the form that messages carry.
    public var device: Originator
    /// The record as it was read.
    public var record: UpdateRecord

    /// Makes an entry.
    public init(device: Originator, record: UpdateRecord) {
        self.device = device
        self.record = record
    }
}

/// A change of an update's state, as sent to the chain.
public struct UpdateEvent: Sendable, Hashable {
    /// The device, in the form that messages carry.
    public var device: Originator
    /// What was appended to the history.
    public var entry: UpdateHistoryEntry
    /// The package; `nil` if it was deleted since.
    public var packageId: OtaPackageId?

    /// Makes an event.
    public init(device: Originator, entry: UpdateHistoryEntry, packageId: OtaPackageId?) {
        self.device = device
        self.entry = entry
        self.packageId = packageId
    }
}

extension MessageKey {
    /// Why a device is notified: absent for a new assignment, else `RETRIED`, `RESENT` or `CANCELLED`.
    public static let cause = "cause"
    /// The state of an update.
    public static let state = "state"
    /// How many attempts there were, the present one included.
    public static let attempts = "attempts"
    /// When an update changed last, in milliseconds since 1970-01-01 UTC.
    public static let activeTime = "activeTime"
    /// What is known about a failure.
    public static let error = "updateError"
}

extension MessageType {
    /// An update has not changed for longer than the chain allows.
    public static let updateStalled: Self = "UPDATE_STALLED"
    /// An update was cancelled.
    public static let updateCancelled: Self = "UPDATE_CANCELLED"
    /// An update failed because its device reported nothing about it for too long.
    public static let updateTimedOut: Self = "UPDATE_TIMED_OUT"

    /// An update came to a state: `UPDATE_QUEUED` … `UPDATE_UPDATED`, `UPDATE_FAILED`.
    public static func update(_ state: OtaUpdateState) -> Self { Self(rawValue: "UPDATE_\(state.rawValue)") }
}
