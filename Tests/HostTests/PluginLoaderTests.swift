import Foundation
import NodeKit
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

    @Test func `the stamp in a plugin is that of the platform it was built with`() async throws {
        let stamp = try #require(try PluginLoader.stamp(of: Self.flowNodes.path))
        #expect(stamp.platform == Platform.version)
        #expect(stamp.swift.hasPrefix("6."))
    }

    @Test func `a plugin built against another platform is refused before it is loaded`() async throws {
        try await withTemporaryFolder { folder in
            var bytes = try Data(contentsOf: Self.flowNodes)
            let range = try #require(bytes.range(of: Data("platform=\(Platform.version)".utf8)))
            bytes.replaceSubrange(range, with: Data("platform=0.0.9".utf8))
            try bytes.write(to: folder.appendingPathComponent("libFlowNodesPlugin.so"))
            let nodes = try await Command.run("nodes", "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(nodes.errors.contains("\(folder.path)/libFlowNodesPlugin.so"))
            #expect(nodes.errors.contains("was built against platform 0.0.9"))
            #expect(nodes.errors.contains("this host is platform \(Platform.version)"))
            #expect(nodes.errors.contains("[plugin-stamp]"))
        }
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
            try whole.prefix(stamp.upperBound + 100).write(to: folder.appendingPathComponent("libFlowNodesPlugin.so"))
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
