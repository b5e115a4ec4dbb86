import FoundationEssentials
import GRDB
import NodeKit
import OTA
import Synchronization
import Testing

@testable import Store

/// What the store makes of reports: the rules themselves are in `UpdateRulesTests`.
@Suite struct UpdateTruthTests {
    private static let old = ReportedVersion(title: "fw", version: "0")
    private static let new = ReportedVersion(title: "fw", version: "1")

    /// A device with an update to `fw 1`, of 1000 bytes, that is queued.
    private static func withUpdate(
        _ body: (StoreFixture, Device, OtaPackage) async throws -> Void
    ) async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id, bytes: Array(repeating: 7, count: 1000))
            let device = try await fixture.device(in: profile.id)
            try await fixture.assign(package.id, to: device.id)
            try await body(fixture, device, package)
        }
    }

    private static func report(
        _ state: String?,
        runs running: ReportedVersion = ReportedVersion(),
        at time: Int64 = 9
    ) -> StateReport {
        StateReport(type: .firmware, state: state, running: running, timestamp: Timestamp(milliseconds: time))
    }

    private static func record(_ fixture: StoreFixture, _ device: Device) async throws -> UpdateRecord {
        try #require(try await fixture.store.updateRecord(of: device.id, type: .firmware))
    }

    @Test("a boot report of the old version changes nothing: no state, no time, no missed push", .bug(id: "T1.2"))
    func bootReport() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            #expect(try await store.missedPushes(of: device.id).count == 1)
            let before = try await Self.record(fixture, device)
            for report in [Self.report("UPDATED", runs: Self.old), Self.report("UPDATED")] {
                #expect(try await store.record(report, of: device.id) == .flagged(.otherVersion))
            }
            var after = try await Self.record(fixture, device)
            #expect(after.installed?.running == Self.old)
            after.installed = nil
            #expect(after == before)
            #expect(try await store.missedPushes(of: device.id).count == 1)
            #expect(try await fixture.history(of: device.id) == ["QUEUED", "INITIATED", "(UPDATED)", "(UPDATED)"])
        }
    }

    @Test("UPDATED of a device that never said what it runs counts once every byte was served", .bug(id: "T1.2"))
    func served() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            func updated() async throws -> StateReportResult {
                try await store.record(Self.report("UPDATED"), of: device.id)
            }
            #expect(try await updated() == .flagged(.notServed))
            // The last chunk alone is not the package, and neither is all but one byte.
            store.served(900..<1000, of: package.effective, to: device.id)
            #expect(try await updated() == .flagged(.notServed))
            store.served(0..<500, of: package.effective, to: device.id)
            try await store.storeProgress()
            store.served(501..<950, of: package.effective, to: device.id)
            #expect(try await updated() == .flagged(.notServed))
            #expect(try await Self.record(fixture, device).servedTime == nil)
            store.served(500..<501, of: package.effective, to: device.id)
            #expect(try await updated() == .recorded(.updated))
            #expect(try await Self.record(fixture, device).servedTime != nil)
        }
    }

    @Test("bytes that were served before the assignment do not count for it", .bug(id: "T1.2"))
    func servedBefore() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            store.served(0..<1000, of: package.effective, to: device.id)
            try await fixture.assign(nil, to: device.id)
            try await fixture.assign(package.id, to: device.id)
            #expect(try await store.record(Self.report("UPDATED"), of: device.id) == .flagged(.notServed))
            try await store.storeProgress()
            #expect(try await Self.record(fixture, device).servedTime == nil)
            #expect(try await Self.record(fixture, device).progress == nil)
        }
    }

    @Test("bytes of several attempts add up; progress is that of the present one", .bug(id: "T1.2"))
    func attempts() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            store.served(0..<600, of: package.effective, to: device.id)
            _ = try await store.record(Self.report("FAILED"), of: device.id)
            #expect(try await Self.record(fixture, device).progress == 60)
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            #expect(try await Self.record(fixture, device).progress == nil)
            store.served(600..<900, of: package.effective, to: device.id)
            try await store.storeProgress()
            #expect(try await Self.record(fixture, device).progress == 30)
            _ = try await store.record(Self.report("FAILED"), of: device.id)
            #expect(try await store.carryOut(.retry, on: UpdateFilter(), by: "me") == 1)
            store.served(900..<1000, of: package.effective, to: device.id)
            #expect(try await store.record(Self.report("UPDATED"), of: device.id) == .recorded(.updated))
        }
    }

    @Test("for a package with a URL the push that a session takes is what is served", .bug(id: "T1.2"))
    func url() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1", url: "http://x/1")
            )
            let device = try await fixture.device(in: profile.id)
            try await fixture.assign(package.id, to: device.id)
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            #expect(try await store.record(Self.report("UPDATED"), of: device.id) == .flagged(.notServed))
            let told = fixture.notifications(of: device.id)
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            #expect(told.all.count == 1)
            #expect(try await store.record(Self.report("UPDATED"), of: device.id) == .recorded(.updated))
        }
    }

    @Test("a push is done when the sessions that took it have sent it")
    func sent() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            let device = try await fixture.device(in: profile.id)
            try await fixture.assign(package.id, to: device.id)
            let log = Mutex<[String]>([])
            let subscription = fixture.sessions.subscribeSelectively(
                device.id.uuid,
                interests: .attributes,
                flushed: { log.withLock { $0.append("sent") } }
            ) { _ in
                log.withLock { $0.append("taken") }
                return true
            }
            #expect(try await fixture.store.initiate(package.id, of: device.id, type: .firmware))
            #expect(log.withLock { $0 } == ["taken", "sent"])
            fixture.sessions.unsubscribe(subscription)
        }
    }

    @Test("the target's version without a state is UPDATED, also in the time series", .bug(id: "T1.3"))
    func versionAlone() async throws {
        try await Self.withUpdate { fixture, device, _ in
            func record(_ running: ReportedVersion, at time: Int64 = 9) async throws -> StateReportResult {
                try await fixture.store.record(Self.report(nil, runs: running, at: time), of: device.id)
            }
            let results = [try await record(Self.old), try await record(Self.new), try await record(Self.new)]
            #expect(results == [.unrelated, .recorded(.updated), .unrelated])
            // By the device's clock it was UPDATED long before it was QUEUED.
            let latest = try await fixture.latest(device.id)
            #expect(latest["fw_state"] == "UPDATED")
            let history = try await fixture.history(of: device.id)
            #expect(history == ["QUEUED", "UPDATED"])
        }
        try await Self.withUpdate { fixture, device, _ in
            let report = Self.report(nil, runs: Self.new, at: 1_800_000_000_000)
            let result = try await fixture.store.record(report, of: device.id)
            #expect(result == .recorded(.updated))
            let latest = try await fixture.latest(device.id)
            #expect(latest["fw_state"] == "UPDATED")
        }
    }

    @Test("a package that the device runs already is UPDATED in the transaction of its assignment", .bug(id: "T1.3"))
    func alreadyInstalled() async throws {
        for isOfProfile in [false, true] {
            try await StoreFixture.with { fixture in
                let store = fixture.store
                let profile = try await fixture.profile()
                let package = try await fixture.package(tag: "t", in: profile.id)
                let device = try await fixture.device(in: profile.id)
                let other = try await fixture.device("other", in: profile.id)
                _ = try await store.record(Self.report("UPDATED", runs: Self.new), of: device.id)
                _ = try await store.record(Self.report("UPDATED", runs: Self.old), of: other.id)
                let time = Timestamp(milliseconds: 1)
                try await store.saveAttributes(of: device.id, scope: .shared, ["fw_url": "old"], at: time)
                let told = fixture.notifications(of: device.id)
                if isOfProfile {
                    try await fixture.assign(package.id, to: profile.id)
                } else {
                    for id in [device.id, other.id] { try await fixture.assign(package.id, to: id) }
                }
                let record = try await Self.record(fixture, device)
                #expect(record.state == .updated && record.progress == 100 && record.attempts == 0)
                #expect(try await Self.record(fixture, other).state == .queued)
                #expect(try await store.assignments(after: 0, limit: 9).map(\.device.name) == ["other"])
                #expect(told.all.isEmpty)
                let latest = try await fixture.latest(device.id)
                #expect(latest["fw_state"] == "UPDATED")
                #expect(latest["target_fw_title"] == "fw" && latest["target_fw_version"] == "1")
                #expect(latest["target_fw_tag"] == "t" && latest["target_fw_ts"]?.integer ?? 0 > 0)
                let attributes = try await store.attributes(of: device.id, scope: .shared, keys: nil)
                #expect(
                    attributes.map(\.key) == [
                        "fw_checksum", "fw_checksum_algorithm", "fw_size", "fw_tag", "fw_title", "fw_version",
                    ]
                )
                let entry = try #require(try await store.updateHistory(of: device.id, type: .firmware).last)
                #expect(entry.state == "UPDATED" && entry.cause == .alreadyInstalled && entry.accepted)
            }
        }
    }

    @Test("assigning what is installed replaces an assignment that waits", .bug(id: "T1.3"))
    func alreadyInstalledReplaces() async throws {
        try await Self.withUpdate { fixture, device, _ in
            let profile = device.deviceProfileId
            let next = try await fixture.package("fw", "2", in: profile)
            try await fixture.assign(next.id, to: device.id)
            _ = try await fixture.store.record(Self.report("IDLE", runs: Self.new), of: device.id)
            let page = try await fixture.store.findOtaPackages(
                of: .main,
                deviceProfileId: profile,
                type: nil,
                hasData: nil,
                page: PageLink(pageSize: 9)
            )
            let first = try #require(page.data.first { $0.version == "1" })
            try await fixture.assign(first.id, to: device.id)
            #expect(try await fixture.store.assignments(after: 0, limit: 9).isEmpty)
            #expect(try await Self.record(fixture, device).state == .updated)
        }
    }

    @Test(
        "UPDATED with another version after UPDATING ends the update as FAILED with class, cause and both versions",
        .bug(id: "T1.4"),
        arguments: [
            ("0", UpdateCause.rolledBack, OtaErrorClass.installationFailed), ("7", .otherVersion, .invalidPackage),
        ]
    )
    func otherVersion(version: String, cause: UpdateCause, errorClass: OtaErrorClass) async throws {
        try await Self.withUpdate { fixture, device, _ in
            let store = fixture.store
            // The same clock for device and host, so that the newest value is the last one.
            let start = Int64(1_800_000_000_000)
            for (index, state) in ["DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING"].enumerated() {
                let report = Self.report(state, runs: Self.old, at: start + Int64(index) * 10)
                _ = try await store.record(report, of: device.id)
            }
            let running = ReportedVersion(title: "fw", version: version)
            let report = Self.report("UPDATED", runs: running, at: start + 100)
            let reason = "the device runs 'fw' '\(version)' after the installation, not 'fw' '1'"
            #expect(
                try await store.record(report, of: device.id) == .recorded(.failed, cause: cause, reason: reason)
            )
            let record = try await Self.record(fixture, device)
            #expect(record.state == .failed && record.failureCause == cause && record.errorClass == errorClass)
            #expect(record.error == reason)
            let latest = try await fixture.latest(device.id)
            #expect(latest["fw_state"] == "FAILED" && latest["fw_error"] == .string(reason))
            let entry = try #require(try await store.updateHistory(of: device.id, type: .firmware).last)
            #expect(entry.cause == cause && entry.error == reason)
            // The target's version after that makes it UPDATED.
            let late = Self.report("UPDATED", runs: Self.new, at: start + 200)
            #expect(try await store.record(late, of: device.id) == .recorded(.updated))
            #expect(try await Self.record(fixture, device).failureCause == nil)
        }
    }

    @Test("a restart in the middle is noted once; DOWNLOADING after it is a new attempt", .bug(id: "T1.4"))
    func interrupted() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            store.served(0..<300, of: package.effective, to: device.id)
            _ = try await store.record(Self.report("DOWNLOADED"), of: device.id)
            try await store.storeProgress()
            let before = try await Self.record(fixture, device)
            let boot = Self.report("UPDATED", runs: Self.old)
            #expect(try await store.record(boot, of: device.id) == .interrupted(.downloaded))
            #expect(try await store.record(boot, of: device.id) == .duplicate(.downloaded))
            let after = try await Self.record(fixture, device)
            #expect(after.state == .downloaded && after.isInterrupted && after.activeTime == before.activeTime)
            #expect(try await store.record(Self.report("DOWNLOADING"), of: device.id) == .recorded(.downloading))
            let again = try await Self.record(fixture, device)
            #expect(again.attempts == 2 && !again.isInterrupted && again.progress == nil)
            #expect(
                try await fixture.history(of: device.id)
                    == ["QUEUED", "DOWNLOADING", "DOWNLOADED", "INTERRUPTED", "DOWNLOADING"]
            )
        }
    }

    @Test("a device that still finishes an old package does not move the new update", .bug(id: "T1.5"))
    func oldPackage() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            store.served(0..<1000, of: package.effective, to: device.id)
            let next = try await fixture.package(
                "fw",
                "2",
                in: device.deviceProfileId,
                bytes: Array(repeating: 8, count: 1000)
            )
            try await fixture.assign(next.id, to: device.id)
            for state in ["DOWNLOADED", "VERIFIED", "UPDATING"] {
                #expect(try await store.record(Self.report(state), of: device.id) == .flagged(.otherPackage))
            }
            // A report that names the package is about that one.
            var named = Self.report("VERIFIED")
            named.target = Self.new
            #expect(try await store.record(named, of: device.id) == .flagged(.otherPackage))
            #expect(try await store.record(Self.report("UPDATED"), of: device.id) == .flagged(.otherPackage))
            // With that the old update is over for the device. What it begins now is the new one.
            #expect(try await store.record(Self.report("DOWNLOADING"), of: device.id) == .recorded(.downloading))
            store.served(0..<1000, of: next.effective, to: device.id)
            #expect(try await store.record(Self.report("VERIFIED"), of: device.id) == .recorded(.verified))
            #expect(try await store.record(Self.report("UPDATED"), of: device.id) == .recorded(.updated))
        }
    }

    @Test("a device that was given bytes of the new package is about that one", .bug(id: "T1.5"))
    func bytesOfNewPackage() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            store.served(0..<500, of: package.effective, to: device.id)
            let next = try await fixture.package("fw", "2", in: device.deviceProfileId, bytes: [1, 2, 3])
            try await fixture.assign(next.id, to: device.id)
            store.served(0..<1, of: next.effective, to: device.id)
            #expect(try await store.record(Self.report("DOWNLOADED"), of: device.id) == .recorded(.downloaded))
        }
    }

    @Test("what a device runs is known since the first report of it, whichever that was", .bug(id: "T1.6"))
    func installed() async throws {
        try await Self.withUpdate { fixture, device, _ in
            let store = fixture.store
            let other = try await fixture.device("other", in: device.deviceProfileId)
            _ = try await store.record(Self.report(nil, runs: Self.old), of: device.id)
            let first = try #require(try await Self.record(fixture, device).installed)
            #expect(first.running == Self.old && first.report == "telemetry current_fw_*")
            for state in ["IDLE", "DOWNLOADING", nil] {
                _ = try await store.record(Self.report(state, runs: Self.old), of: device.id)
            }
            #expect(try await Self.record(fixture, device).installed == first)
            // Members that are reported apart are joined.
            let title = ReportedVersion(title: "x")
            _ = try await store.record(Self.report(nil, runs: title), of: other.id)
            var apart = Self.report("FAILED", runs: ReportedVersion(version: "9"))
            apart.source = .attributes
            apart.isCurrent = false
            _ = try await store.record(apart, of: other.id)
            let info = try await store.deviceInfo(of: other)
            #expect(info.installed[.firmware]?.running == ReportedVersion(title: "x", version: "9"))
            #expect(info.installed[.firmware]?.report == "attributes fw_*, fw_state FAILED")
            #expect(info.installed[.software] == nil)
            let counts = try await store.countInstalled(UpdateFilter())
            #expect(counts == [InstalledCount(type: .firmware, running: Self.old, count: 1)])
        }
    }

    @Test("bytes that were served stay counted if the write that found them is undone", .bug(id: "T1.2"))
    func undone() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            _ = try await fixture.device("other", in: device.deviceProfileId)
            store.served(0..<500, of: package.effective, to: device.id)
            var renamed = try #require(try await store.findDeviceById(device.id))
            renamed.name = "other"
            await #expect(throws: NodeError.self) { _ = try await store.saveDevice(renamed, accessToken: nil) }
            store.served(500..<1000, of: package.effective, to: device.id)
            #expect(try await store.record(Self.report("UPDATED"), of: device.id) == .recorded(.updated))
        }
    }

    @Test("a device that may be busy with another package is notified of what it runs already", .bug(id: "T1.3"))
    func busy() async throws {
        try await Self.withUpdate { fixture, device, _ in
            let store = fixture.store
            let next = try await fixture.package("fw", "2", in: device.deviceProfileId)
            _ = try await store.record(Self.report("UPDATED", runs: Self.new), of: device.id)
            let first = try #require(try await Self.record(fixture, device).packageId)
            try await fixture.assign(next.id, to: device.id)
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            try await fixture.assign(first, to: device.id)
            #expect(try await Self.record(fixture, device).state == .queued)
            #expect(try await store.assignments(after: 0, limit: 9).map(\.packageId) == [first])
            #expect(try await fixture.latest(device.id)["fw_state"] == "QUEUED")
            #expect(
                try await store.record(Self.report("UPDATED", runs: Self.new), of: device.id) == .recorded(.updated)
            )
        }
    }

    @Test("an update of before is taken over with what is known of it", .bug(id: "T1.6"))
    func migration() async throws {
        try await StoreFixture.withFolder { folder in
            let path = "\(folder)/data"
            let database = try DatabaseQueue(path: "\(folder)/old.sqlite")
            try Schema.migrator.migrate(database, upTo: "7")
            try await database.write { db in
                let profile = UUID.random()
                try db.execute(
                    sql:
                        "INSERT INTO device_profile (id, created_time, tenant_id, name, is_default, settings) VALUES (?, 1, ?, 'p', 1, '{}')",
                    arguments: [profile, TenantId.main.uuid]
                )
                let package = UUID.random()
                try db.execute(
                    sql: """
                        INSERT INTO ota_package (id, created_time, tenant_id, device_profile_id, type, title, version, url)
                        VALUES (?, 1, ?, ?, 'FIRMWARE', 'fw', '2', 'http://x/2')
                        """,
                    arguments: [package, TenantId.main.uuid, profile]
                )
                for number in 1...3 {
                    try db.execute(
                        sql: """
                            INSERT INTO device (no, id, created_time, tenant_id, name, device_profile_id, firmware_id)
                            VALUES (?, ?, 1, ?, ?, ?, ?)
                            """,
                        arguments: [number, UUID.random(), TenantId.main.uuid, "d\(number)", profile, package]
                    )
                    try db.execute(
                        sql: """
                            INSERT INTO update_record (device, type, package_id, title, version, state, queued_time,
                                initiated_time, updated_time, active_time) VALUES (?, 'FIRMWARE', ?, 'fw', '2', ?, 5, 6, 7, 100)
                            """,
                        arguments: [number, package, number == 3 ? "INITIATED" : "UPDATED"]
                    )
                    try db.execute(
                        sql: """
                            INSERT INTO update_history (device, type, title, version, state, timestamp, accepted)
                            SELECT device, type, title, version, state, 7, 1 FROM update_record WHERE device = ?
                            """,
                        arguments: [number]
                    )
                    try db.execute(
                        sql: "INSERT INTO device_credentials VALUES (?, 1, ?, 'ACCESS_TOKEN', ?, NULL)",
                        arguments: [UUID.random(), number, "t\(number)"]
                    )
                }
                // It ran 1 before the update and says so again after it; the other says by attributes what it runs.
                for (time, version) in [(40, "0"), (50, "1"), (200, "1")] {
                    try db.execute(
                        sql: "INSERT INTO ts VALUES (1, 'current_fw_version', ?, 3, ?)",
                        arguments: [time, version]
                    )
                }
                try db.execute(sql: "INSERT INTO attribute VALUES (2, 'CLIENT_SCOPE', 'fw_version', 3, '2', 60)")
                try db.execute(sql: "DELETE FROM update_history WHERE id = 3")
            }
            try database.close()
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try FileManager.default.moveItem(atPath: "\(folder)/old.sqlite", toPath: "\(path)/windlass.sqlite")
            let store = try await SQLiteStore.open(directory: path, sessions: DeviceSessions())
            let page = try await store.findUpdates(UpdateFilter(), page: PageLink(pageSize: 9, ascending: true)).data
            #expect(page.map(\.record.state) == [.updated, .updated, .initiated])
            #expect(page.map(\.record.installed?.running.version) == ["1", "2", nil])
            #expect(page.map(\.record.installed?.since.rawValue) == [50, 60, nil])
            // The push of the package's URL was taken.
            #expect(page.map { $0.record.servedTime?.rawValue } == [nil, nil, 100])
            // A reader of events goes on behind a line that is gone.
            try await store.addReader("new")
            #expect(try await store.read { db in try db.integer("SELECT last_read FROM event_reader") } == 3)
            await store.close()
            let report = try await StoreDoctor(directory: path).examine(repair: false)
            #expect(
                report.findings.filter { $0.code == .unprovenUpdate }.map(\.sentence) == [
                    "the FIRMWARE update of 'd1' to 'fw' '2' is UPDATED, but the device says it runs '1'"
                ]
            )
        }
    }

    @Test("a report that changes nothing writes nothing", .bug(id: "T1.7"))
    func noWrite() async throws {
        try await Self.withUpdate { fixture, device, _ in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING", runs: Self.old), of: device.id)
            func changes() async throws -> Int {
                try await store.write { db, _ in Int(try db.integer("SELECT total_changes()") ?? 0) }
            }
            let before = try await changes()
            for _ in 0..<3 {
                _ = try await store.record(Self.report("DOWNLOADING", runs: Self.old), of: device.id)
                _ = try await store.record(Self.report(nil, runs: Self.old), of: device.id)
            }
            #expect(try await changes() == before)
        }
    }

    @Test("the doctor lists what the rules would not have made UPDATED", .bug(id: "T1.6"))
    func doctor() async throws {
        try await StoreFixture.withFolder { folder in
            let store = try await SQLiteStore.open(directory: "\(folder)/data", sessions: DeviceSessions())
            let profile = try await store.saveDeviceProfile(DeviceProfile(name: "p"))
            let package = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1", url: "http://x/1")
            )
            for name in ["told", "silent", "other"] {
                let device = Device(name: name, deviceProfileId: profile.id, firmwareId: package.id)
                let saved = try await store.saveDevice(device, accessToken: name)
                if name == "silent" { continue }
                let running = name == "told" ? Self.new : Self.old
                _ = try await store.record(Self.report(nil, runs: running), of: saved.id)
            }
            #expect(try await store.check() == [])
            try await store.write { db, _ in
                let now = Timestamp.now.rawValue
                try db.run("UPDATE update_record SET state = 'UPDATED', updated_time = ?1, active_time = ?1", [now])
                try db.run("UPDATE update_history SET state = 'UPDATED'")
            }
            await store.close()
            let report = try await StoreDoctor(directory: "\(folder)/data").examine(repair: true)
            let found = report.findings.filter { $0.code == .unprovenUpdate }.map(\.sentence)
            #expect(
                found == [
                    "the FIRMWARE update of 'other' to 'fw' '1' is UPDATED, but the device says it runs 'fw' '0'",
                    "the FIRMWARE update of 'silent' to 'fw' '1' is UPDATED, but nothing shows that the device runs it",
                ]
            )
        }
    }
}
