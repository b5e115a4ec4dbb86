import NodeKit
import OTA
import Testing

@testable import Store

@Suite struct RetentionTests {
    private static func options(_ retention: Retention) -> SQLiteStore.Options {
        var options = SQLiteStore.Options()
        options.retention = retention
        return options
    }

    /// A device with series of this many entries each, a minute apart, the newest a minute before now.
    private static func device(_ fixture: StoreFixture, series: [String: Int]) async throws -> DeviceId {
        let profile = try await fixture.store.defaultDeviceProfile(of: .main)
        let device = try await fixture.device("device \(series.count)", in: profile.id)
        let now = fixture.clock.now.rawValue
        for (key, count) in series {
            let points = (1...count).map { minute in
                TelemetryPoint(
                    timestamp: Timestamp(milliseconds: now - Int64(minute) * 60_000),
                    values: [key: .integer(Int64(minute))]
                )
            }
            try await fixture.store.saveTimeseries(of: device.id, points, at: .now)
        }
        return device.id
    }

    private static func values(_ fixture: StoreFixture, _ device: DeviceId, _ key: String) async throws -> [JSON] {
        try await fixture.store.timeseries(
            of: device,
            key: key,
            from: Timestamp(milliseconds: 0),
            to: Timestamp(milliseconds: .max),
            limit: 100_000,
            ascending: false
        ).map(\.value)
    }

    @Test("points far ahead neither count nor make a real one go", .bug(id: "D2.5"))
    func ahead() async throws {
        let retention = Retention(timeseriesAge: .seconds(86_400), timeseriesCount: 3)
        try await StoreFixture.with(options: Self.options(retention)) { fixture in
            let device = try await Self.device(fixture, series: ["a": 5])
            let year: Int64 = 365 * 86_400_000
            let points = (0..<4).map { index in
                TelemetryPoint(
                    timestamp: Timestamp(milliseconds: fixture.clock.now.rawValue + year + index),
                    values: ["a": .string("ahead"), "only": 1]
                )
            }
            try await fixture.store.saveTimeseries(of: device, points, at: .now)
            #expect(try await fixture.store.removeOld() == 2)
            #expect(try await fixture.store.removeOld() == 0)
            #expect(try await Self.values(fixture, device, "a").filter { $0 != "ahead" } == [1, 2, 3])
            #expect(try await Self.values(fixture, device, "only").count == 4)
        }
    }

    @Test("nothing is removed unless it was asked for")
    func off() async throws {
        try await StoreFixture.with { fixture in
            let device = try await Self.device(fixture, series: ["a": 20])
            #expect(try await fixture.store.removeOld() == 0)
            #expect(try await Self.values(fixture, device, "a").count == 20)
        }
    }

    @Test("of a series goes what is too old, and of the rest what is too much, but never the newest")
    func series() async throws {
        let retention = Retention(timeseriesAge: .seconds(630), timeseriesCount: 5)
        try await StoreFixture.with(options: Self.options(retention)) { fixture in
            let one = try await Self.device(fixture, series: ["a": 20, "b": 3, "c": 5, "d": 6])
            let other = try await Self.device(fixture, series: ["a": 6])
            try await fixture.store.saveTimeseries(
                of: one,
                [TelemetryPoint(timestamp: Timestamp(milliseconds: 1), values: ["old": 1])],
                at: .now
            )
            #expect(try await fixture.store.removeOld() == 15 + 1 + 1)
            #expect(try await Self.values(fixture, one, "a") == [1, 2, 3, 4, 5])
            #expect(try await Self.values(fixture, one, "b") == [1, 2, 3])
            #expect(try await Self.values(fixture, one, "c").count == 5)
            #expect(try await Self.values(fixture, one, "d") == [1, 2, 3, 4, 5])
            #expect(try await Self.values(fixture, one, "old") == [1])
            #expect(try await Self.values(fixture, other, "a") == [1, 2, 3, 4, 5])
            #expect(try await fixture.store.removeOld() == 0)
        }
        try await StoreFixture.with(options: Self.options(Retention(timeseriesAge: .seconds(630)))) { fixture in
            let device = try await Self.device(fixture, series: ["a": 20])
            #expect(try await fixture.store.removeOld() == 10)
            #expect(try await Self.values(fixture, device, "a").count == 10)
        }
    }

    @Test("more than a step may remove goes in several steps")
    func steps() async throws {
        let rows = SQLiteStore.removedPerWrite
        try await StoreFixture.with(options: Self.options(Retention(timeseriesCount: 1))) { fixture in
            var series: [String: Int] = ["long": 2 * rows + 2, "exact": rows + 1]
            for number in 0..<SQLiteStore.lookedAtPerRead { series["s\(number)"] = 2 }
            let device = try await Self.device(fixture, series: series)
            #expect(try await fixture.store.removeOld() == 2 * rows + 1 + rows + SQLiteStore.lookedAtPerRead)
            for key in ["long", "exact", "s0", "s\(SQLiteStore.lookedAtPerRead - 1)"] {
                #expect(try await Self.values(fixture, device, key) == [1])
            }
        }
    }

    @Test("old lines of a history go, but for how the present update came to where it is")
    func history() async throws {
        try await StoreFixture.with(options: Self.options(Retention(historyAge: .seconds(3600)))) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let device = try await fixture.device(in: profile.id)
            let first = try await fixture.package("fw", "1", in: profile.id)
            let second = try await fixture.package("fw", "2", in: profile.id)
            try await fixture.assign(first.id, to: device.id)
            try await fixture.assign(second.id, to: device.id)
            for state in ["DOWNLOADING", "NONSENSE"] {
                _ = try await store.record(
                    StateReport(type: .firmware, state: state, timestamp: fixture.clock.now),
                    of: device.id
                )
            }
            #expect(try await store.removeOld() == 0)
            // Each look at the clock is a second later.
            for _ in 0..<3600 { _ = fixture.clock.now }
            _ = try await store.record(
                StateReport(type: .firmware, state: "OTHER", timestamp: fixture.clock.now),
                of: device.id
            )
            #expect(try await store.removeOld() == 2)
            #expect(try await fixture.history(of: device.id) == ["QUEUED", "DOWNLOADING", "(OTHER)"])
            #expect(try await store.removeOld() == 0)
        }
    }

    @Test("the store removes what is old by itself while it runs, and stops when it is told to")
    func runs() async throws {
        try await StoreFixture.with(options: Self.options(Retention(timeseriesCount: 1))) { fixture in
            let device = try await Self.device(fixture, series: ["a": 30])
            let running = Task { await fixture.store.run() }
            while try await Self.values(fixture, device, "a").count > 1 { await Task.yield() }
            running.cancel()
            await running.value
        }
    }
}
