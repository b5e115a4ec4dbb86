import NodeKit
import OTA
import Testing

@testable import Store

@Suite struct StoreMetricsTests {
    private static func value(
        _ families: [MetricFamily],
        _ name: String,
        suffix: String = "",
        _ labels: [MetricSample.Label] = []
    ) -> Double? {
        families.first { $0.name == name }?.samples.first { $0.suffix == suffix && $0.labels == labels }?.value
    }

    @Test("writes, commits and what there is are counted; every state is shown, also one that no update is in")
    func counts() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            for number in 0..<3 { _ = try await fixture.device("d\(number)", in: profile.id) }
            try await fixture.assign(package.id, to: profile.id)
            let families = try await fixture.store.metrics()
            // The profile, twice, the package, twice, and the devices.
            #expect((Self.value(families, "windlass_store_writes_total") ?? 0) >= 7)
            #expect((Self.value(families, "windlass_store_commit_seconds", suffix: "_count") ?? 0) > 0)
            #expect((Self.value(families, "windlass_store_commit_seconds", suffix: "_sum") ?? 0) > 0)
            #expect(Self.value(families, "windlass_store_failed_commits_total") == 0)
            #expect(Self.value(families, "windlass_store_waiting_writes") == 0)
            #expect(Self.value(families, "windlass_devices") == 3)
            #expect(Self.value(families, "windlass_packages") == 1)
            let queued = [MetricSample.Label("type", "FIRMWARE"), MetricSample.Label("state", "QUEUED")]
            #expect(Self.value(families, "windlass_updates", queued) == 3)
            let states = families.first { $0.name == "windlass_updates" }?.samples.count
            #expect(states == OtaPackageType.allCases.count * OtaUpdateState.allCases.count)
        }
    }

    @Test("what waits is counted by node and reason, assignments wherever they wait, and updates that wait for nothing")
    func waiting() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            for number in 0..<4 { _ = try await fixture.device("d\(number)", in: profile.id) }
            try await fixture.assign(package.id, to: profile.id)
            let assigned = try await store.waitingAssignments.due(at: fixture.clock.now, limit: 9, without: []).messages
            try #require(assigned.count == 4)
            // Two go on to a node, one ends before its device is notified, and one stays where it is.
            let pace = store.queue(named: "ota/pace")
            for assignment in assigned[..<2] { try await pace.append(assignment.message, countMax: 9) }
            let end = HoldReason(code: "no-window", text: "there is none")
            try await store.waitingAssignments.settle(
                [SettledMessage(assigned[0]), SettledMessage(assigned[1]), SettledMessage(assigned[2], end: end)]
            )
            // What is not about an assignment.
            var hook = assigned[0].message
            hook.precedence = nil
            try await store.queue(named: "hooks/send").append(hook, countMax: 9)
            let due = try await pace.due(at: fixture.clock.now, limit: 1, without: []).messages
            let later = HoldReason(code: "window", text: "it is day")
            try await pace.postpone(due.map { PostponedMessage($0, due: fixture.clock.now, reason: later) })

            let families = try await store.metrics()
            func labels(_ pairs: (String, String)...) -> [MetricSample.Label] {
                pairs.map { MetricSample.Label($0, $1) }
            }
            #expect(Self.value(families, "windlass_waiting_assignments") == 3)
            let places = [("ota", "pace"), ("hooks", "send")].map { labels(("chain", $0), ("node", $1)) }
            #expect(places.map { Self.value(families, "windlass_waiting_messages", $0) } == [2, 1])
            let ages = places.compactMap { Self.value(families, "windlass_waiting_messages_oldest_seconds", $0) }
            // Each look at the clock takes it a second on, so the one that came first is older.
            #expect(ages.count == 2 && ages[0] > ages[1] && ages[1] > 0 && ages[0] < 60, "\(ages)")
            let laters = families.first { $0.name == "windlass_later_messages" }?.samples
            #expect(laters == [MetricSample(labels: places[0] + labels(("code", "window")), value: 1)])
            let held = families.first { $0.name == "windlass_held_updates" }?.samples
            #expect(held == [MetricSample(labels: labels(("type", "FIRMWARE"), ("code", "no-window")), value: 1)])
        }
    }

    @Test("a store is ready until it is closed")
    func readiness() async throws {
        try await StoreFixture.withFolder { folder in
            let store = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            #expect(await store.isReady())
            await store.close()
            #expect(await store.isReady() == false)
        }
    }
}
