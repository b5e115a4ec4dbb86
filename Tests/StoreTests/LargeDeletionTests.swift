import NodeKit
import OTA
import Testing

@testable import Store

/// What is deleted goes in transactions of bounded size, so that nobody waits for a whole fleet or a long series.
@Suite struct LargeDeletionTests {
    private static func with(
        _ body: (StoreFixture, Device, _ transactions: () async throws -> Double) async throws -> Void
    ) async throws {
        try await StoreFixture.with { fixture in
            let device = try await fixture.device(in: try await fixture.profile().id)
            let points = (0..<SQLiteStore.deletedValuesMax + 2).map { number in
                TelemetryPoint(timestamp: Timestamp(milliseconds: Int64(number)), values: ["a": 1, "fw_state": "x"])
            }
            try await fixture.store.saveTimeseries(of: device.id, points, at: fixture.clock.now)
            try await body(fixture, device) {
                let families = try await fixture.store.metrics()
                let commits = families.first { $0.name == "windlass_store_commit_seconds" }
                return try #require(commits?.samples.first { $0.suffix == "_count" }).value
            }
        }
    }

    @Test("a device with long series goes in several transactions, the device itself with the last")
    func device() async throws {
        try await Self.with { fixture, device, transactions in
            let before = try await transactions()
            try await fixture.store.deleteDevice(device.id)
            #expect(try await transactions() - before == 3)
            #expect(try await fixture.store.findDeviceById(device.id) == nil)
        }
    }

    @Test("a long series goes in several transactions, and what is out of range stays")
    func series() async throws {
        try await Self.with { fixture, device, transactions in
            let before = try await transactions()
            let range = Timestamp(milliseconds: 1)...Timestamp(milliseconds: .max)
            try await fixture.store.deleteTimeseries(of: device.id, keys: ["a", "fw_state"], in: range)
            #expect(try await transactions() - before == 3)
            let left = try await fixture.store.latestTimeseries(of: device.id, keys: nil)
            #expect(left.map(\.key) == ["a", "fw_state"])
            #expect(left.allSatisfy { $0.timestamp.rawValue == 0 })
        }
    }

    @Test("a package that many devices had goes in several transactions, and their records keep its title")
    func package() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let package = try await fixture.package(in: profile.id)
            let count = MassAssignments.stepMax
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<count {
                    group.addTask { _ = try await fixture.device("d\(number)", in: profile.id) }
                }
                try await group.waitForAll()
            }
            try await fixture.assign(package.id, to: profile.id)
            #expect(try await store.carryOut(.cancel, on: UpdateFilter(), by: "me") == count)
            await #expect(throws: NodeError.self) { try await store.deleteOtaPackage(package.id) }
            try await fixture.assign(nil as OtaPackageId?, to: profile.id)
            try await store.deleteOtaPackage(package.id)
            let updates = try await store.findUpdates(UpdateFilter(), page: PageLink(pageSize: count)).data
            #expect(updates.count == count)
            #expect(updates.allSatisfy { $0.record.packageId == nil && $0.record.title == "fw" })
        }
    }
}
