import GRDB
import NodeKit
import OTA
import Testing

@testable import Store

/// What is counted in memory before it is stored, and what the tables of updates are looked for by.
@Suite struct CountedProgressTests {
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

    private static func report(_ state: String?, progress: Int? = nil) -> StateReport {
        StateReport(type: .firmware, state: state, progress: progress, timestamp: Timestamp(milliseconds: 9))
    }

    private static func record(_ fixture: StoreFixture, _ device: Device) async throws -> UpdateRecord {
        try #require(try await fixture.store.updateRecord(of: device.id, type: .firmware))
    }

    @Test("progress is counted from the bytes served; it never lowers what is known, and ends with the attempt")
    func countedProgress() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            func progress() async throws -> Int? {
                try await store.storeProgress()
                return try await Self.record(fixture, device).progress
            }
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            store.served(0..<250, of: package.effective, to: device.id)
            #expect(try await progress() == 25)
            store.served(0..<100, of: package.effective, to: device.id)
            #expect(try await progress() == 25)
            _ = try await store.record(Self.report(nil, progress: 60), of: device.id)
            store.served(250..<500, of: package.effective, to: device.id)
            #expect(try await progress() == 60)
            store.served(500..<999, of: package.effective, to: device.id)
            #expect(try await progress() == 99)
            store.served(1000..<1000, of: package.effective, to: device.id)
            var other = package
            other.id = .random()
            store.served(0..<1000, of: other.effective, to: device.id)
            #expect(try await progress() == 99)
            // With the next byte the device is about this package again.
            store.served(0..<1, of: package.effective, to: device.id)
            // What was counted before a new attempt does not count for it.
            _ = try await store.record(Self.report("FAILED"), of: device.id)
            store.served(0..<900, of: package.effective, to: device.id)
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            #expect(try await progress() == nil)
            // The last byte alone is a tenth. It is stored without waiting for the next time: the write below comes after that one.
            store.served(900..<1000, of: package.effective, to: device.id)
            _ = try await store.record(Self.report("VERIFIED"), of: device.id)
            #expect(try await Self.record(fixture, device).progress == 10)
        }
    }

    @Test("a chunk that is served is movement")
    func served() async throws {
        try await Self.withUpdate { fixture, device, package in
            let store = fixture.store
            _ = try await store.record(Self.report("DOWNLOADING"), of: device.id)
            let begun = try await Self.record(fixture, device).activeTime
            store.served(0..<4, of: package.effective, to: device.id)
            try await store.storeProgress()
            #expect(try await Self.record(fixture, device).activeTime > begun)
        }
    }

    @Test("to look for updates that stand still reads none that does not, whatever the number of devices")
    func index() async throws {
        try await StoreFixture.with { fixture in
            let plans = try await fixture.store.read { db in
                try ["r.state = 'QUEUED' AND r.active_time <= 1", "r.retry_time IS NOT NULL AND r.retry_time <= 1"].map
                {
                    try Row.fetchAll(
                        db,
                        sql: "EXPLAIN QUERY PLAN SELECT r.* FROM update_record r WHERE \($0) ORDER BY r.active_time"
                    ).map { $0["detail"] as String }.joined()
                }
            }
            #expect(plans[0].contains("SEARCH r USING INDEX update_record_active (state=? AND active_time<?)"))
            #expect(plans[1].contains("SEARCH r USING INDEX update_record_retry"))
        }
    }

    @Test(
        "the last byte is noted once in an interval; what was counted stays until it is committed",
        .bug(id: "T1.2")
    )
    func lastByte() async throws {
        try await Self.withUpdate { _, device, package in
            let counter = ProgressCounter()
            func serve(_ range: Range<Int64>) -> Bool { counter.served(range, of: package.effective, to: device.id) }
            let ends = [serve(0..<999), serve(999..<1000), serve(0..<1000)]
            #expect(ends == [false, true, false])
            let (counts, half) = counter.all()
            #expect(counts.map(\.ranges.bytes) == [1000] && half == nil)
            // Its transaction was undone: another one finds all of it.
            counter.undone()
            let again = counter.counts(of: device.id, package.type)
            #expect(again.map(\.ranges.bytes) == [1000])
            #expect(counter.counts(of: device.id, package.type).isEmpty)
            // What was served since is not forgotten with it.
            #expect(!serve(0..<10))
            counter.forget(counter.stored(again))
            #expect(counter.package(givenTo: device.id, package.type) == package.id)
            #expect(counter.all().counts.map(\.ranges.bytes) == [10])
            #expect(counter.beginInterval())
            counter.forget(counter.stored(counter.all().counts))
            #expect(!counter.beginInterval())
            #expect(serve(0..<1000))
        }
    }
}
