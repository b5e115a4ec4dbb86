import NodeKit
import OTA
import Testing

@Suite struct AggregationTests {
    private func fill(_ fixture: EngineFixture, _ points: [(Int64, JSON)]) async throws -> DeviceId {
        let device = try await fixture.device(in: try await fixture.profile().id)
        let values = points.map { TelemetryPoint(timestamp: Timestamp(milliseconds: $0.0), values: ["k": $0.1]) }
        try await fixture.store.saveTimeseries(of: device.id, values, at: fixture.clock.now)
        return device.id
    }

    private func aggregated(
        _ fixture: EngineFixture,
        _ device: DeviceId,
        _ aggregation: TimeseriesAggregation,
        from start: Int64 = 0,
        to end: Int64 = 40,
        every length: Int64 = 10,
        ascending: Bool = true
    ) async throws -> [(Int64, JSON)] {
        let intervals = try TimeIntervals(
            from: Timestamp(milliseconds: start),
            to: Timestamp(milliseconds: end),
            length: length
        )
        return try await fixture.store.timeseries(
            of: device,
            key: "k",
            in: intervals,
            aggregation: aggregation,
            ascending: ascending
        ).map { ($0.timestamp.rawValue, $0.value) }
    }

    @Test(
        "Each interval with something to aggregate has one value, at its middle",
        arguments: EngineUnderTest.all,
        [
            (.minimum, [(5, 1), (15, 2.0), (35, "a")]), (.maximum, [(5, 3), (15, 2.5), (35, "b")]),
            (.average, [(5, 2.0), (15, 2.25)]), (.sum, [(5, 4), (15, 4.5)]),
            (.count, [(5, 2), (15, 2), (25, 1), (35, 2)]),
        ] as [(TimeseriesAggregation, [(Int64, JSON)])]
    )
    func aggregates(engine: EngineUnderTest, values: (TimeseriesAggregation, [(Int64, JSON)])) async throws {
        let (aggregation, expected) = values
        try await EngineFixture.with(engine) { fixture in
            let device = try await self.fill(
                fixture,
                [(0, 1), (9, 3), (10, 2), (19, 2.5), (20, true), (30, "b"), (39, "a"), (40, 100), (-1, 100)]
            )
            let found = try await self.aggregated(fixture, device, aggregation)
            #expect(found.map(\.0) == expected.map(\.0))
            #expect(found.map(\.1) == expected.map(\.1))
            let reversed = try await self.aggregated(fixture, device, aggregation, ascending: false)
            #expect(reversed.map(\.0) == expected.map(\.0).reversed())
        }
    }

    @Test(arguments: EngineUnderTest.all) func theLastIntervalEndsWithTheTime(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let device = try await self.fill(fixture, [(10, 1), (12, 2)])
            let last = try await self.aggregated(fixture, device, .count, to: 14)
            #expect(last.map(\.0) == [12])
            let one = try await self.aggregated(fixture, device, .count, from: 12, to: 12)
            #expect(one.map(\.0) == [12], "an empty span of time is one millisecond")
            #expect(one.map(\.1) == [1])
        }
    }

    @Test(arguments: EngineUnderTest.all) func sumsNeverFail(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let device = try await self.fill(
                fixture,
                [(0, .integer(.max)), (1, .integer(.max)), (10, 1e308), (11, 1e308)]
            )
            let sums = try await self.aggregated(fixture, device, .sum)
            #expect(sums.map(\.0) == [5])
            #expect(sums.first?.1 == .double(Double(Int64.max) * 2))
        }
    }

    @Test(
        "Intervals are taken up to their number, and refused beyond",
        arguments: [
            (0, 700_999, 1000, nil), (0, 701_000, 1000, "Number of intervals is to high - 701"), (0, 50_000, 1, nil),
            (0, 50_001, 1, "Number of intervals is to high - 50001"), (0, 10, 0, "must be greater than 0, but got 0"),
            (0, 10, -1, "but got -1"), (5000, 0, 1000, "Number of intervals is to high - -5"), (5, 0, 1000, nil),
            (.min, .max, .max, "Number of intervals is to high - 9223372036854775807"), (.max, .max, 1, nil),
        ] as [(Int64, Int64, Int64, String?)]
    )
    func limits(start: Int64, end: Int64, length: Int64, refusal: String?) {
        do {
            _ = try TimeIntervals(
                from: Timestamp(milliseconds: start),
                to: Timestamp(milliseconds: end),
                length: length
            )
            #expect(refusal == nil)
        } catch {
            #expect(error.code == .badRequest)
            #expect(refusal.map { error.message.contains($0) } ?? false, "\(error.message)")
        }
    }
}
