import NodeKit
import OTA
import Testing

/// What concerns a whole fleet goes in steps, and nobody can tell by what they get in the end.
@Suite struct FleetTests {
    /// More than one transaction takes.
    private static let count = 1100

    private static func with(
        _ engine: EngineUnderTest,
        _ body: (EngineFixture, DeviceProfile, [OtaPackage], [Device]) async throws -> Void
    ) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.profile()
            let packages = [
                try await fixture.package("fw", "1", in: profile.id),
                try await fixture.package("fw", "2", in: profile.id),
            ]
            let devices = try await fixture.devices(Self.count, in: profile.id)
            try await body(fixture, profile, packages, devices)
        }
    }

    /// Waits until all updates are to a package, while the engine runs.
    private static func reached(_ package: OtaPackage, _ fixture: EngineFixture) async throws {
        let store = fixture.store
        try await fixture.running {
            var mark: UInt64?
            while try await store.countUpdates(UpdateFilter(packageId: package.id)).values.reduce(0, +) < Self.count {
                mark = await store.waitForAssignments(since: mark)
            }
        }
    }

    @Test(
        "a package of a profile is every device's at once, and each gets its update once",
        arguments: EngineUnderTest.all
    )
    func assigned(engine: EngineUnderTest) async throws {
        try await Self.with(engine) { fixture, profile, packages, devices in
            let store = fixture.store
            try await fixture.assign(packages[0].id, to: profile.id)
            for device in devices {
                #expect(try await store.effectivePackage(for: device.id, type: .firmware)?.package.id == packages[0].id)
            }
            // A report from the middle of the work finds the update, whichever device it is from.
            for device in devices.prefix(5) + devices.suffix(5) {
                let report = StateReport(type: .firmware, state: "DOWNLOADING", timestamp: fixture.clock.now)
                #expect(try await store.record(report, of: device.id) == .recorded(.downloading))
            }
            try await Self.reached(packages[0], fixture)
            #expect(try await store.countUpdates(UpdateFilter()) == [.queued: Self.count - 10, .downloading: 10])
            for device in devices {
                #expect(try await fixture.history(of: device.id).filter { $0 == "QUEUED" }.count == 1)
            }
            #expect(try await store.assignments(after: 0, limit: 9999).count == Self.count)
        }
    }

    @Test("the last package that a profile was given is what its devices get", arguments: EngineUnderTest.all)
    func superseded(engine: EngineUnderTest) async throws {
        try await Self.with(engine) { fixture, profile, packages, _ in
            for package in packages + packages { try await fixture.assign(package.id, to: profile.id) }
            try await Self.reached(packages[1], fixture)
            let assignments = try await fixture.store.assignments(after: 0, limit: 9999)
            #expect(assignments.count == Self.count)
            #expect(assignments.allSatisfy { $0.packageId == packages[1].id })
        }
    }

    @Test("what was not done when the engine was closed goes on when it is opened", arguments: EngineUnderTest.durable)
    func reopened(engine: EngineUnderTest) async throws {
        try await Self.with(engine) { fixture, profile, packages, devices in
            try await fixture.assign(packages[0].id, to: profile.id)
            try await fixture.reopen()
            try await Self.reached(packages[0], fixture)
            #expect(try await fixture.store.assignments(after: 0, limit: 9999).count == Self.count)
            for device in devices { #expect(try await fixture.history(of: device.id) == ["QUEUED"]) }
        }
    }

    @Test("a command right after an assignment is about the new updates of all devices", arguments: EngineUnderTest.all)
    func command(engine: EngineUnderTest) async throws {
        try await Self.with(engine) { fixture, profile, packages, _ in
            let store = fixture.store
            try await fixture.assign(packages[0].id, to: profile.id)
            #expect(
                try await store.carryOut(.cancel, on: UpdateFilter(packageId: packages[0].id), by: "me") == Self.count
            )
            #expect(try await store.countUpdates(UpdateFilter()) == [.failed: Self.count])
        }
    }
}
