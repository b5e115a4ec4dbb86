import GRDB
import NodeKit
import OTA
import Testing

@testable import Store

/// What the store says in SQL of a fleet is what the rules say of one device, in all cases that there are.
@Suite struct RuleAgreementTests {
    /// An update as it may stand, and what its device has of its own.
    private struct Case {
        var state: OtaUpdateState
        var isRetryDue: Bool
        var own: OtaPackageId?
        var target: OtaPackageId?
        var device: Device

        func standing(ofProfile: OtaPackageId?) -> UpdateStanding {
            let effective = AssignmentRules.effective(own: self.own, ofProfile: ofProfile)
            return UpdateStanding(
                state: self.state,
                retryTime: self.isRetryDue ? Timestamp(milliseconds: 5) : nil,
                isCurrent: self.target != nil && self.target == effective
            )
        }
    }

    /// A fleet with every case, of a profile that has the first of three packages.
    private static func withCases(
        _ body: (StoreFixture, DeviceProfile, [OtaPackage], [Case]) async throws -> Void
    ) async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            var packages: [OtaPackage] = []
            for version in ["1", "2", "3"] { packages.append(try await fixture.package("fw", version, in: profile.id)) }
            try await fixture.assign(packages[0].id, to: profile.id)
            let ids: [OtaPackageId?] = [nil, packages[0].id, packages[1].id]
            var cases: [Case] = []
            for state in OtaUpdateState.allCases {
                for isRetryDue in [false, true] {
                    for own in ids {
                        for target in ids {
                            let device = try await fixture.device("d\(cases.count)", in: profile.id)
                            cases.append(
                                Case(state: state, isRetryDue: isRetryDue, own: own, target: target, device: device)
                            )
                        }
                    }
                }
            }
            try await fixture.store.write { [cases] db, effects in
                effects.allDevices = true
                for one in cases {
                    let number = try db.number(of: one.device.id)
                    let effective = AssignmentRules.effective(own: one.own, ofProfile: ids[1])
                    try db.run(
                        "UPDATE device SET firmware_id = ?, followed_firmware = ? WHERE no = ?",
                        [one.own?.uuid, effective?.uuid, number]
                    )
                    try db.run(
                        "UPDATE update_record SET state = ?, retry_time = ?, package_id = ? WHERE device = ?",
                        [one.state.rawValue, one.isRetryDue ? 5 : nil, one.target?.uuid, number]
                    )
                }
                try db.run("DELETE FROM assignment")
            }
            try await body(fixture, profile, packages, cases)
            // Updates in such states are no longer in order.
            try await fixture.store.remove { db, effects in
                effects.allDevices = true
                try db.run("DELETE FROM device")
            }
        }
    }

    /// The devices that are to be notified, by name.
    private static func notified(_ fixture: StoreFixture) async throws -> Set<String> {
        Set(try await fixture.store.assignments(after: 0, limit: 1000).map(\.device.name))
    }

    @Test("a command touches the updates of a fleet that it fits", arguments: UpdateCommand.allCases)
    func commands(command: UpdateCommand) async throws {
        try await Self.withCases { fixture, _, packages, cases in
            let fitting = cases.filter { UpdateRules.fits(command, $0.standing(ofProfile: packages[0].id)) }
            #expect(!fitting.isEmpty && fitting.count < cases.count)
            let counted = try await fixture.store.count(command, on: UpdateFilter())
            #expect(try await Self.notified(fixture).isEmpty, "counting changes nothing")
            let count = try await fixture.store.carryOut(command, on: UpdateFilter(), by: "somebody")
            #expect(count == fitting.count && counted == count)
            // A device without a package is not notified of one, and one that was not notified need not learn that it is cancelled.
            let notified = fitting.filter {
                command != .cancel || UpdateRules.mayBeNotified($0.state, wasInitiated: false)
            }
            #expect(try await Self.notified(fixture) == Set(notified.map(\.device.name)))
            for one in fitting {
                let record = try #require(try await fixture.store.updateRecord(of: one.device.id, type: .firmware))
                let isQueued = UpdateRules.queuesAgain(command, one.state) || one.state == .queued
                #expect((record.state == .queued) == (isQueued && command != .cancel))
            }
        }
    }

    @Test("a retry that is due is one that the command of a user would begin")
    func retries() async throws {
        try await Self.withCases { fixture, _, packages, cases in
            let due = cases.filter(\.isRetryDue)
            let fitting = due.filter { UpdateRules.fits(.retry, $0.standing(ofProfile: packages[0].id)) }
            let released = try await fixture.store.releaseRetries(until: fixture.clock.now, limit: 1000)
            #expect(released.count == due.count && released.next == nil)
            #expect(try await Self.notified(fixture) == Set(fitting.map(\.device.name)))
        }
    }

    @Test("a package for a profile is assigned to the devices whose effective package it becomes")
    func effective() async throws {
        try await Self.withCases { fixture, profile, packages, cases in
            for package in [packages[2].id, nil] {
                let known = try #require(try await fixture.store.findDeviceProfileById(profile.id))
                let changed = cases.filter { one in
                    AssignmentRules.effective(own: one.own, ofProfile: known.firmwareId)
                        != AssignmentRules.effective(own: one.own, ofProfile: package)
                }
                try await fixture.store.write { db, _ in try db.run("DELETE FROM assignment") }
                try await fixture.assign(package, to: profile.id)
                #expect(try await Self.notified(fixture) == Set(changed.map(\.device.name)))
                for one in cases {
                    let effective = try await fixture.store.effectivePackage(for: one.device.id, type: .firmware)
                    #expect(effective?.package.id == AssignmentRules.effective(own: one.own, ofProfile: package))
                }
            }
        }
    }

    @Test("a device that runs what it is assigned is notified if it may be busy with another package")
    func busy() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let (first, second) = (
                try await fixture.package("fw", "1", in: profile.id),
                try await fixture.package("fw", "2", in: profile.id)
            )
            try await fixture.assign(first.id, to: profile.id)
            var cases: [(device: Device, state: OtaUpdateState, isPushMissed: Bool)] = []
            for state in OtaUpdateState.allCases {
                for isPushMissed in [false, true] {
                    let device = try await fixture.device("d\(cases.count)", in: profile.id)
                    let running = ReportedVersion(title: "fw", version: "2")
                    let report = StateReport(
                        type: .firmware,
                        state: nil,
                        running: running,
                        timestamp: fixture.clock.now
                    )
                    _ = try await store.record(report, of: device.id)
                    cases.append((device, state, isPushMissed))
                }
            }
            try await store.write { [cases] db, _ in
                for one in cases {
                    try db.run(
                        "UPDATE update_record SET state = ?, push_missed = ? WHERE device = ?",
                        [one.state.rawValue, one.isPushMissed, try db.number(of: one.device.id)]
                    )
                }
            }
            try await fixture.assign(second.id, to: profile.id)
            for one in cases {
                let record = try #require(try await store.updateRecord(of: one.device.id, type: .firmware))
                let isBusy = UpdateRules.mayBeBusy(in: one.state, isPushMissed: one.isPushMissed)
                #expect(record.state == (isBusy ? .queued : .updated), "\(one.state) \(one.isPushMissed)")
            }
        }
    }

    @Test("a stored call is over in the states that the rule says")
    func calls() async throws {
        try await StoreFixture.with { fixture in
            let device = try await fixture.device(in: try await fixture.profile().id)
            for status in PersistentCall.Status.allCases {
                let call = PersistentCall(
                    device: Originator(id: device.id.uuid, name: device.name, type: "profile"),
                    createdTime: fixture.clock.now,
                    expirationTime: fixture.clock.now.adding(.seconds(60)),
                    status: status,
                    method: "m",
                    params: [:],
                    isOneWay: false,
                    timeout: .seconds(1),
                    retriesLeft: 0
                )
                try await fixture.store.addCall(call)
                let isOver = try await fixture.store.read { db in
                    try db.integer("SELECT is_over FROM rpc WHERE id = ?", [call.id.uuid])
                }
                #expect((isOver == 1) == status.isOver, "\(status)")
            }
        }
    }
}
