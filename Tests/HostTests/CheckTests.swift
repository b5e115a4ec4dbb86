import Foundation
import Testing

/// The command `windlass check`, and what the host says of the same files.
@Suite struct CheckTests {
    private static let plugins = ["--plugins", Command.products.path]

    /// The chain file that ships.
    private static func shipped() throws -> String {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return try String(contentsOf: root.appending(path: "chains/ota.xml"), encoding: .utf8)
    }

    /// The nodes that the comments of the chain file that ships suggest in place of one of its own, from one to another text.
    private static func suggested(in text: String, from start: String, through end: String) throws -> String {
        let begin = try #require(text.ranges(of: start).last?.lowerBound)
        let finish = try #require(text[begin...].firstRange(of: end)?.upperBound)
        return String(text[begin..<finish])
    }

    private static let assigned = #"<ota:assignments id="assigned" to="pace"/>"#

    /// The chain file that ships with the canary that its last comment shows.
    private static func canary() throws -> String {
        let text = try Self.shipped()
        let nodes = try Self.suggested(
            in: text,
            from: #"<ota:assignments id="assigned" to="canary"/>"#,
            through: #"interval-milliseconds="60000" to="pace"/>"#
        )
        try #require(text.contains(Self.assigned))
        return text.replacing(Self.assigned, with: nodes)
    }

    /// Checks a file with a text, and hands on what was printed, without the file's folder.
    private static func check(_ text: String, _ options: String...) async throws -> Command {
        try await withTemporaryFolder { folder in
            let file = folder.appending(path: "ota.xml")
            try Data(text.utf8).write(to: file)
            var command = try await Command.run(["check", file.path] + options + Self.plugins)
            command.errors = command.errors.replacing(folder.path + "/", with: "")
            return command
        }
    }

    @Test("the chain file that ships, and the canary and the lookup that it suggests, give no reason for a warning")
    func shippedFiles() async throws {
        let canary = try Self.canary()
        let lookup = try Self.suggested(
            in: canary,
            from: #"<ota:package-lookup id="which""#,
            through: "</ota:package-lookup>"
        )
        let lookingUp = canary.replacing(
            #"<ota:assignments id="assigned" to="canary"/>"#,
            with: #"<ota:assignments id="assigned" to="which"/>"# + lookup
        )
        for text in [try Self.shipped(), canary, lookingUp] {
            let checked = try await Self.check(text, "--strict")
            #expect(checked.errors == "")
            #expect(checked.output == "1 chain file checked, no fault\n")
            #expect(checked.status == 0)
        }
    }

    @Test("a filter that lets assignments go is worth a warning, and with --strict a failure")
    func deadEnd() async throws {
        let text = try Self.canary().replacing(#"<link on="False" to="others"/>"#, with: "")
            .replacing(#"<flow:throttle id="others" interval-milliseconds="60000" to="pace"/>"#, with: "")
        let before = try #require(text.firstRange(of: #"<flow:filter id="canary""#)).lowerBound
        let line = text[..<before].count { $0 == "\n" } + 1
        let warning =
            "ota.xml:\(line):10: warning: a message from 'assigned' that leaves 'canary' by 'False' ends there, and its device is "
            + "not notified; link 'False' to a node that leads to 'push' [dead-end]\n"

        let checked = try await Self.check(text)
        #expect(checked.errors == warning)
        #expect(checked.output == "1 chain file checked, no fault, 1 warning\n")
        #expect(checked.status == 0)

        let strict = try await Self.check(text, "--strict")
        #expect(strict.errors == warning)
        #expect(strict.output == "")
        #expect(strict.status == 1)
    }

    @Test("a host starts in spite of warnings and logs them, also where it refuses a reload for an error")
    func hostLogs() async throws {
        try await withTemporaryFolder { folder in
            let chains = folder.appending(path: "chains")
            try FileManager.default.createDirectory(at: chains, withIntermediateDirectories: false)
            func write(_ name: String, _ nodes: String) throws {
                let text = """
                    <chain name="\(name)" xmlns="urn:windlass:chain:1" xmlns:flow="urn:windlass:flow" xmlns:ota="urn:windlass:ota">
                    <ota:assignments id="assigned" to="log"/>\(nodes)
                    </chain>
                    """
                try Data(text.utf8).write(to: chains.appending(path: name + ".xml"), options: .atomic)
            }
            try write("doubtful", #"<flow:log id="log" message="x"/>"#)
            let warning = "chains/doubtful.xml:2:42: warning: "
            let arguments = ["--chains", chains.path, "--data", folder.appending(path: "data").path, "--watch"]
            let status = try await RunningHost.serve(arguments + Self.plugins) { lines in
                var warnings = 0
                for await line in lines {
                    if line.contains(warning) {
                        #expect(line.contains(" warning "), "\(line)")
                        warnings += 1
                    }
                    if line.hasSuffix("ready") {
                        #expect(warnings == 1)
                        try write("wrong", "")
                    }
                    if line.contains("chains not reloaded") {
                        #expect(warnings == 2)
                        return
                    }
                }
                Issue.record("the host ended before")
            }
            #expect(status == 0)
        }
    }
}
