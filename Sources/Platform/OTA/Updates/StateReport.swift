public import NodeKit

/// What a device reports about one package type at one moment.
public struct StateReport: Sendable, Hashable {
    /// What kind of message it came in.
    public enum Source: String, Sendable, Hashable {
        /// A time series.
        case telemetry
        /// Client attributes.
        case attributes
    }

    /// Firmware or software.
    public var type: OtaPackageType
    /// The state as sent; `nil` if the report has none.
    public var state: String?
    /// Percent, 0…100.
    public var progress: Int?
    /// What the device said about a failure.
    public var error: String?
    /// What the device says it runs; empty if it does not say.
    public var running: ReportedVersion
    /// Whether ``running`` was sent as `current_fw_…`, which can mean nothing else; `fw_…` can also be an echo of the target.
    public var isCurrent: Bool
    /// The package that the report names as the one it is about: `fw_title` and `fw_version` beside a state other than
    /// `UPDATED`.
    public var target: ReportedVersion
    /// When, for the history and the times of the states: as the device says, or when the message came in.
    public var timestamp: Timestamp
    /// When by the host's clock, if the device says when; `nil` for a report about the moment that it came in.
    public var deviceTime: Timestamp?
    /// What kind of message it came in.
    public var source: Source

    /// Makes a report.
    public init(
        type: OtaPackageType,
        state: String?,
        progress: Int? = nil,
        error: String? = nil,
        running: ReportedVersion = ReportedVersion(),
        isCurrent: Bool = true,
        target: ReportedVersion = ReportedVersion(),
        timestamp: Timestamp,
        deviceTime: Timestamp? = nil,
        source: Source = .telemetry
    ) {
        self.type = type
        self.state = state
        self.progress = progress
        self.error = error
        self.running = running
        self.isCurrent = isCurrent
        self.target = target
        self.timestamp = timestamp
        self.deviceTime = deviceTime
        self.source = source
    }

    /// The report as ``InstalledVersion/report`` says it.
    public var words: String {
        let keys = "\(self.source.rawValue) \(self.isCurrent ? "current_" : "")\(self.type.prefix)_*"
        return self.state.map { "\(keys), \(self.type.prefix)_state \($0)" } ?? keys
    }
}

/// What became of a report.
public enum StateReportResult: Sendable, Hashable {
    /// The update is in this state now, or more is known about it.
    ///
    /// The cause is that of a failure which the rules found: ``UpdateCause/rolledBack`` or ``UpdateCause/otherVersion``.
    case recorded(OtaUpdateState, cause: UpdateCause?, reason: String?)
    /// The update is in this state already, and the report adds nothing.
    case duplicate(OtaUpdateState)
    /// The device restarted in the middle of its update and will begin again; the state stays.
    case interrupted(OtaUpdateState)
    /// The report says nothing about an update.
    case unrelated
    /// The report does not fit the update, or the device has no update; it is in the history, flagged.
    case flagged(ReportFlag)

    /// The update is in this state now, as the device reports.
    public static func recorded(_ state: OtaUpdateState) -> Self { .recorded(state, cause: nil, reason: nil) }
}

/// Why a report does not fit an update and changes nothing.
public enum ReportFlag: String, Sendable, Hashable, CaseIterable {
    /// No package was ever assigned.
    case noUpdate = "NO_UPDATE"
    /// The state is not one of ``OtaUpdateState``.
    case unknownState = "UNKNOWN_STATE"
    /// The update is past this state, or over.
    case outOfOrder = "OUT_OF_ORDER"
    /// The update was cancelled.
    case cancelled = "CANCELLED"
    /// `UPDATED`, but the device says it runs something else.
    case otherVersion = "OTHER_VERSION"
    /// `UPDATED`, but the device never said what it runs, and not all bytes of the package were served to it.
    case notServed = "NOT_SERVED"
    /// It is about another package: it names it, or the device was last given bytes of that one.
    case otherPackage = "OTHER_PACKAGE"
    /// It is from before the assignment.
    case beforeAssignment = "BEFORE_ASSIGNMENT"

    /// What an operator reads.
    public var sentence: String {
        switch self {
        case .noUpdate: "no package is assigned"
        case .unknownState: "the state is not one of an update"
        case .outOfOrder: "the update is past this state"
        case .cancelled: "the update was cancelled"
        case .otherVersion: "the device says it runs another version than the target"
        case .notServed: "the device never said what it runs, and not all bytes were served to it since the assignment"
        case .otherPackage: "the report is about another package than the target"
        case .beforeAssignment: "the report is from before the assignment"
        }
    }
}
