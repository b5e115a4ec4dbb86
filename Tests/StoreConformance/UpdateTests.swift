import NodeKit
import OTA
import Testing

@Suite struct UpdateTests {
    /// A device with an update that is queued.
    private static func withUpdate(
        _ engine: EngineUnderTest,
        _ body: (EngineFixture, Device, OtaPackage) async throws -> Void
    ) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id, bytes: Array(repeating: 7, count: 1000))
            let device = try await fixture.device(in: profile.id)
            try await fixture.assign(package.id, to: device.id)
            try await body(fixture, device, package)
        }
    }

    private static func report(
        _ state: String?,
        progress: Int? = nil,
        error: String? = nil,
        at time: Int64 = 9
    ) -> StateReport {
        StateReport(
            type: .firmware,
            state: state,
            progress: progress,
            error: error,
            running: state == "UPDATED" ? ReportedVersion(title: "fw", version: "1") : ReportedVersion(),
            timestamp: Timestamp(milliseconds: time)
        )
    }

    private static func record(_ fixture: EngineFixture, _ device: Device) async throws -> UpdateRecord {
        try #require(try await fixture.store.updateRecord(of: device.id, type: .firmware))
    }

    private static func initiate(
        _ fixture: EngineFixture,
        _ package: OtaPackageId,
        _ device: DeviceId,
        _ type: OtaPackageType = .firmware,
        _ attributes: JSON.Object = ["fw_title": "fw"],
        obsolete: [String] = []
    ) async throws -> Bool {
        try await fixture.store.initiate(
            package,
            of: device,
            type: type,
            attributes: attributes,
            obsolete: obsolete,
            generation: nil,
            at: Timestamp(milliseconds: 3)
        )
    }

    @Test("an update goes from QUEUED to UPDATED, each state with its time", arguments: EngineUnderTest.all)
    func wholeWay(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, package in
            #expect(try await Self.initiate(fixture, package.id, device.id))
            let states: [OtaUpdateState] = [.downloading, .downloaded, .verified, .updating, .updated]
            for (index, state) in states.enumerated() {
                let report = Self.report(state.rawValue, at: Int64(index))
                #expect(try await fixture.store.record(report, of: device.id) == .recorded(state))
                #expect(try await fixture.store.record(report, of: device.id) == .duplicate(state))
            }
            #expect(
                try await fixture.history(of: device.id)
                    == ["QUEUED", "INITIATED", "DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"]
            )
            let record = try await Self.record(fixture, device)
            #expect(record.state == .updated)
            #expect(record.progress == 100)
            #expect(record.attempts == 1)
            #expect(Set(record.entered.keys) == Set(OtaUpdateState.allCases).subtracting([.failed]))
            #expect(record.entered[.verified] == Timestamp(milliseconds: 2))
            let entry = try #require(try await fixture.store.updateHistory(of: device.id, type: .firmware).last)
            #expect(entry.title == "fw")
            #expect(entry.version == "1")
            #expect(entry.timestamp == Timestamp(milliseconds: 4))
        }
    }

    @Test("a report that does not fit is kept and flagged, and changes nothing", arguments: EngineUnderTest.all)
    func flagged(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, _ in
            let store = fixture.store
            _ = try await store.record(Self.report("VERIFIED"), of: device.id)
            let unfit: [(String, ReportFlag)] = [
                ("IDLE", .unknownState), ("DOWNLOADING", .outOfOrder), ("QUEUED", .outOfOrder),
                ("updated", .unknownState),
                ("", .unknownState),
            ]
            for (state, flag) in unfit {
                #expect(try await store.record(Self.report(state), of: device.id) == .flagged(flag))
            }
            let flags = try await store.updateHistory(of: device.id, type: .firmware).compactMap(\.flag)
            #expect(flags == unfit.map(\.1))
            #expect(try await Self.record(fixture, device).state == .verified)
            let all = ["QUEUED", "VERIFIED", "(IDLE)", "(DOWNLOADING)", "(QUEUED)", "(updated)", "()"]
            #expect(try await fixture.history(of: device.id) == all)
            _ = try await store.record(Self.report("UPDATED"), of: device.id)
            #expect(try await store.record(Self.report("FAILED"), of: device.id) == .flagged(.outOfOrder))
            // No update of this type at all.
            let software = StateReport(type: .software, state: "UPDATED", timestamp: .now)
            #expect(try await store.record(software, of: device.id) == .flagged(.noUpdate))
            #expect(try await fixture.history(of: device.id, type: .software) == ["(UPDATED)"])
            let entry = try #require(try await store.updateHistory(of: device.id, type: .software).first)
            #expect(entry.title == "")
            #expect(try await store.updateRecord(of: device.id, type: .software) == nil)
            #expect(
                try await store.record(
                    StateReport(type: .software, state: nil, progress: 1, timestamp: .now),
                    of: device.id
                )
                    == .flagged(.noUpdate)
            )
        }
    }

    @Test(
        "after a failure a device may try again; each beginning is an attempt, and the reason goes",
        arguments: EngineUnderTest.all
    )
    func retry(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, _ in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING", progress: 10), of: device.id)
            #expect(
                try await store.record(Self.report("FAILED", error: "no route"), of: device.id) == .recorded(.failed)
            )
            try await store.classify(.networkError, of: device.id, type: .firmware)
            var record = try await Self.record(fixture, device)
            #expect(record.error == "no route")
            #expect(record.errorClass == .networkError)
            #expect(record.progress == 10)
            #expect(
                try await store.record(Self.report("FAILED", error: "no route"), of: device.id) == .duplicate(.failed)
            )
            #expect(try await store.record(Self.report("VERIFIED"), of: device.id) == .flagged(.outOfOrder))
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            record = try await Self.record(fixture, device)
            #expect(record.attempts == 2)
            #expect(record.error == nil)
            #expect(record.errorClass == nil)
            #expect(record.progress == nil)
            // There is no failure to classify any more.
            try await store.classify(.networkError, of: device.id, type: .firmware)
            #expect(try await Self.record(fixture, device).errorClass == nil)
            let failure = try await store.updateHistory(of: device.id, type: .firmware).filter { $0.state == "FAILED" }
            #expect(failure.map(\.error) == ["no route"])
        }
    }

    @Test("texts of a device are kept up to their limits", arguments: EngineUnderTest.all)
    func textLimits(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, _ in
            func text(_ count: Int) -> String { String(repeating: "e", count: count) }
            _ = try await fixture.store.record(Self.report("FAILED", error: text(1024)), of: device.id)
            #expect(try await Self.record(fixture, device).error == text(1024))
            _ = try await fixture.store.record(Self.report("FAILED", error: text(1025) + "x"), of: device.id)
            #expect(try await Self.record(fixture, device).error == text(1024))
            for count in [255, 256] {
                _ = try await fixture.store.record(Self.report(text(count)), of: device.id)
                #expect(try await fixture.history(of: device.id).last == "(\(text(255)))")
            }
        }
    }

    @Test("progress is what the device tells, within 0 and 100, and adds no history", arguments: EngineUnderTest.all)
    func toldProgress(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, _ in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            for (told, kept) in [(0, 0), (40, 40), (30, 30), (-5, 0), (101, 100)] {
                #expect(
                    try await store.record(Self.report(nil, progress: told), of: device.id) == .recorded(.downloading)
                )
                #expect(try await Self.record(fixture, device).progress == kept)
            }
            #expect(
                try await store.record(Self.report("DOWNLOADING", progress: 7), of: device.id)
                    == .recorded(.downloading)
            )
            #expect(try await Self.record(fixture, device).progress == 7)
            #expect(try await store.record(Self.report(nil), of: device.id) == .unrelated)
            _ = try await store.record(Self.report("UPDATED", progress: 3), of: device.id)
            #expect(try await store.record(Self.report(nil, progress: 3), of: device.id) == .duplicate(.updated))
            #expect(try await Self.record(fixture, device).progress == 100)
            #expect(try await fixture.history(of: device.id) == ["QUEUED", "DOWNLOADING", "UPDATED"])
        }
    }

    @Test("running the store stores what was counted when it ends", arguments: EngineUnderTest.all)
    func flushAtEnd(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, package in
            let running = Task { await fixture.store.run() }
            fixture.store.served(0..<500, of: package.effective, to: device.id)
            running.cancel()
            await running.value
            let progress = try await Self.record(fixture, device).progress
            #expect(progress == 50)
        }
    }

    @Test(
        "telling a device makes its update INITIATED once, later than QUEUED, and only for the effective package",
        arguments: EngineUnderTest.all
    )
    func initiate(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, package in
            let store = fixture.store
            #expect(try await Self.initiate(fixture, .random(), device.id) == false)
            #expect(try await Self.initiate(fixture, package.id, device.id, .software) == false)
            #expect(try await store.attributes(of: device.id, scope: .shared, keys: nil) == [])
            #expect(try await fixture.latest(device.id)["fw_state"] == "QUEUED")
            for _ in 0..<2 { #expect(try await Self.initiate(fixture, package.id, device.id)) }
            #expect(try await fixture.history(of: device.id) == ["QUEUED", "INITIATED"])
            let states = try await store.timeseries(
                of: device.id,
                key: "fw_state",
                from: Timestamp(milliseconds: 0),
                to: Timestamp(milliseconds: .max),
                limit: 9,
                ascending: true
            )
            #expect(states.map(\.value) == ["QUEUED", "INITIATED"])
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            #expect(try await Self.initiate(fixture, package.id, device.id))
            #expect(try await Self.record(fixture, device).state == .downloading)
            #expect(try await Self.initiate(fixture, package.id, .random()) == false)
        }
    }

    @Test(
        "a device is told of what is gone, if anything is, and then of all that is new",
        arguments: EngineUnderTest.all
    )
    func attributesOfInitiate(engine: EngineUnderTest) async throws {
        try await Self.withUpdate(engine) { fixture, device, package in
            let store = fixture.store
            let time = Timestamp(milliseconds: 3)
            let values: JSON.Object = ["fw_title": "fw", "fw_version": "1"]
            let old: JSON.Object = ["fw_tag": "t", "fw_title": "old", "fw_url": "u", "other": 1]
            try await store.saveAttributes(of: device.id, scope: .shared, old, at: time)
            let notifications = fixture.notifications(of: device.id)
            for _ in 0..<2 {
                _ = try await Self.initiate(
                    fixture,
                    package.id,
                    device.id,
                    .firmware,
                    values,
                    obsolete: ["fw_size", "fw_url", "fw_tag"]
                )
            }
            #expect(
                notifications.all == [
                    .attributesDeleted(["fw_url", "fw_tag"]), .attributesUpdated(values), .attributesUpdated(values),
                ]
            )
            let entries = try await store.attributes(of: device.id, scope: .shared, keys: nil)
            #expect(entries.map(\.key) == ["fw_title", "fw_version", "other"])
            #expect(entries.map(\.value) == ["fw", "1", 1])
        }
    }

    @Test("a thousand reports at once are all recorded, each once", arguments: EngineUnderTest.all)
    func parallelReports(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            try await fixture.assign(package.id, to: profile.id)
            let devices = try await withThrowingTaskGroup(of: Device.self) { group in
                for number in 0..<125 { group.addTask { try await fixture.device("d\(number)", in: profile.id) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let states = ["DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATED"]
            let results = try await withThrowingTaskGroup(of: [StateReportResult].self) { group in
                for device in devices {
                    group.addTask {
                        var results: [StateReportResult] = []
                        for state in states {
                            // The same report twice at once, as when an acknowledgement is lost.
                            async let first = store.record(Self.report(state), of: device.id)
                            async let second = store.record(Self.report(state), of: device.id)
                            results += [try await first, try await second]
                        }
                        return results
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(results.count == 1000)
            #expect(results.filter { if case .recorded = $0 { true } else { false } }.count == 500)
            for device in devices {
                #expect(try await fixture.history(of: device.id) == ["QUEUED"] + states)
            }
        }
    }
}
