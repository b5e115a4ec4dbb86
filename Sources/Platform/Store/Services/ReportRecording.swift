import GRDB
import NodeKit
import OTA

/// One report on its way into the database.
struct ReportRecording {
    private let statements: DeviceStatements
    private let device: Int64
    private let report: StateReport
    private let now: Timestamp
    private let db: Database

    /// Gives a time to a point of the host's own.
    private let serverTime: () -> Timestamp

    init(
        _ statements: DeviceStatements,
        _ device: Int64,
        _ report: StateReport,
        now: Timestamp,
        _ db: Database,
        serverTime: @escaping () -> Timestamp
    ) {
        self.statements = statements
        self.device = device
        self.report = report
        self.now = now
        self.db = db
        self.serverTime = serverTime
    }

    private var type: OtaPackageType { self.report.type }

    /// Asks the rules and writes what they say.
    ///
    /// - Parameter given: The package whose bytes the device was given since that was stored last.
    /// - Returns: What became of the report.
    /// - Throws: What the database throws.
    func carryOut(given: OtaPackageId?) throws -> StateReportResult {
        let known = try self.statements.known(of: self.device, self.type, self.db)
        var facts = known.device
        facts.given = given ?? facts.given
        let verdict = UpdateRules.judge(self.report, of: known.update?.facts, facts)
        try self.noteInstalled(after: facts.installed)
        if facts.given != nil, self.report.endsDownload || verdict.endsUpdate {
            try self.statements.setGiven(nil, to: self.device, self.type, self.db)
        }
        return try self.carryOut(verdict, of: known.update, runningBefore: facts.installed)
    }

    private func carryOut(
        _ verdict: UpdateVerdict,
        of update: KnownUpdate?,
        runningBefore: ReportedVersion
    ) throws -> StateReportResult {
        switch (verdict, update) {
        case (.enter(let state), let update?):
            try self.enter(state, of: update, runningBefore: runningBefore)
            return .recorded(state)
        case (.beginAttempt, let update?):
            try self.statements.moveServedRanges(self.device, self.type, self.db)
            try self.enter(.downloading, of: update, runningBefore: runningBefore, isNewAttempt: true)
            return .recorded(.downloading)
        case (.fail(let cause), let update?): return try self.fail(cause, update)
        case (.complete, let update?): return try self.complete(update)
        case (.interrupted, let update?):
            try self.db.run(
                "UPDATE update_record SET interrupted = 1 WHERE device = ? AND type = ?",
                [self.device, self.type.rawValue]
            )
            try self.append(UpdateHistoryEntry.interrupted, of: update)
            return .interrupted(update.facts.state)
        case (.unrelated, _): return .unrelated
        case (.flag(let flag), _): return try self.flag(flag, update)
        case (_, nil): return try self.flag(.noUpdate, nil)
        }
    }

    private func flag(_ flag: ReportFlag, _ update: KnownUpdate?) throws -> StateReportResult {
        if let state = self.report.state { try self.append(state, of: update, flag: flag) }
        return .flagged(flag)
    }

    /// Takes over what the report says the device runs, if that is news.
    private func noteInstalled(after before: ReportedVersion) throws {
        guard let running = UpdateRules.news(in: self.report, after: before) else { return }
        try self.statements.installed.run(self.db) { arguments in
            try arguments.add(self.device)
            try arguments.add(self.type.rawValue)
            try arguments.add(running.title)
            try arguments.add(running.version)
            try arguments.add(self.now.rawValue)
            try arguments.add(self.report.words)
        }
    }

    private func enter(
        _ state: OtaUpdateState,
        of update: KnownUpdate,
        runningBefore: ReportedVersion,
        isNewAttempt: Bool = false
    ) throws {
        try self.statements.enter(
            state,
            self.device,
            self.type,
            at: self.report.timestamp,
            now: self.now,
            progress: self.report.percent,
            self.report.failure,
            isNewAttempt: isNewAttempt,
            self.db
        )
        if state == .updating {
            let former = UpdateRules.former(to: update.facts.target, in: self.report, after: runningBefore)
            try self.statements.former.run(self.db) { arguments in
                try arguments.add(former.title)
                try arguments.add(former.version)
                try arguments.add(self.device)
                try arguments.add(self.type.rawValue)
            }
        }
        try self.append(state.rawValue, of: update, error: self.report.failure)
        if self.report.state != state.rawValue { try self.showInSeries(state) }
    }

    /// Ends the update as FAILED although the device reports UPDATED.
    private func fail(_ cause: UpdateCause, _ update: KnownUpdate) throws -> StateReportResult {
        let reason = UpdateRules.failure(of: update.facts.target, running: self.report.running)
        try self.statements.enter(
            .failed,
            self.device,
            self.type,
            at: self.report.timestamp,
            now: self.now,
            progress: nil,
            reason,
            self.db
        )
        try self.db.run(
            "UPDATE update_record SET failure_cause = ?, error_class = ? WHERE device = ? AND type = ?",
            [cause.rawValue, cause.errorClass?.rawValue, self.device, self.type.rawValue]
        )
        try self.append(OtaUpdateState.failed.rawValue, of: update, error: reason, cause: cause)
        try self.showInSeries(.failed, error: reason)
        return .recorded(.failed, cause: cause, reason: reason)
    }

    /// Puts a state that the device did not report into its series, behind what it did report.
    private func showInSeries(_ state: OtaUpdateState, error: String? = nil) throws {
        // A device's clock may be ahead.
        let time = max(self.serverTime(), self.report.timestamp.adding(.milliseconds(1)))
        try self.statements.insertPoint(
            self.device,
            self.type.stateKey,
            time,
            .string(state.rawValue),
            self.db
        )
        guard let error else { return }
        try self.statements.insertPoint(self.device, self.type.errorKey, time, .string(error), self.db)
    }

    /// Takes over what a report adds to an update that stays in its state.
    private func complete(_ update: KnownUpdate) throws -> StateReportResult {
        let state = update.facts.state
        guard
            let completion = UpdateRules.completion(
                of: state,
                by: self.report,
                progress: update.progress,
                error: update.error
            )
        else { return .duplicate(state) }
        try self.statements.completion.run(self.db) { arguments in
            try arguments.add(completion.progress)
            try arguments.add(completion.error)
            try arguments.add(self.now.rawValue)
            try arguments.add(self.device)
            try arguments.add(self.type.rawValue)
        }
        return .recorded(state)
    }

    private func append(
        _ state: String,
        of update: KnownUpdate?,
        error: String? = nil,
        cause: UpdateCause? = nil,
        flag: ReportFlag? = nil
    ) throws {
        try self.statements.appendHistory(
            self.device,
            self.type,
            state,
            of: update?.facts.target,
            at: self.report.timestamp,
            error: flag == nil ? error : self.report.failure,
            cause: cause,
            flag: flag,
            self.db
        )
    }
}

/// An update as far as a report needs it.
struct KnownUpdate {
    var facts: UpdateFacts
    var progress: Int64?
    var error: String?
}

extension DeviceStatements {
    /// The update of a device and what is known of the device.
    func known(
        of device: Int64,
        _ type: OtaPackageType,
        _ db: Database
    ) throws -> (update: KnownUpdate?, device: DeviceFacts) {
        let read = try self.reportFacts.row(db) { arguments in
            try arguments.add(device)
            try arguments.add(type.rawValue)
        } read: { columns in
            let facts = DeviceFacts(
                installed: ReportedVersion(title: columns.text(11), version: columns.text(12)),
                given: columns.identifier(13).map(OtaPackageId.init)
            )
            guard let text = columns.text(0) else { return (update: KnownUpdate?.none, device: facts) }
            guard let state = OtaUpdateState(rawValue: text) else {
                throw NodeError(.internalError, "the database holds an unknown 'state'; check the store")
            }
            let update = UpdateFacts(
                state: state,
                failureCause: columns.text(1).flatMap(UpdateCause.init(rawValue:)),
                packageId: columns.identifier(2).map(OtaPackageId.init),
                target: ReportedVersion(title: columns.text(3), version: columns.text(4)),
                queuedTime: Timestamp(milliseconds: columns.integer(5)),
                assignedTime: Timestamp(milliseconds: columns.integer(6)),
                isNotified: state != .queued && columns.integer(16) == 0,
                isServed: columns.integer(7) != 0,
                isInterrupted: columns.integer(8) != 0,
                former: ReportedVersion(title: columns.text(9), version: columns.text(10))
            )
            return (
                update: KnownUpdate(facts: update, progress: columns.integerIfPresent(14), error: columns.text(15)),
                device: facts
            )
        }
        guard let read else { throw NodeError(.internalError, "a query that always has a row had none") }
        return read
    }

    /// Puts a record into its next state.
    func enter(
        _ state: OtaUpdateState,
        _ device: Int64,
        _ type: OtaPackageType,
        at time: Timestamp,
        now: Timestamp,
        progress: Int?,
        _ error: String?,
        isNewAttempt: Bool = false,
        _ db: Database
    ) throws {
        try (isNewAttempt ? self.beginningAttempt : self.entering(state)).run(db) { arguments in
            try arguments.add(state.rawValue)
            try arguments.add(time.rawValue)
            try arguments.add(now.rawValue)
            try arguments.add(state == .updated ? 100 : progress.map(Int64.init))
            try arguments.add(state == .failed ? error : nil)
            try arguments.add(device)
            try arguments.add(type.rawValue)
        }
    }

    /// Makes a QUEUED update INITIATED, with its history and time series; any other stays in its state.
    ///
    /// Until a session takes the push that follows, it counts as missed.
    ///
    /// - Returns: Whether the device is to be notified; not of an update that the server ended.
    func initiate(_ device: Int64, _ type: OtaPackageType, at now: Timestamp, _ db: Database) throws -> Bool {
        let facts = try self.known(of: device, type, db).update?.facts
        switch UpdateRules.judgePush(of: facts, at: now) {
        case .obsolete: return false
        case .notify:
            try self.missedPush.run(db) { arguments in
                try arguments.add(device)
                try arguments.add(type.rawValue)
            }
        case .initiate(let time):
            let state = OtaUpdateState.initiated.rawValue
            try self.enter(.initiated, device, type, at: time, now: now, progress: nil, nil, db)
            try self.appendHistory(device, type, state, of: facts?.target, at: time, db)
            try self.insertPoint(device, type.stateKey, time, .string(state), db)
        }
        return true
    }

    func appendHistory(
        _ device: Int64,
        _ type: OtaPackageType,
        _ state: String,
        of target: ReportedVersion?,
        at time: Timestamp,
        error: String? = nil,
        cause: UpdateCause? = nil,
        flag: ReportFlag? = nil,
        _ db: Database
    ) throws {
        try self.historyEntry.run(db) { arguments in
            try arguments.add(device)
            try arguments.add(type.rawValue)
            try arguments.add(target?.title ?? "")
            try arguments.add(target?.version ?? "")
            try arguments.add(state.limited(to: UpdateRules.stateLengthMax))
            try arguments.add(time.rawValue)
            try arguments.add(flag == nil)
            try arguments.add(error)
            try arguments.add(cause?.rawValue)
            try arguments.add(flag?.rawValue)
        }
    }
}
