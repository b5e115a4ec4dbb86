import Foundation
import NodeKit
import PluginEntry
import Testing

@testable import Host

@Suite struct PluginLoaderTests {
    private static let flowNodes = Command.products.appendingPathComponent("libFlowNodesPlugin.so")

    @Test func `the plugins that ship are loaded like any other and listed`() async throws {
        let nodes = try await Command.run("nodes", "--format", "json")
        #expect(nodes.status == 0, "\(nodes.errors)")
        let names = try JSON(parsing: nodes.output).array?.compactMap { $0["name"]?.string }
        #expect(names == ["CoAPIngress", "FlowNodes", "HTTPIngress", "MQTTIngress", "OTANodes"])
    }

    @Test func `the stamp in a plugin is that of the platform it was built with`() throws {
        let text = try #require(try Data(contentsOf: Self.flowNodes).withUnsafeBytes { PlatformStamp.text(in: $0) })
        #expect(PlatformStamp(text) == PlatformStamp.current)
    }

    @Test func `a stamp says of what the platform was built`() {
        let stamp = PlatformStamp.current
        #expect(stamp.platform == Platform.version)
        #expect(stamp.sources.count == 16 && stamp.sources.allSatisfy(\.isHexDigit))
        #expect(stamp.compiler.hasPrefix("6."))
        #if DEBUG
            #expect(stamp.configuration == "debug")
        #else
            #expect(stamp.configuration == "release")
        #endif
        #expect(stamp.libraries["swift-nio"]?.hasPrefix("2.") == true, "\(stamp.libraries)")
        #expect(stamp.libraries["swift-collections"] != nil, "libraries of libraries count: \(stamp.libraries)")
    }

    @Test func `a stamp has a length that is looked for`() {
        for (count, isFound) in [(PlatformStamp.sizeMax, true), (PlatformStamp.sizeMax + 1, false)] {
            let text = String(repeating: "x", count: count)
            let bytes = Array("\u{1}bytes\u{1}windlass-plugin-stamp:\(text)\u{1}more".utf8)
            #expect(bytes.withUnsafeBytes { PlatformStamp.text(in: $0) } == (isFound ? text : nil))
        }
    }

    @Test func `a library has a length that is read`() async throws {
        for (count, reason) in [(0, "has no stamp of a plugin"), (1, "cannot read the plugin")] {
            try await withTemporaryFolder { folder in
                let path = folder.appendingPathComponent("libLargePlugin.so").path
                try Data().write(to: URL(fileURLWithPath: path))
                try #require(truncate(path, PluginLoader.librarySizeMax + count) == 0)
                let nodes = try await Command.run("nodes", "--plugins", folder.path)
                #expect(nodes.status == 1)
                #expect(nodes.errors.contains(path) && nodes.errors.contains(reason), "\(nodes.errors)")
            }
        }
    }

    /// A part of a stamp as it is in the file, what stands there instead, and what the refusal says of it.
    struct Difference: CustomTestStringConvertible {
        let part: String
        let other: String
        let sentence: String
        var testDescription: String { self.sentence }

        static var all: [Difference] {
            let present = PlatformStamp.current
            let compiler = "5" + present.compiler.dropFirst()
            let nio = present.libraries["swift-nio"] ?? ""
            return [
                .init(
                    part: "platform=\(present.platform);",
                    other: "platform=0.0.9;",
                    sentence: "platform 0.0.9 instead of \(present.platform)"
                ),
                .init(
                    part: "sources=\(present.sources)",
                    other: "sources=0123456789abcdef",
                    sentence: "sources 0123456789abcdef instead of \(present.sources)"
                ),
                .init(
                    part: "compiler=\(present.compiler)",
                    other: "compiler=\(compiler)",
                    sentence: "Swift \(compiler) instead of \(present.compiler)"
                ),
                .init(
                    part: "configuration=\(present.configuration.first ?? "d")",
                    other: "configuration=x",
                    sentence: "configuration x\(present.configuration.dropFirst()) instead of \(present.configuration)"
                ),
                .init(
                    part: "swift-nio \(nio),",
                    other: "swift-nio 1\(nio.dropFirst()),",
                    sentence:
                        "swift-nio 1\(nio.dropFirst()) instead of \(nio); copy Package.resolved from Windlass, then"
                ),
                .init(
                    part: "swift-nio \(nio),",
                    other: "swift-mio \(nio),",
                    sentence: "swift-mio \(nio) instead of none, swift-nio none instead of \(nio)"
                ),
            ]
        }
    }

    @Test("A plugin built against another platform is refused with what differs", arguments: Difference.all)
    func otherPlatform(difference: Difference) async throws {
        try await withTemporaryFolder { folder in
            let path = folder.appendingPathComponent("libFlowNodesPlugin.so").path
            try Self.patch(Self.flowNodes, difference.part, difference.other, to: path)
            let nodes = try await Command.run("nodes", "--plugins", folder.path)
            #expect(nodes.status == 1)
            let sentence =
                "the plugin '\(path)' was built against another platform than this host's: \(difference.sentence)"
            #expect(nodes.errors.contains(sentence), "\(nodes.errors)")
            let remedy =
                "swift build -c \(PlatformStamp.current.configuration) --product FlowNodesPlugin [plugin-stamp]"
            #expect(nodes.errors.contains(remedy), "\(nodes.errors)")
        }
    }

    @Test func `a plugin with a stamp of another form is refused`() async throws {
        try await withTemporaryFolder { folder in
            let path = folder.appendingPathComponent("libFlowNodesPlugin.so").path
            try Self.patch(Self.flowNodes, ";sources=", ";other$$=", to: path)
            let nodes = try await Command.run("nodes", "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(
                nodes.errors.contains("'\(path)' was built against a platform whose stamp"),
                "\(nodes.errors)"
            )
            #expect(nodes.errors.contains("[plugin-stamp]"))
        }
    }

    @Test func `a program built against another platform than the one beside it ends with a sentence`() async throws {
        try await withTemporaryFolder { folder in
            let program = folder.appendingPathComponent("windlass")
            let source = Command.products.appendingPathComponent("windlass")
            let present = PlatformStamp.current
            try Self.patch(source, "sources=\(present.sources)", "sources=0123456789abcdef", to: program.path)
            try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: program.path)
            try FileManager.default.createSymbolicLink(
                at: folder.appendingPathComponent("libWindlassPlatform.so"),
                withDestinationURL: Command.products.appendingPathComponent("libWindlassPlatform.so")
            )
            let nodes = try await Command.run(executable: program, ["nodes", "--plugins", Command.products.path])
            #expect(nodes.status == 1)
            #expect(
                nodes.errors.contains("sources 0123456789abcdef instead of \(present.sources)")
                    && nodes.errors.contains("[platform-stamp]"),
                "\(nodes.errors)"
            )
        }
    }

    /// Copies a file with other bytes, of the same number, in place of some.
    private static func patch(_ file: URL, _ part: String, _ other: String, to path: String) throws {
        try #require(part.utf8.count == other.utf8.count)
        var bytes = try Data(contentsOf: file)
        var start = bytes.startIndex
        var count = 0
        while let range = bytes.range(of: Data(part.utf8), in: start..<bytes.endIndex) {
            bytes.replaceSubrange(range, with: Data(other.utf8))
            start = range.upperBound
            count += 1
        }
        try #require(count > 0, "'\(part)' is not in \(file.path)")
        try bytes.write(to: URL(fileURLWithPath: path))
    }

    @Test func `a library that is no plugin is refused`() async throws {
        try await withTemporaryFolder { folder in
            try Data("not a library".utf8).write(to: folder.appendingPathComponent("libTextPlugin.so"))
            let nodes = try await Command.run("nodes", "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(nodes.errors.contains("\(folder.path)/libTextPlugin.so' has no stamp of a plugin"))
        }
    }

    @Test func `a library with a stamp that cannot be loaded is refused with the loader's reason`() async throws {
        try await withTemporaryFolder { folder in
            let whole = try Data(contentsOf: Self.flowNodes)
            let stamp = try #require(whole.range(of: Data("windlass-plugin-stamp".utf8)))
            try whole.prefix(stamp.upperBound + PlatformStamp.sizeMax).write(
                to: folder.appendingPathComponent("libFlowNodesPlugin.so")
            )
            let nodes = try await Command.run("nodes", "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(nodes.errors.contains("cannot load the plugin '\(folder.path)/libFlowNodesPlugin.so'"))
            #expect(nodes.errors.contains("[plugin-unloadable]"))
        }
    }

    @Test func `a library without the entry named after its file is refused`() async throws {
        try await withTemporaryFolder { folder in
            let copy = folder.appendingPathComponent("libOtherPlugin.so")
            try FileManager.default.copyItem(at: Self.flowNodes, to: copy)
            let nodes = try await Command.run("nodes", "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(nodes.errors.contains("'\(copy.path)' does not export 'windlass_plugin_Other'"))
        }
    }

    @Test func `a plugin whose node types are taken is refused`() async throws {
        try await withTemporaryFolder { folder in
            let copy = folder.appendingPathComponent("libFlowNodesPlugin.so")
            try FileManager.default.copyItem(at: Self.flowNodes, to: copy)
            let nodes = try await Command.run("nodes", "--plugins", Command.products.path, "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(nodes.errors.contains("plugin '\(copy.path)'"))
        }
    }

    @Test func `a folder named twice is read once`() async throws {
        let nodes = try await Command.run(
            "nodes",
            "--plugins",
            Command.products.path,
            "--plugins",
            Command.products.path + "/."
        )
        #expect(nodes.status == 0, "\(nodes.errors)")
    }

    @Test func `a folder without plugins is refused`() async throws {
        try await withTemporaryFolder { folder in
            let nodes = try await Command.run("nodes", "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(nodes.errors.contains("the plugin folder '\(folder.path)' holds no plugin"))
        }
    }

    @Test func `a folder that is not there is refused`() async throws {
        let nodes = try await Command.run("nodes", "--plugins", "/nowhere/at/all")
        #expect(nodes.status == 1)
        #expect(nodes.errors.contains("cannot read the plugin folder '/nowhere/at/all'"))
    }
}
