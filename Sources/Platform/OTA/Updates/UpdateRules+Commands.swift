public import NodeKit

/// What of an update decides what the server may do with it.
public struct UpdateStanding: Sendable, Hashable {
    /// The present state.
    public var state: OtaUpdateState
    /// Why the server ended it, if it did.
    public var failureCause: UpdateCause?
    /// When it changed last.
    public var activeTime: Timestamp
    /// When it is retried, if it is.
    public var retryTime: Timestamp?
    /// Whether its target is the package that the device should have.
    public var isCurrent: Bool

    /// Joins what is known.
    public init(
        state: OtaUpdateState,
        failureCause: UpdateCause? = nil,
        activeTime: Timestamp = Timestamp(milliseconds: 0),
        retryTime: Timestamp? = nil,
        isCurrent: Bool
    ) {
        self.state = state
        self.failureCause = failureCause
        self.activeTime = activeTime
        self.retryTime = retryTime
        self.isCurrent = isCurrent
    }
}

// What the server does with updates: by commands, retries, time-outs and pushes.
extension UpdateRules {
    /// Whether a command fits an update.
    ///
    /// The store says the same in SQL, for all updates that a filter means.
    public static func fits(_ command: UpdateCommand, _ update: UpdateStanding) -> Bool {
        switch command {
        case .retry: update.state == .failed && update.isCurrent
        case .cancel: !update.state.isFinal || update.retryTime != nil
        case .resend(let includesUpdated): update.isCurrent && (includesUpdated || update.state != .updated)
        }
    }

    /// Whether an update is QUEUED again by a command that fits it; the device is notified in any case.
    public static func queuesAgain(_ command: UpdateCommand, _ state: OtaUpdateState) -> Bool {
        switch command {
        case .retry: true
        case .cancel: false
        case .resend: state.isFinal
        }
    }

    /// Whether the device of an update may have been notified of it: only then is it to learn that the update is cancelled.
    ///
    /// - Parameters:
    ///   - state: The state of the update.
    ///   - wasInitiated: Whether it was INITIATED in this or in an earlier attempt.
    /// - Returns: Whether it may know.
    public static func mayBeNotified(_ state: OtaUpdateState, wasInitiated: Bool) -> Bool {
        wasInitiated || state != .queued
    }

    /// Why an update failed that a user cancelled, for people.
    public static func cancellation(by who: String) -> String { "cancelled by \(who)" }

    /// Whether an update may be retried at a later time.
    public static func mayScheduleRetry(of update: UpdateStanding) -> Bool {
        Self.fits(.retry, update) && update.failureCause != .cancelled
    }

    /// Whether the server may end an update as FAILED.
    ///
    /// - Parameters:
    ///   - update: The update.
    ///   - since: When it changed last, as far as is known where that is decided; `nil` to end it in any case.
    /// - Returns: Whether it is not over and did not change meanwhile.
    public static func mayEnd(_ update: UpdateStanding, ifUnmovedSince since: Timestamp?) -> Bool {
        !update.state.isFinal && (since == nil || since == update.activeTime)
    }

    /// Whether a device may be busy with an update, so that it must be notified of another one, even of what it runs.
    ///
    /// - Parameters:
    ///   - state: The state of the update.
    ///   - isPushMissed: Whether no session took the push.
    /// - Returns: Whether the device may have begun.
    public static func mayBeBusy(in state: OtaUpdateState, isPushMissed: Bool) -> Bool {
        switch state {
        case .queued, .updated, .failed: false
        case .initiated: !isPushMissed
        case .downloading, .downloaded, .verified, .updating: true
        }
    }

    /// What the push of a package does to an update of the device.
    public enum PushVerdict: Sendable, Hashable {
        /// The update is INITIATED at this time, and the device is notified.
        case initiate(Timestamp)
        /// The state stays, and the device is notified.
        case notify
        /// The server ended the update, so that the device is not notified.
        case obsolete
    }

    /// What the push of the package that a device should have does to its update.
    ///
    /// - Parameters:
    ///   - update: The update; `nil` if the device has none.
    ///   - now: When, by the clock that gives times to the host's own points.
    /// - Returns: The verdict.
    public static func judgePush(of update: UpdateFacts?, at now: Timestamp) -> PushVerdict {
        guard let update else { return .notify }
        guard update.failureCause == nil else { return .obsolete }
        guard update.state == .queued else { return .notify }
        // Later than QUEUED by all means: the series `fw_state` has one value for each millisecond, and both are to be seen.
        return .initiate(max(now, update.queuedTime.believed(at: now).adding(.milliseconds(1))))
    }
}
