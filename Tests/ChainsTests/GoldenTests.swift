import Chains
import Foundation
import NodeKit
import Testing

/// Chain files, each with the faults or the plan that is expected beside it; a new case is a new file.
///
/// Set `WINDLASS_RECORD` to write what is found instead; the run fails then, so that nobody records without looking.
@Suite struct GoldenTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden")
    private static let environment = ["PORT": "8080", "EMPTY": "", "WORD": "eighty"]

    /// A case is a file, or a folder whose files are one set.
    private static func cases(_ kind: String) -> [String] {
        let names = try? FileManager.default.contentsOfDirectory(atPath: Self.folder.appending(path: kind).path)
        return (names ?? []).filter { !$0.hasSuffix(".expected") }.sorted()
    }

    private static func check(_ name: String, _ kind: String) throws -> CheckedChains {
        let url = Self.folder.appending(path: kind).appending(path: name)
        let sources =
            name.hasSuffix(".xml")
            ? try ChainSource.read(files: [url.path]) : try ChainSource.read(folder: url.path)
        // The messages name the files without the folder that this clone is in.
        let named = sources.map { ChainSource(path: ($0.path as NSString).lastPathComponent, bytes: $0.bytes) }
        return try ChainChecker(types: TestPlugin.types(), environment: Self.environment).check(named)
    }

    private static func compare(_ found: String, _ name: String, _ kind: String) throws {
        let expected = Self.folder.appending(path: kind).appending(path: name + ".expected")
        if ProcessInfo.processInfo.environment["WINDLASS_RECORD"] != nil {
            try Data((found + "\n").utf8).write(to: expected)
            Issue.record("recorded \(kind)/\(name).expected; read it, then run without WINDLASS_RECORD")
            return
        }
        let text = try String(contentsOf: expected, encoding: .utf8)
        #expect(found + "\n" == text)
    }

    @Test("A faulty chain file is refused with exactly these faults", arguments: Self.cases("faults"))
    func faults(name: String) throws {
        do {
            _ = try Self.check(name, "faults")
            Issue.record("\(name) was accepted")
        } catch let faults as ChainFaults {
            try Self.compare(faults.description, name, "faults")
        }
    }

    @Test("A sound chain file has exactly this plan", arguments: Self.cases("chains"))
    func plans(name: String) throws {
        let checked = try Self.check(name, "chains")
        #expect(checked.warnings == [])
        let chains = checked.chains
        let lines = chains.flatMap { chain in
            ["chain \(chain.name) (\(chain.path)), at most \(chain.hopsMax) hops"]
                + chain.nodes.flatMap { node in
                    ["  \(node.type) \(node.id)"]
                        + node.links.map { "    \($0.relation) -> \(chain.nodes[$0.target].id)" }
                }
        }
        try Self.compare(lines.joined(separator: "\n"), name, "chains")
    }

    @Test("A doubtful chain file is accepted with exactly these warnings", arguments: Self.cases("warnings"))
    func warnings(name: String) throws {
        let warnings = try Self.check(name, "warnings").warnings
        #expect(warnings.allSatisfy { $0.severity == .warning })
        try Self.compare(warnings.map(\.description).joined(separator: "\n"), name, "warnings")
    }

    @Test("Each fault code of the documentation has a golden file")
    func allCodesCovered() throws {
        let found = try ["faults", "warnings"].flatMap { kind in
            try Self.cases(kind).map { name in
                let file = Self.folder.appending(path: kind).appending(path: name + ".expected")
                return try String(contentsOf: file, encoding: .utf8)
            }
        }.joined()
        let docs = Self.folder.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "docs/chain-files.md")
        let codes = try String(contentsOf: docs, encoding: .utf8).matches(of: /(?m)^\| `([a-z-]+)` \|/).map {
            String($0.1)
        }
        #expect(codes.count > 25)
        // Faults of files and folders are tested in ChainSourceTests, those beyond large limits in LimitTests.
        let elsewhere = ["unreadable-file", "empty-folder", "too-large", "too-many-elements"]
        for code in codes where !elsewhere.contains(code) {
            #expect(found.contains("[\(code)]"), "no golden file for '\(code)'")
        }
    }
}
