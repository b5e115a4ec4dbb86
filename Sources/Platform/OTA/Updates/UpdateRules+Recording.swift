public import NodeKit

// What a report that was judged changes besides the state. Asked for each report.
extension UpdateRules {
    /// The most characters kept of what a device says about a failure.
    public static let errorLengthMax = 1024
    /// The most characters kept of a state that is not one of an update.
    public static let stateLengthMax = 255

    /// What a device runs according to a report, if that is news.
    ///
    /// - Parameters:
    ///   - report: The report.
    ///   - known: What the device last said before.
    /// - Returns: What it runs; `nil` if the report says nothing about it, or nothing new.
    public static func news(in report: StateReport, after known: ReportedVersion) -> ReportedVersion? {
        // `fw_…` alone says what runs as an attribute; as telemetry it may be an echo of what was pushed.
        let isSaid = report.isCurrent || report.state != nil || report.source == .attributes
        guard isSaid, !report.running.isEmpty else { return nil }
        let running = known.updated(by: report.running)
        return running == known ? nil : running
    }

    /// What a device ran before it installs a target, as far as the report says that makes its update UPDATING.
    ///
    /// - Parameters:
    ///   - target: The target.
    ///   - report: The report.
    ///   - known: What the device last said before.
    /// - Returns: What it ran; empty if that is not known.
    public static func former(
        to target: ReportedVersion,
        in report: StateReport,
        after known: ReportedVersion
    ) -> ReportedVersion {
        // Clients send their old version with UPDATING; one that says it runs the target already is of no help.
        let running = known.updated(by: report.running)
        return running.fits(target) ? known : running
    }

    /// What a report adds to an update that stays in its state.
    ///
    /// - Parameters:
    ///   - state: The state.
    ///   - report: The report.
    ///   - progress: The update's progress in percent.
    ///   - error: What the device said about a failure before.
    /// - Returns: Progress and error from now on; `nil` if they stay the same.
    public static func completion(
        of state: OtaUpdateState,
        by report: StateReport,
        progress: Int64?,
        error: String?
    ) -> (progress: Int64?, error: String?)? {
        let newProgress = state.isFinal ? progress : report.percent.map(Int64.init) ?? progress
        let newError = state == .failed ? report.failure ?? error : error
        return newProgress == progress && newError == error ? nil : (newProgress, newError)
    }

    /// Why an update failed whose device runs something else after the installation, for people.
    public static func failure(of target: ReportedVersion, running: ReportedVersion) -> String {
        "the device runs \(running) after the installation, not \(target)"
    }
}

extension StateReport {
    /// The progress, which is within 0…100 whatever the device says.
    public var percent: Int? { self.progress.map { min(max($0, 0), 100) } }

    /// What is kept of what the device said about a failure.
    public var failure: String? { self.error.map { $0.limited(to: UpdateRules.errorLengthMax) } }

    /// Whether a device that sends this is not in the middle of a download any more.
    public var endsDownload: Bool {
        guard let state else { return false }
        return OtaUpdateState(rawValue: state)?.isFinal ?? true
    }

    /// Whether what was served must be known before the report is judged: it may end an update or begin another attempt.
    public var needsServed: Bool {
        guard let state, let known = OtaUpdateState(rawValue: state) else { return true }
        return known == .downloading || known.isFinal
    }
}

extension StateReportResult {
    /// Whether something became of an update, which readers of events get to know.
    public var isEvent: Bool {
        switch self {
        case .recorded, .interrupted: true
        case .duplicate, .unrelated, .flagged: false
        }
    }
}

extension UpdateRules {
    /// The error of a reader of update events that was not added.
    public static func unknownReader(_ name: String) -> NodeError {
        NodeError(.notFound, "no reader of update events is named '\(name)'; add it first")
    }
}

// What bytes that were served count for.
extension UpdateRules {
    /// What becomes of bytes that were served.
    public enum ServedVerdict: Sendable, Hashable {
        /// They say nothing about an update.
        case ignore
        /// The device was given bytes of another package than its target.
        case given
        /// They count for the update.
        case count
    }

    /// What bytes of a package that were served to a device count for.
    ///
    /// - Parameters:
    ///   - package: The package.
    ///   - time: When they were served, if that may have been before the assignment.
    ///   - target: The target of the device's update.
    ///   - state: The state of the update; `nil` if there is none.
    ///   - queuedTime: When it was QUEUED last.
    /// - Returns: The verdict.
    public static func judgeServed(
        _ package: OtaPackageId,
        at time: Timestamp?,
        target: OtaPackageId?,
        state: OtaUpdateState?,
        queuedTime: Timestamp?
    ) -> ServedVerdict {
        let isTarget = target == package
        // A device that fetches what it runs once more is not in the middle of an update.
        guard !isTarget || state != .updated else { return .ignore }
        if let time, let queuedTime, time < queuedTime { return .ignore }
        return isTarget && state != nil ? .count : .given
    }

    /// The progress of an update after bytes were served.
    ///
    /// - Parameters:
    ///   - state: Its state.
    ///   - known: The progress in percent that is known.
    ///   - bytes: How many bytes were served in this attempt.
    ///   - size: The size of the package in bytes, more than 0.
    /// - Returns: The progress in percent: what the device reports may be ahead of what was counted.
    public static func progress(of state: OtaUpdateState, known: Int64?, served bytes: Int64, of size: Int64) -> Int64?
    {
        guard !state.isFinal else { return known }
        return max(known ?? 0, bytes.multipliedReportingOverflow(by: 100).partialValue / size)
    }
}
