import NodeKit
import OTA
import Testing

/// A report, the update that it meets, and what comes of it.
struct RuleCase: Sendable, CustomTestStringConvertible {
    var title: String
    var report: StateReport
    var update: UpdateFacts?
    var device = DeviceFacts()
    var verdict: UpdateVerdict

    var testDescription: String { self.title }
}

/// `fw 2` is the target and `fw 1` what the device ran before, in all cases.
@Suite struct UpdateRulesTests {
    private static let old = ReportedVersion(title: "fw", version: "1")
    private static let new = ReportedVersion(title: "fw", version: "2")
    private static let other = ReportedVersion(title: "fw", version: "3")
    private static let unknown = ReportedVersion()
    private static let id = OtaPackageId.random()
    private static let queued = Timestamp(milliseconds: 1_700_000_000_000)

    private static func report(
        _ state: String?,
        runs running: ReportedVersion = unknown,
        isCurrent: Bool = true,
        about target: ReportedVersion = unknown,
        progress: Int? = nil,
        late milliseconds: Int64? = nil
    ) -> StateReport {
        StateReport(
            type: .firmware,
            state: state,
            progress: progress,
            running: running,
            isCurrent: isCurrent,
            target: target,
            timestamp: Self.queued,
            deviceTime: milliseconds.map { Timestamp(milliseconds: Self.queued.rawValue - $0) }
        )
    }

    private static func update(
        _ state: OtaUpdateState,
        _ cause: UpdateCause? = nil,
        isServed: Bool = false,
        isNotified: Bool = false,
        isInterrupted: Bool = false,
        assignedEarlier milliseconds: Int64 = 0,
        former: ReportedVersion = unknown
    ) -> UpdateFacts {
        UpdateFacts(
            state: state,
            failureCause: cause,
            packageId: Self.id,
            target: Self.new,
            queuedTime: Self.queued,
            assignedTime: Timestamp(milliseconds: Self.queued.rawValue - milliseconds),
            isNotified: isNotified,
            isServed: isServed,
            isInterrupted: isInterrupted,
            former: former
        )
    }

    private static func knows(_ installed: ReportedVersion, given: OtaPackageId? = nil) -> DeviceFacts {
        DeviceFacts(installed: installed, given: given)
    }

    private static let unfinished: [OtaUpdateState] = [
        .queued, .initiated, .downloading, .downloaded, .verified, .updating,
    ]

    @Test(
        "UPDATED counts if the device runs the target, in this report or as it last said",
        .bug(id: "T1.1"),
        arguments: Self.unfinished
    )
    func updatedOfTarget(state: OtaUpdateState) {
        func judge(_ report: StateReport, _ known: ReportedVersion = Self.unknown) -> UpdateVerdict {
            UpdateRules.judge(report, of: Self.update(state), Self.knows(known))
        }
        #expect(judge(Self.report("UPDATED", runs: Self.new)) == .enter(.updated))
        #expect(judge(Self.report("UPDATED", runs: Self.new, isCurrent: false)) == .enter(.updated))
        #expect(judge(Self.report("UPDATED", runs: Self.new), Self.old) == .enter(.updated))
        #expect(judge(Self.report("UPDATED"), Self.new) == .enter(.updated))
        // A member that was never reported is not compared.
        #expect(judge(Self.report("UPDATED", runs: ReportedVersion(version: "2"))) == .enter(.updated))
        #expect(judge(Self.report("UPDATED"), ReportedVersion(version: "2")) == .enter(.updated))
        // Members that were reported apart belong together.
        #expect(judge(Self.report("UPDATED", runs: ReportedVersion(version: "2")), Self.old) == .enter(.updated))
        #expect(
            judge(
                Self.report("UPDATED", runs: ReportedVersion(version: "2")),
                ReportedVersion(title: "x", version: "1")
            )
                == .flag(.otherVersion)
        )
    }

    @Test("versions are compared as characters", .bug(id: "T1.1"), arguments: ["2.0", "02", "2 ", "²", "\u{62}2", ""])
    func characters(version: String) {
        let report = Self.report("UPDATED", runs: ReportedVersion(title: "fw", version: version))
        #expect(UpdateRules.judge(report, of: Self.update(.initiated), DeviceFacts()) == .flag(.otherVersion))
    }

    @Test("two spellings of a letter are two titles", .bug(id: "T1.1"))
    func canonicalEquivalence() {
        #expect(ReportedVersion(title: "caf\u{E9}") != ReportedVersion(title: "cafe\u{301}"))
        #expect(!ReportedVersion(title: "caf\u{E9}").fits(ReportedVersion(title: "cafe\u{301}", version: "1")))
    }

    private static let cases: [RuleCase] = [
        // The boot report of a device that has not begun.
        RuleCase(
            title: "boot report before the device heard of the update",
            report: report("UPDATED", runs: old),
            update: update(.queued),
            verdict: .flag(.otherVersion)
        ),
        RuleCase(
            title: "boot report before the download",
            report: report("UPDATED", runs: old),
            update: update(.initiated),
            verdict: .flag(.otherVersion)
        ),
        RuleCase(
            title: "boot report without an assignment",
            report: report("UPDATED", runs: old),
            update: nil,
            verdict: .flag(.noUpdate)
        ),
        RuleCase(
            title: "version alone without an assignment",
            report: report(nil, runs: old),
            update: nil,
            verdict: .unrelated
        ),
        // No version was ever reported.
        RuleCase(
            title: "UPDATED without a byte",
            report: report("UPDATED"),
            update: update(.initiated),
            verdict: .flag(.notServed)
        ),
        RuleCase(
            title: "UPDATED after all bytes",
            report: report("UPDATED"),
            update: update(.updating, isServed: true),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "UPDATED with the title alone",
            report: report("UPDATED", runs: ReportedVersion(title: "fw")),
            update: update(.updating),
            verdict: .flag(.notServed)
        ),
        RuleCase(
            title: "bare UPDATED of a device that last ran the old version, after all bytes",
            report: report("UPDATED"),
            update: update(.updating, isServed: true),
            device: knows(old),
            verdict: .flag(.otherVersion)
        ),
        RuleCase(
            title: "UPDATED again",
            report: report("UPDATED"),
            update: update(.updated),
            device: knows(old),
            verdict: .complete
        ),
        RuleCase(
            title: "another version after the end",
            report: report("UPDATED", runs: old),
            update: update(.updated),
            device: knows(new),
            verdict: .flag(.otherVersion)
        ),
        // The target's version without a state.
        RuleCase(
            title: "current_fw_* of the target",
            report: report(nil, runs: new),
            update: update(.initiated),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "title and version of the target apart",
            report: report(nil, runs: ReportedVersion(version: "2")),
            update: update(.initiated),
            device: knows(ReportedVersion(title: "fw")),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "the target's version of a device that never said its title",
            report: report(nil, runs: ReportedVersion(version: "2")),
            update: update(.initiated),
            verdict: .unrelated
        ),
        RuleCase(
            title: "fw_* of the target alone may be an echo",
            report: report(nil, runs: new, isCurrent: false),
            update: update(.initiated),
            verdict: .unrelated
        ),
        RuleCase(
            title: "fw_* of the target alone after all bytes",
            report: report(nil, runs: new, isCurrent: false),
            update: update(.updating, isServed: true),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "IDLE with the target's version",
            report: report("IDLE", runs: new),
            update: update(.initiated),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "the old version alone",
            report: report(nil, runs: old),
            update: update(.updating),
            verdict: .unrelated
        ),
        RuleCase(
            title: "the target's version after a cancellation",
            report: report(nil, runs: new),
            update: update(.failed, .cancelled),
            verdict: .unrelated
        ),
        // After the installation.
        RuleCase(
            title: "the former version after UPDATING",
            report: report("UPDATED", runs: old),
            update: update(.updating, former: old),
            device: knows(old),
            verdict: .fail(.rolledBack)
        ),
        RuleCase(
            title: "a version after UPDATING of a device that never said one",
            report: report("UPDATED", runs: old),
            update: update(.updating),
            verdict: .fail(.rolledBack)
        ),
        RuleCase(
            title: "neither version after UPDATING",
            report: report("UPDATED", runs: other),
            update: update(.updating, former: old),
            device: knows(old),
            verdict: .fail(.otherVersion)
        ),
        RuleCase(
            title: "neither version after UPDATING, reported apart before",
            report: report("UPDATED", runs: other),
            update: update(.updating, former: old),
            device: knows(other),
            verdict: .fail(.otherVersion)
        ),
        RuleCase(
            title: "the target after a rollback",
            report: report("UPDATED", runs: new),
            update: update(.failed, .rolledBack),
            device: knows(old),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "current_fw_* of the target after another version",
            report: report(nil, runs: new),
            update: update(.failed, .otherVersion),
            device: knows(other),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "the former version again after a rollback",
            report: report("UPDATED", runs: old),
            update: update(.failed, .rolledBack),
            device: knows(old),
            verdict: .flag(.otherVersion)
        ),
        RuleCase(
            title: "another attempt after a rollback",
            report: report("DOWNLOADING", runs: old),
            update: update(.failed, .rolledBack),
            device: knows(old),
            verdict: .beginAttempt
        ),
        // Restarts in the middle.
        RuleCase(
            title: "boot report in DOWNLOADING",
            report: report("UPDATED", runs: old),
            update: update(.downloading),
            verdict: .interrupted
        ),
        RuleCase(
            title: "boot report in VERIFIED",
            report: report("UPDATED", runs: other),
            update: update(.verified),
            verdict: .interrupted
        ),
        RuleCase(
            title: "second boot report",
            report: report("UPDATED", runs: old),
            update: update(.downloading, isInterrupted: true),
            verdict: .complete
        ),
        RuleCase(
            title: "DOWNLOADING after an interruption",
            report: report("DOWNLOADING", runs: old),
            update: update(.verified, isInterrupted: true),
            verdict: .beginAttempt
        ),
        RuleCase(
            title: "DOWNLOADED after an interruption",
            report: report("DOWNLOADED"),
            update: update(.downloading, isInterrupted: true),
            verdict: .enter(.downloaded)
        ),
        // What came before is not about the target.
        RuleCase(
            title: "a state that names another package",
            report: report("DOWNLOADED", about: old),
            update: update(.downloading),
            verdict: .flag(.otherPackage)
        ),
        RuleCase(
            title: "a state that names the target, by a device that was given another",
            report: report("DOWNLOADED", about: new, late: 10),
            update: update(.downloading),
            device: knows(old, given: .random()),
            verdict: .enter(.downloaded)
        ),
        RuleCase(
            title: "a state of a device that was given another package",
            report: report("VERIFIED"),
            update: update(.initiated),
            device: knows(old, given: .random()),
            verdict: .flag(.otherPackage)
        ),
        RuleCase(
            title: "progress of a device that was given another package",
            report: report(nil, progress: 5),
            update: update(.initiated),
            device: knows(old, given: .random()),
            verdict: .flag(.otherPackage)
        ),
        RuleCase(
            title: "bare UPDATED of a device that was given another package",
            report: report("UPDATED"),
            update: update(.initiated, isServed: true),
            device: knows(unknown, given: .random()),
            verdict: .flag(.otherPackage)
        ),
        RuleCase(
            title: "a state of a device that was given the target",
            report: report("VERIFIED"),
            update: update(.initiated),
            device: knows(old, given: id),
            verdict: .enter(.verified)
        ),
        RuleCase(
            title: "a failure from before the assignment",
            report: report("FAILED", late: 1),
            update: update(.queued),
            verdict: .flag(.beforeAssignment)
        ),
        RuleCase(
            title: "a failure at the assignment",
            report: report("FAILED", late: 0),
            update: update(.queued),
            verdict: .enter(.failed)
        ),
        RuleCase(
            title: "the target's version from before the assignment: the version decides",
            report: report("UPDATED", runs: new, late: 1000),
            update: update(.queued),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "DOWNLOADING of a device that was given another package and notified of the target since",
            report: report("DOWNLOADING"),
            update: update(.initiated, isNotified: true),
            device: knows(old, given: .random()),
            verdict: .enter(.downloading)
        ),
        RuleCase(
            title: "DOWNLOADING of a device that was given another package and not notified",
            report: report("DOWNLOADING"),
            update: update(.initiated),
            device: knows(old, given: .random()),
            verdict: .flag(.otherPackage)
        ),
        RuleCase(
            title: "a kept boot report from before the assignment, sent after UPDATING",
            report: report("UPDATED", runs: old, late: 1),
            update: update(.updating, former: old),
            device: knows(old),
            verdict: .flag(.beforeAssignment)
        ),
        RuleCase(
            title: "UPDATED from between assignment and retry",
            report: report("UPDATED", late: 5),
            update: update(.queued, isServed: true, assignedEarlier: 10),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "a failure from between assignment and retry",
            report: report("FAILED", late: 5),
            update: update(.queued, assignedEarlier: 10),
            verdict: .flag(.beforeAssignment)
        ),
        // What the server ended.
        RuleCase(
            title: "UPDATED after a cancellation",
            report: report("UPDATED", runs: new),
            update: update(.failed, .cancelled),
            verdict: .flag(.cancelled)
        ),
        RuleCase(
            title: "a state after a time-out",
            report: report("VERIFIED"),
            update: update(.failed, .timedOut),
            verdict: .enter(.verified)
        ),
        RuleCase(
            title: "bare UPDATED after a time-out and all bytes",
            report: report("UPDATED"),
            update: update(.failed, .timedOut, isServed: true),
            verdict: .enter(.updated)
        ),
        RuleCase(
            title: "bare UPDATED after a failure and all bytes",
            report: report("UPDATED"),
            update: update(.failed, isServed: true),
            verdict: .flag(.outOfOrder)
        ),
    ]

    @Test("a report is believed as far as it fits", .bug(id: "T1"), arguments: Self.cases)
    func table(_ rule: RuleCase) {
        #expect(UpdateRules.judge(rule.report, of: rule.update, rule.device) == rule.verdict)
    }

    @Test(
        "the old version beside any state of a healthy update is never a rollback",
        .bug(id: "T1.4"),
        arguments: ["DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "FAILED", "IDLE", nil]
    )
    func oldVersionOnTheWay(state: String?) {
        for present in Self.unfinished {
            let update = Self.update(present, former: Self.old)
            let verdict = UpdateRules.judge(Self.report(state, runs: Self.old), of: update, Self.knows(Self.old))
            if case .fail = verdict { Issue.record("\(present) became \(verdict)") }
            if case .interrupted = verdict { Issue.record("\(present) became \(verdict)") }
        }
    }

    @Test("a bare UPDATED never fails an update", .bug(id: "T1.4"), arguments: Self.unfinished)
    func bareUpdated(state: OtaUpdateState) {
        for known in [Self.old, Self.other, Self.unknown] {
            let update = Self.update(state, former: Self.old)
            let verdict = UpdateRules.judge(Self.report("UPDATED"), of: update, Self.knows(known))
            #expect(verdict == .flag(known.isEmpty ? .notServed : .otherVersion))
        }
    }

    @Test("a package is installed if both title and version are known to be its own", .bug(id: "T1.3"))
    func installed() {
        #expect(UpdateRules.isInstalled(Self.new, by: Self.new))
        #expect(!UpdateRules.isInstalled(Self.new, by: Self.old))
        #expect(!UpdateRules.isInstalled(Self.new, by: ReportedVersion(version: "2")))
        #expect(!UpdateRules.isInstalled(Self.new, by: Self.unknown))
    }
}

@Suite struct DeviceClockTests {
    private static let arrival = Timestamp(milliseconds: 1_800_000_000_000)

    private static func stamp(_ ago: Int64) -> Timestamp { Timestamp(milliseconds: Self.arrival.rawValue - ago) }

    /// How long ago each report was made.
    private static func ages(_ stamps: [Timestamp?], _ clock: inout DeviceClock) -> [Int64?] {
        clock.times(of: stamps, arrival: Self.arrival).map { $0.map { Self.arrival.rawValue - $0.rawValue } }
    }

    @Test("the smallest delay of the other reports is the error of the clock", .bug(id: "T1.5"))
    func error() {
        var clock = DeviceClock()
        // A single report has nothing to be compared with.
        #expect(Self.ages([Self.stamp(5000)], &clock) == [5000])
        clock = DeviceClock()
        // An hour late, one report of now and one that was kept for a minute.
        #expect(Self.ages([Self.stamp(3_600_000), Self.stamp(3_660_000)], &clock) == [-60_000, 60_000])
        // The session knows by now.
        #expect(Self.ages([Self.stamp(3_600_000)], &clock) == [0])
        #expect(Self.ages([nil, Self.stamp(3_700_000)], &clock) == [nil, 100_000])
        clock = DeviceClock()
        // An hour ahead.
        _ = Self.ages([Self.stamp(-3_600_000)], &clock)
        #expect(Self.ages([Self.stamp(-3_600_000 + 10)], &clock) == [10])
    }

    @Test(
        "a time before 2020, or more than a day ahead, counts as arrival",
        .bug(id: "T1.5"),
        arguments: [
            0, 1, -1, Int64.min, Int64.max, DeviceClock.earliest.rawValue - 1,
            arrival.rawValue + DeviceClock.aheadMax + 1,
        ]
    )
    func senseless(milliseconds: Int64) {
        var clock = DeviceClock()
        #expect(Self.ages([Timestamp(milliseconds: milliseconds)], &clock) == [nil])
        #expect(clock.errorMilliseconds == nil)
    }

    @Test("the first moment of 2020 is a time", .bug(id: "T1.5"))
    func earliest() {
        var clock = DeviceClock()
        #expect(clock.times(of: [DeviceClock.earliest], arrival: Self.arrival) == [DeviceClock.earliest])
    }
}
