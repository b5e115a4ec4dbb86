import FoundationEssentials
public import NodeKit
public import NodeTesting
import OTA
import Synchronization
public import Testing

extension DomainFixture {
    /// Runs a test with an empty folder, which goes when the test ends.
    public static func withFolder(_ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/windlass-store-\(UUID.random().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body(folder)
    }
}

/// A time of day that goes on by a second with each look.
public final class SteppingTime: Sendable {
    private let time = Mutex(Timestamp(milliseconds: 1_700_000_000_000))

    /// Makes a time at its start.
    public init() {}

    /// The time, which is a second later each time.
    public var now: Timestamp {
        self.time.withLock { time in
            time.rawValue += 1000
            return time
        }
    }

    /// Looks at the time.
    public var look: @Sendable () -> Timestamp { { self.now } }
}

/// Expects an error with this sentence.
public func expectRefusal(
    _ sentence: String,
    code: NodeError.Code = .badRequest,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Void
) async {
    let error = await #expect(throws: NodeError.self, sourceLocation: sourceLocation) { try await body() }
    #expect(error?.message == sentence, sourceLocation: sourceLocation)
    #expect(error?.code == code, sourceLocation: sourceLocation)
}
