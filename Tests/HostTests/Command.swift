import Foundation
import NodeKit
import Testing

/// The built command, run as a user would.
struct Command {
    /// The folder that the build leaves executables and plugins in; test runners are there, too.
    static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

    let status: Int32
    let output: String
    var errors: String

    /// Runs `windlass` with arguments and waits for it, on a thread that no other test needs.
    static func run(_ arguments: String...) async throws -> Command { try await Self.run(arguments) }

    /// Runs `windlass`, or another executable, with arguments.
    static func run(
        executable: URL = Self.products.appendingPathComponent("windlass"),
        _ arguments: [String]
    ) async throws -> Command {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async { continuation.resume(with: Result { try Command(executable, arguments) }) }
        }
    }

    private init(_ executable: URL, _ arguments: [String]) throws {
        let process = Process()
        process.executableURL = executable
        process.arguments = arguments
        let output = Pipe()
        // A pipe that nobody reads would stop the process; a file does not.
        let errors = FileManager.default.temporaryDirectory.appendingPathComponent("windlass-\(UUID.random()).err")
        _ = FileManager.default.createFile(atPath: errors.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: errors) }
        process.standardOutput = output
        process.standardError = try FileHandle(forWritingTo: errors)
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        self.status = process.terminationStatus
        self.output = String(decoding: data, as: UTF8.self)
        self.errors = try String(contentsOf: errors, encoding: .utf8)
    }
}

/// A folder that is gone after the test.
func withTemporaryFolder<Result>(_ body: (URL) async throws -> Result) async throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("windlass-test-\(UUID.random())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try await body(folder)
}

/// The built host, while it runs.
enum RunningHost {
    /// Runs `windlass serve` with arguments, hands the body the lines of both its outputs, and then ends it with SIGTERM.
    ///
    /// - Returns: The status that it ended with.
    static func serve(
        _ arguments: [String],
        body: (AsyncStream<String>) async throws -> Void
    ) async throws -> Int32 {
        let process = Process()
        process.executableURL = Command.products.appendingPathComponent("windlass")
        process.arguments = ["serve", "--management", "127.0.0.1:0"] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        let (lines, continuation) = AsyncStream.makeStream(of: String.self)
        try process.run()
        // A thread that may block; it ends with the process, which closes the pipe.
        DispatchQueue.global().async {
            var rest = Data()
            while case let data = output.fileHandleForReading.availableData, !data.isEmpty {
                rest += data
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    continuation.yield(String(decoding: rest[..<end], as: UTF8.self))
                    rest = Data(rest[(end + 1)...])
                }
            }
            continuation.finish()
        }
        do {
            try await body(lines)
        } catch {
            process.terminate()
            throw error
        }
        process.terminate()
        return await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                process.waitUntilExit()
                continuation.resume(returning: process.terminationStatus)
            }
        }
    }
}
