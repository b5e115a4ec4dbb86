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
