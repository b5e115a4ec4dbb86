import FoundationEssentials
import NodeKit
import OTA
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What an engine that keeps its data owes to those that it acknowledged something to.
@Suite struct KilledTests {
    @Test(
        "what was acknowledged is there after the process was killed in a storm of reports",
        arguments: EngineUnderTest.durable
    )
    func killed(engine: EngineUnderTest) async throws {
        try await EngineFixture.withFolder { folder in
            let name = engine.testDescription
            await #expect(processExitsWith: .signal(SIGKILL)) { [folder = folder as String, name = name as String] in
                let engine = try #require(EngineUnderTest.durable.first { $0.testDescription == name })
                try await Storm.run(engine, folder)
            }
            let store = try await engine.open(folder, DeviceSessions()) { .now }
            let acknowledged = try Storm.acknowledged(folder)
            #expect(acknowledged.count >= Storm.reports)
            for entry in acknowledged {
                let parts = entry.split(separator: " ").map(String.init)
                let device = try #require(DeviceId(parts[0]))
                let history = try await store.updateHistory(of: device, type: .firmware)
                #expect(history.contains { $0.state == parts[1] }, "\(entry)")
            }
            #expect(try await engine.check(store) == [])
            await store.close()
        }
    }
}

/// Many devices that report at once, in a process that is killed meanwhile.
private enum Storm {
    static let reports = 300

    /// Notes each report in a file once it was acknowledged, and ends by SIGKILL.
    static func run(_ engine: EngineUnderTest, _ folder: String) async throws {
        let store = try await engine.open(folder, DeviceSessions()) { .now }
        let log = open("\(folder)/acknowledged", O_WRONLY | O_CREAT | O_APPEND, 0o600)
        let notes = Notes(file: log)
        let profile = try await store.defaultDeviceProfile(of: .main)
        try await withThrowingTaskGroup { group in
            for number in 0..<32 {
                let device = Device(name: "d\(number)", deviceProfileId: profile.id)
                group.addTask {
                    _ = try await store.saveDevice(device, accessToken: nil)
                    for step in 0... {
                        let report = StateReport(type: .firmware, state: "S\(step)", timestamp: .now)
                        _ = try await store.record(report, of: device.id)
                        if notes.add("\(device.id) S\(step)\n") >= Self.reports { kill(getpid(), SIGKILL) }
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// What was acknowledged, in a file that the end of the process leaves behind.
    final class Notes: Sendable {
        private let file: Int32
        private let count = Mutex(0)

        init(file: Int32) { self.file = file }

        /// Adds a note and returns how many there are.
        func add(_ note: String) -> Int {
            _ = Array(note.utf8).withUnsafeBytes { write(self.file, $0.baseAddress, $0.count) }
            return self.count.withLock { count in
                count += 1
                return count
            }
        }
    }

    static func acknowledged(_ folder: String) throws -> [String] {
        let text = String(decoding: try Data(contentsOf: URL(filePath: "\(folder)/acknowledged")), as: UTF8.self)
        // A line that was being written has no end; its report was acknowledged, but to whom is not known.
        return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    }
}
