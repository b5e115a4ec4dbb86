import NodeKit
import OTA
import Testing

@Suite struct UpdateCommandRulesTests {
    static let underWay: [OtaUpdateState] = [.queued, .initiated, .downloading, .downloaded, .verified, .updating]

    private static func standing(
        _ state: OtaUpdateState,
        cause: UpdateCause? = nil,
        isRetryScheduled: Bool = false,
        isCurrent: Bool = true
    ) -> UpdateStanding {
        UpdateStanding(
            state: state,
            failureCause: cause,
            activeTime: Timestamp(milliseconds: 7),
            retryTime: isRetryScheduled ? Timestamp(milliseconds: 9) : nil,
            isCurrent: isCurrent
        )
    }

    @Test("only what failed for the package that the device should have is retried")
    func retry() {
        for state in OtaUpdateState.allCases {
            #expect(UpdateRules.fits(.retry, Self.standing(state)) == (state == .failed))
            #expect(!UpdateRules.fits(.retry, Self.standing(state, isCurrent: false)))
            #expect(UpdateRules.queuesAgain(.retry, state))
        }
        #expect(UpdateRules.fits(.retry, Self.standing(.failed, cause: .cancelled)))
        #expect(!UpdateRules.mayScheduleRetry(of: Self.standing(.failed, cause: .cancelled)))
        #expect(UpdateRules.mayScheduleRetry(of: Self.standing(.failed, cause: .timedOut)))
        #expect(!UpdateRules.mayScheduleRetry(of: Self.standing(.failed, isCurrent: false)))
        #expect(!UpdateRules.mayScheduleRetry(of: Self.standing(.updating)))
    }

    @Test("what is under way is cancelled, and so is a retry that waits")
    func cancel() {
        for state in OtaUpdateState.allCases {
            for isCurrent in [true, false] {
                let isUnderWay = Self.underWay.contains(state)
                #expect(UpdateRules.fits(.cancel, Self.standing(state, isCurrent: isCurrent)) == isUnderWay)
                #expect(UpdateRules.fits(.cancel, Self.standing(state, isRetryScheduled: true)))
            }
            #expect(!UpdateRules.queuesAgain(.cancel, state))
        }
    }

    @Test("a device is notified again of the package that it should have, and begins anew if the update is over")
    func resend() {
        for state in OtaUpdateState.allCases {
            #expect(UpdateRules.fits(.resend(includesUpdated: false), Self.standing(state)) == (state != .updated))
            #expect(UpdateRules.fits(.resend(includesUpdated: true), Self.standing(state)))
            for command in [UpdateCommand.resend(includesUpdated: false), .resend(includesUpdated: true)] {
                #expect(!UpdateRules.fits(command, Self.standing(state, isCurrent: false)))
                #expect(UpdateRules.queuesAgain(command, state) == !Self.underWay.contains(state))
            }
        }
    }

    @Test("the server ends an update that is under way and did not change meanwhile")
    func end() {
        for state in OtaUpdateState.allCases {
            let isUnderWay = Self.underWay.contains(state)
            #expect(UpdateRules.mayEnd(Self.standing(state), ifUnmovedSince: nil) == isUnderWay)
            #expect(
                UpdateRules.mayEnd(Self.standing(state), ifUnmovedSince: Timestamp(milliseconds: 7)) == isUnderWay
            )
            #expect(!UpdateRules.mayEnd(Self.standing(state), ifUnmovedSince: Timestamp(milliseconds: 6)))
        }
    }

    @Test("a device may be busy from the push that it took until the end of its update")
    func busy() {
        for state in OtaUpdateState.allCases {
            let mayHaveBegun = Self.underWay.contains(state) && state != .queued
            #expect(UpdateRules.mayBeBusy(in: state, isPushMissed: false) == mayHaveBegun)
            #expect(UpdateRules.mayBeBusy(in: state, isPushMissed: true) == (mayHaveBegun && state != .initiated))
        }
    }

    private static func facts(_ state: OtaUpdateState, _ cause: UpdateCause? = nil) -> UpdateFacts {
        UpdateFacts(
            state: state,
            failureCause: cause,
            packageId: .random(),
            target: ReportedVersion(title: "fw", version: "1"),
            queuedTime: Timestamp(milliseconds: 1000)
        )
    }

    @Test(
        "a push makes a QUEUED update INITIATED, later than it was QUEUED, and notifies of any that the server did not end"
    )
    func push() {
        let now = Timestamp(milliseconds: 5000)
        #expect(UpdateRules.judgePush(of: nil, at: now) == .notify)
        #expect(UpdateRules.judgePush(of: Self.facts(.queued), at: now) == .initiate(now))
        for time in [999, 1000] {
            let verdict = UpdateRules.judgePush(of: Self.facts(.queued), at: Timestamp(milliseconds: Int64(time)))
            #expect(verdict == .initiate(Timestamp(milliseconds: 1001)))
        }
        for state in OtaUpdateState.allCases where state != .queued {
            #expect(UpdateRules.judgePush(of: Self.facts(state), at: now) == .notify)
        }
        for cause in [UpdateCause.cancelled, .timedOut, .rolledBack, .otherVersion] {
            #expect(UpdateRules.judgePush(of: Self.facts(.failed, cause), at: now) == .obsolete)
        }
    }
}

@Suite struct UpdateRecordingRulesTests {
    private static let (old, target) = (
        ReportedVersion(title: "fw", version: "1"), ReportedVersion(title: "fw", version: "2")
    )

    private static func report(
        _ state: String? = nil,
        runs running: ReportedVersion = ReportedVersion(),
        isCurrent: Bool = true,
        progress: Int? = nil,
        error: String? = nil,
        source: StateReport.Source = .telemetry
    ) -> StateReport {
        StateReport(
            type: .firmware,
            state: state,
            progress: progress,
            error: error,
            running: running,
            isCurrent: isCurrent,
            timestamp: Timestamp(milliseconds: 1),
            source: source
        )
    }

    @Test(
        "what a device says it runs is news if it differs, and cannot be an echo of what was pushed",
        arguments: [
            (report(runs: target), target), (report(runs: old), nil), (report(), nil),
            (report(runs: target, isCurrent: false), nil),
            (report("DOWNLOADING", runs: target, isCurrent: false), target),
            (report(runs: target, isCurrent: false, source: .attributes), target),
            (report(runs: ReportedVersion(version: "2")), target),
            (report(runs: ReportedVersion(version: "1")), nil),
        ] as [(StateReport, ReportedVersion?)]
    )
    func news(report: StateReport, expected: ReportedVersion?) {
        #expect(UpdateRules.news(in: report, after: Self.old) == expected)
    }

    @Test("a device ran before what it says with UPDATING, unless that is the target")
    func former() {
        func former(_ running: ReportedVersion, after known: ReportedVersion) -> ReportedVersion {
            UpdateRules.former(to: Self.target, in: Self.report("UPDATING", runs: running), after: known)
        }
        let other = ReportedVersion(title: "fw", version: "0")
        #expect(former(Self.old, after: other) == Self.old)
        #expect(former(Self.target, after: Self.old) == Self.old)
        #expect(former(ReportedVersion(), after: Self.old) == Self.old)
        #expect(former(ReportedVersion(), after: ReportedVersion()).isEmpty)
    }

    @Test("a report adds progress to an update under way, and an error to one that failed")
    func completion() {
        func completion(_ state: OtaUpdateState, _ report: StateReport) -> [String]? {
            UpdateRules.completion(of: state, by: report, progress: 10, error: "old")
                .map { [$0.progress.map { "\($0)" } ?? "", $0.error ?? ""] }
        }
        let report = Self.report(progress: 20, error: "new")
        #expect(completion(.downloading, report) == ["20", "old"])
        #expect(completion(.failed, report) == ["10", "new"])
        #expect(completion(.updated, report) == nil)
        #expect(completion(.downloading, Self.report(progress: 10, error: "new")) == nil)
        #expect(completion(.failed, Self.report(progress: 99)) == nil)
    }

    @Test("progress is within 0 and 100, and an error is as long as is kept")
    func limits() {
        #expect([-1, 0, 50, 100, 101].map { Self.report(progress: $0).percent } == [0, 0, 50, 100, 100])
        #expect(Self.report().percent == nil && Self.report().failure == nil)
        let longest = String(repeating: "x", count: UpdateRules.errorLengthMax)
        #expect(Self.report(error: longest).failure == longest)
        #expect(Self.report(error: longest + "y").failure == longest)
    }

    @Test("a final or unknown state ends a download, and what was served is looked at before a state that needs it")
    func downloads() {
        for state in OtaUpdateState.allCases {
            #expect(Self.report(state.rawValue).endsDownload == state.isFinal)
            #expect(Self.report(state.rawValue).needsServed == (state.isFinal || state == .downloading))
        }
        #expect(Self.report("IDLE").endsDownload && Self.report("IDLE").needsServed)
        #expect(!Self.report().endsDownload && Self.report().needsServed)
    }

    @Test("readers of events get to know what changed an update")
    func events() {
        #expect(StateReportResult.recorded(.queued).isEvent && StateReportResult.interrupted(.updating).isEvent)
        #expect(!StateReportResult.duplicate(.queued).isEvent && !StateReportResult.unrelated.isEvent)
        #expect(!StateReportResult.flagged(.noUpdate).isEvent)
    }

    @Test("the sentence of a failure names both versions")
    func failure() {
        #expect(
            UpdateRules.failure(of: Self.target, running: Self.old)
                == "the device runs 'fw' '1' after the installation, not 'fw' '2'"
        )
    }

    @Test("bytes count for an update to their package that is not UPDATED, and not those from before its assignment")
    func served() {
        let (package, other) = (OtaPackageId.random(), OtaPackageId.random())
        func verdict(
            at time: Int64? = nil,
            target: OtaPackageId?,
            _ state: OtaUpdateState?
        ) -> UpdateRules.ServedVerdict {
            UpdateRules.judgeServed(
                package,
                at: time.map(Timestamp.init(milliseconds:)),
                target: target,
                state: state,
                queuedTime: state == nil ? nil : Timestamp(milliseconds: 100)
            )
        }
        for state in OtaUpdateState.allCases {
            #expect(verdict(target: package, state) == (state == .updated ? .ignore : .count))
            #expect(verdict(target: other, state) == .given)
        }
        #expect(verdict(target: nil, nil) == .given)
        #expect(verdict(at: 99, target: package, .queued) == .ignore)
        #expect(verdict(at: 99, target: other, .queued) == .ignore)
        #expect(verdict(at: 100, target: package, .queued) == .count)
        #expect(verdict(at: 99, target: nil, nil) == .given)
    }

    @Test("served bytes never set progress back, nor that of an update that is over")
    func progress() {
        func progress(_ state: OtaUpdateState, _ known: Int64?, _ bytes: Int64) -> Int64? {
            UpdateRules.progress(of: state, known: known, served: bytes, of: 300)
        }
        #expect(progress(.downloading, nil, 0) == 0)
        #expect(progress(.downloading, nil, 299) == 99)
        #expect(progress(.downloading, 40, 30) == 40)
        #expect(progress(.queued, 40, 300) == 100)
        #expect(progress(.failed, 40, 300) == 40 && progress(.updated, nil, 300) == nil)
    }
}
