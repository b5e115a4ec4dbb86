public import NodeKit

/// What of an update decides what a report makes of it.
public struct UpdateFacts: Sendable, Hashable {
    /// The present state.
    public var state: OtaUpdateState
    /// Why the server ended it, if it did.
    public var failureCause: UpdateCause?
    /// The target's identifier; `nil` if the package was deleted after the update ended.
    public var packageId: OtaPackageId?
    /// The target's title and version.
    public var target: ReportedVersion
    /// When it was QUEUED last: by the assignment, or by a retry.
    public var queuedTime: Timestamp
    /// When the package was assigned.
    public var assignedTime: Timestamp
    /// Whether the device has been notified: a session took the push, or a reply held the target.
    public var isNotified: Bool
    /// Whether all bytes were served since the assignment, or, for a package with a URL, the push was taken.
    public var isServed: Bool
    /// Whether the device restarted in the middle and has not begun again.
    public var isInterrupted: Bool
    /// What the device ran when it began to install; empty if that was unknown or it has not begun.
    public var former: ReportedVersion

    /// Joins what is known.
    public init(
        state: OtaUpdateState,
        failureCause: UpdateCause? = nil,
        packageId: OtaPackageId?,
        target: ReportedVersion,
        queuedTime: Timestamp,
        assignedTime: Timestamp? = nil,
        isNotified: Bool = false,
        isServed: Bool = false,
        isInterrupted: Bool = false,
        former: ReportedVersion = ReportedVersion()
    ) {
        self.state = state
        self.failureCause = failureCause
        self.packageId = packageId
        self.target = target
        self.queuedTime = queuedTime
        self.assignedTime = assignedTime ?? queuedTime
        self.isNotified = isNotified
        self.isServed = isServed
        self.isInterrupted = isInterrupted
        self.former = former
    }
}

/// What is known of a device, whichever update it has.
public struct DeviceFacts: Sendable, Hashable {
    /// What the device last said it runs, before the report at hand.
    public var installed: ReportedVersion
    /// The package whose bytes the device was last given, until it reports how that update ended.
    public var given: OtaPackageId?

    /// Joins what is known.
    public init(installed: ReportedVersion = ReportedVersion(), given: OtaPackageId? = nil) {
        self.installed = installed
        self.given = given
    }
}

/// What a report does to an update.
public enum UpdateVerdict: Sendable, Hashable {
    /// The update enters a state.
    case enter(OtaUpdateState)
    /// The device begins to download anew, in the middle of an update or after a failure.
    case beginAttempt
    /// The update is FAILED, as the device runs something else after the installation:
    /// ``UpdateCause/rolledBack`` or ``UpdateCause/otherVersion``.
    case fail(UpdateCause)
    /// The update stays in its state; progress and an error text are taken over.
    case complete
    /// The device restarted before it installed anything. The state stays.
    case interrupted
    /// The report does not say anything about the update.
    case unrelated
    /// The report is kept and changes nothing.
    case flag(ReportFlag)
}

extension UpdateVerdict {
    /// Whether the update is over with it.
    public var endsUpdate: Bool {
        switch self {
        case .enter(let state): state.isFinal
        case .fail: true
        case .beginAttempt, .complete, .interrupted, .unrelated, .flag: false
        }
    }
}

/// The rules by which a device's reports are believed.
///
/// Pure functions over values; the store asks them in the transaction that writes the outcome. Their reason: device libraries
/// report at every boot `{"current_fw_title":…,"current_fw_version":…,"fw_state":"UPDATED"}` about what they run *now*, before
/// they ask for anything, and clients send their old version with every state of a healthy update.
public enum UpdateRules {
    /// What a report does to an update.
    ///
    /// - Parameters:
    ///   - report: The report.
    ///   - update: The update of its package type; `nil` if the device has none.
    ///   - device: What is known of the device apart from this report.
    /// - Returns: The verdict. What the report says about the version that runs is news in any case.
    public static func judge(_ report: StateReport, of update: UpdateFacts?, _ device: DeviceFacts) -> UpdateVerdict {
        guard let text = report.state else { return Self.judgeWithoutState(report, of: update, device) }
        guard let update else { return .flag(.noUpdate) }
        switch OtaUpdateState(rawValue: text) {
        case .updated?: return Self.judgeUpdated(report, of: update, device)
        case let state?: return Self.judge(state, report, of: update, device)
        case nil:
            // Some clients report IDLE with what they run.
            return Self.runsTarget(report, of: update, device) ? .enter(.updated) : .flag(.unknownState)
        }
    }

    // MARK: Reports without a state

    private static func judgeWithoutState(
        _ report: StateReport,
        of update: UpdateFacts?,
        _ device: DeviceFacts
    ) -> UpdateVerdict {
        guard let update else { return report.isAboutUpdate ? .flag(.noUpdate) : .unrelated }
        if Self.runsTarget(report, of: update, device) { return .enter(.updated) }
        guard report.isAboutUpdate else { return .unrelated }
        if let flag = Self.isElsewhere(report, since: update.queuedTime, of: update, device) { return .flag(flag) }
        return .complete
    }

    /// Whether a report without `UPDATED` makes the update UPDATED by naming the target as what runs.
    ///
    /// `fw_…` may be an echo of the target's attributes, and a version without a title that of another product; both need the
    /// bytes to have been served.
    private static func runsTarget(_ report: StateReport, of update: UpdateFacts, _ device: DeviceFacts) -> Bool {
        guard !report.running.isEmpty, update.state != .updated, update.failureCause != .cancelled else { return false }
        let running = device.installed.updated(by: report.running)
        guard running.version != nil, running.fits(update.target) else { return false }
        return update.isServed || (report.isCurrent && running.title != nil)
    }

    // MARK: UPDATED

    private static func judgeUpdated(
        _ report: StateReport,
        of update: UpdateFacts,
        _ device: DeviceFacts
    ) -> UpdateVerdict {
        let running = device.installed.updated(by: report.running)
        guard running.fits(update.target) else {
            return report.running.fits(update.target)
                // A bare UPDATED never fails an update: what runs may be reported apart, and later.
                ? (update.state == .updated ? .complete : .flag(.otherVersion))
                : Self.judgeOtherVersion(report, of: update, device)
        }
        guard update.state != .updated else { return .complete }
        guard update.failureCause != .cancelled else { return .flag(.cancelled) }
        guard running.version == nil else { return .enter(.updated) }
        // The device never said what runs.
        if let flag = Self.isElsewhere(report, since: update.assignedTime, of: update, device) { return .flag(flag) }
        guard update.isServed else { return .flag(.notServed) }
        let takes = update.state != .failed || update.failureCause == .timedOut
        return takes ? .enter(.updated) : .flag(.outOfOrder)
    }

    /// `UPDATED` in one report with another version than the target's.
    private static func judgeOtherVersion(
        _ report: StateReport,
        of update: UpdateFacts,
        _ device: DeviceFacts
    ) -> UpdateVerdict {
        // A device that was offline may send what it kept after what it reports now.
        if let time = report.deviceTime, time < update.assignedTime { return .flag(.beforeAssignment) }
        switch update.state {
        case .updating:
            let former = update.former.isEmpty ? device.installed : update.former
            // A device that never said before what it ran has most likely kept it.
            return .fail(report.running.fits(former) ? .rolledBack : .otherVersion)
        case .downloading, .downloaded, .verified:
            return update.isInterrupted ? .complete : .interrupted
        case .queued, .initiated, .updated, .failed:
            return .flag(.otherVersion)
        }
    }

    // MARK: Other states

    private static func judge(
        _ state: OtaUpdateState,
        _ report: StateReport,
        of update: UpdateFacts,
        _ device: DeviceFacts
    ) -> UpdateVerdict {
        var device = device
        // Clients report DOWNLOADING before they ask for the first byte. One that was notified of the target begins with that.
        if state == .downloading, update.isNotified { device.given = nil }
        if let flag = Self.isElsewhere(report, since: update.queuedTime, of: update, device) { return .flag(flag) }
        switch update.failureCause {
        case .cancelled: return .flag(.cancelled)
        case .timedOut:
            // The server made that of silence, so whatever the device then reports counts.
            guard state.isReportedByDevices else { return .flag(.outOfOrder) }
            return state == .downloading ? .beginAttempt : .enter(state)
        default: break
        }
        if state == .downloading, update.isInterrupted || update.state == .failed { return .beginAttempt }
        if state == update.state { return .complete }
        return update.state.accepts(state) ? .enter(state) : .flag(.outOfOrder)
    }

    /// Why a report that says nothing about what runs is not about this update; `nil` if it is.
    ///
    /// The package that it names decides; else the one whose bytes the device was last given, and the time.
    private static func isElsewhere(
        _ report: StateReport,
        since begin: Timestamp,
        of update: UpdateFacts,
        _ device: DeviceFacts
    ) -> ReportFlag? {
        guard report.target.isEmpty else { return report.target.fits(update.target) ? nil : .otherPackage }
        if let given = device.given, given != update.packageId { return .otherPackage }
        if let time = report.deviceTime, time < begin { return .beforeAssignment }
        return nil
    }

    // MARK: Around reports

    /// Whether a device that says it runs this has a package installed, so that there is nothing to update.
    ///
    /// The store says the same in SQL, for all devices of an assignment at once.
    public static func isInstalled(_ package: ReportedVersion, by device: ReportedVersion) -> Bool {
        device.title != nil && device.version != nil && device.fits(package)
    }

    /// Whether what is known shows that an update came to its end.
    ///
    /// - Parameters:
    ///   - target: The target.
    ///   - running: What the device said it runs when the update became UPDATED.
    ///   - isServed: Whether all bytes were served to it.
    /// - Returns: Whether the rules would have made it UPDATED.
    public static func isProven(_ target: ReportedVersion, running: ReportedVersion, isServed: Bool) -> Bool {
        running.fits(target) && (running.version != nil || isServed)
    }
}

extension StateReport {
    /// Whether it has progress or an error text, which are about an update.
    fileprivate var isAboutUpdate: Bool { self.progress != nil || self.error != nil }
}

extension UpdateCause {
    /// The class of the failures that the rules find by themselves.
    public var errorClass: OtaErrorClass? {
        switch self {
        case .rolledBack: .installationFailed
        case .otherVersion: .invalidPackage
        default: nil
        }
    }
}
