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
public enum UpdateCommand: String, Sendable, Hashable, CaseIterable {
    /// An update that failed or was cancelled is QUEUED again, as a new attempt.
    case retry
    /// An update that is not over ends as FAILED. Its device is notified that the update is gone, and what the device still
    /// reports about it changes nothing.
    ///
    /// FAILED, because devices, dashboards and the requirement know these eight states only; ``UpdateRecord/failureCause``
    /// distinguishes it from a failure.
    case cancel
    /// The device is notified again. An update under way stays in its state; one that is over is QUEUED again.
    case resend
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

/// Lists updates and carries out what administrators want with them.
public protocol UpdateControlService: Sendable {
    /// A page of update records; `textSearch` looks into the names of devices.
    func findUpdates(_ filter: UpdateFilter, page: PageLink) async throws -> Page<ListedUpdate>
    /// How many updates there are in each state; states without any are absent.
    func countUpdates(_ filter: UpdateFilter) async throws -> [OtaUpdateState: Int]
    /// How many devices with such an update say they run each version, most frequent first, at most
    /// ``InstalledCount/countMax`` versions.
    func countInstalled(_ filter: UpdateFilter) async throws -> [InstalledCount]

    /// Carries out a command on every update that the filter means and that the command fits, in transactions of many
    /// devices each. Each update is changed wholly or not at all.
    ///
    /// - Parameters:
    ///   - command: What to do.
    ///   - filter: With which updates.
    ///   - who: Who wants it; part of the reason that a cancelled update has.
    /// - Returns: How many updates were touched.
    /// - Throws: What the store throws; what was done before that stays.
    func carryOut(_ command: UpdateCommand, on filter: UpdateFilter, by who: String) async throws -> Int
}

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

/// Finds devices by a query in ThingsBoard's form.
public protocol DeviceQueryService: Sendable {
    /// The devices that `entityFilter`, `keyFilters` and `keyFiltersOperation` of a query select.
    ///
    /// - Parameters:
    ///   - query: An object as for `POST /api/entitiesQuery/count`.
    ///   - tenant: Whose devices.
    ///   - after: Only devices whose identifier is greater than this, in the order of their bytes.
    ///   - limit: The most devices.
    /// - Returns: Devices in order of identifier.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the query cannot be understood.
    func devices(matching query: JSON.Object, of tenant: TenantId, after: DeviceId?, limit: Int) async throws
        -> [DeviceId]
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
