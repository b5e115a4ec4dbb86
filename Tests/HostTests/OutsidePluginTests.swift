import Foundation
import NIOCore
import NIOPosix
import NodeKit
import NodeTesting
import Testing

@testable import Host

/// Plugins that are no part of this package: compiled by the tests against the built platform, as their authors would.
@Suite struct OutsidePluginTests {
    /// The products of the build, in which the platform and the plugins that ship are.
    private static let products = Command.products.path

    /// A node that messages pass, and one where a single message starts.
    private static let nodes = """
        struct Shout: Node {
            static let descriptor = NodeDescriptor(
                type: "shout",
                summary: "Says it loudly.",
                relations: [RelationDescriptor(.success, "It is said."), RelationDescriptor("Nothing", "There is nothing.")],
                attributes: [.string("of", default: "deviceName", summary: "The variable's name.")],
                variables: [VariableDescriptor("shout", "The value in upper case.")]
            )
            let name: String
            init(configuration: Configuration, services: NodeServices) throws { name = configuration.string("of") }
            func process(_ message: Message) async throws -> Emission {
                guard let value = message.value(forVariable: name) else { return .route(message, to: "Nothing") }
                var message = message
                message.metadata["shout"] = .string(value.text.uppercased())
                return .route(message, to: .success)
            }
        }

        struct Once: IngressNode {
            static let descriptor = NodeDescriptor(
                type: "once",
                summary: "Sends one message.",
                relations: [RelationDescriptor(.success, "Now.")]
            )
            init(configuration: Configuration, services: NodeServices) throws {}
            func run(_ outlet: any Outlet) async throws {
                let pump = Originator(id: UUID.random(), name: "pump", type: "default")
                outlet.ready([])
                _ = await outlet.send(Message(originator: pump, type: .postTelemetryRequest, timestamp: .now))
                try await Task.sleep(for: .seconds(600))
            }
        }
        """

    /// Compiles `lib<name>Plugin.so` into a folder.
    private func compile(
        _ name: String,
        namespace: String,
        types: String,
        nodes: String = Self.nodes,
        linking options: [String] = [],
        into folder: URL
    ) async throws {
        let source = folder.appendingPathComponent("\(name).swift")
        let text = """
            import Foundation
            import NodeKit
            import PluginEntry

            @c(windlass_plugin_\(name))
            public func plugin() -> UnsafeMutableRawPointer {
                Plugin(name: "\(name)", version: "1.0.0", namespace: "\(namespace)", nodes: [\(types)]).exported()
            }

            \(nodes)
            """
        try text.write(to: source, atomically: true, encoding: .utf8)
        try await self.compile([source], module: name, as: name, linking: options, into: folder)
    }

    /// Compiles `lib<name>Plugin.so` into a folder.
    private func compile(
        _ sources: [URL],
        module: String,
        as name: String,
        linking options: [String] = [],
        into folder: URL
    ) async throws {
        // The modules of the platform name C modules; SwiftPM tells the compiler of a dependent package where they are.
        let build = Command.products.deletingLastPathComponent().deletingLastPathComponent()
        let modules =
            try Self.subfolders(of: Command.products).map { $0.appendingPathComponent("module.modulemap") }
            + Self.subfolders(of: build.appendingPathComponent("checkouts")).flatMap { checkout in
                (try? Self.subfolders(of: checkout.appendingPathComponent("Sources"))) ?? []
            }
            .filter {
                ["_AtomicsShims", "_NumericsShims", "CSystem", "CNIOWindows", "CNIOBoringSSL"].contains(
                    $0.lastPathComponent
                )
            }
            .map { $0.appendingPathComponent("include/module.modulemap") }
        let maps = modules.filter { FileManager.default.fileExists(atPath: $0.path) }
            .flatMap { ["-Xcc", "-fmodule-map-file=\($0.path)"] }
        let compiler = try await Command.run(
            executable: URL(fileURLWithPath: "/usr/bin/env"),
            [
                "swiftc", "-emit-library", "-parse-as-library", "-swift-version", "6", "-module-name", module,
                "-I", "\(Self.products)/Modules", "-L", Self.products, "-lWindlassPlatform",
                "-Xlinker", "-rpath", "-Xlinker", "$ORIGIN",
                "-o", folder.appendingPathComponent("lib\(name)Plugin.so").path,
            ] + sources.map(\.path) + maps + options
        )
        try #require(compiler.status == 0, "\(compiler.output)\(compiler.errors)")
    }

    private static func subfolders(of folder: URL) throws -> [URL] {
        try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    }

    @Test(.timeLimit(.minutes(2)))
    func `a plugin from outside is listed, checked and run in a chain with nodes that ship`() async throws {
        try await withTemporaryFolder { folder in
            try await self.compile(
                "Loud",
                namespace: "urn:example:loud",
                types: "Shout.self, Once.self",
                into: folder
            )
            // A package of one's own builds the platform, too; the process must go on with the one that it has.
            try Data("no library".utf8).write(to: folder.appendingPathComponent("libWindlassPlatform.so"))
            let plugins = ["--plugins", Self.products, "--plugins", folder.path]

            let nodes = try await Command.run(["nodes", "--format", "json"] + plugins)
            try #require(nodes.status == 0, "\(nodes.errors)")
            let listed = try JSON(parsing: nodes.output).array?.first { $0["name"] == "Loud" }
            #expect(listed?["nodes"]?.array?.map { $0["type"]?.string } == ["once", "shout"])

            let chains = folder.appendingPathComponent("chains")
            try FileManager.default.createDirectory(at: chains, withIntermediateDirectories: false)
            let file = chains.appendingPathComponent("loud.xml")
            func write(link: String) throws {
                let text = """
                    <chain name="loud" xmlns="urn:windlass:chain:1" xmlns:flow="urn:windlass:flow"
                           xmlns:loud="urn:example:loud">
                      <loud:once id="once" to="shout"/>
                      <loud:shout id="shout">\(link)</loud:shout>
                      <flow:log id="log" level="notice" message="FROM {shout}!"/>
                    </chain>
                    """
                try text.write(to: file, atomically: true, encoding: .utf8)
            }
            try write(link: #"<link on="Quietly" to="log"/>"#)
            let faulty = try await Command.run(["check", file.path] + plugins)
            #expect(faulty.status == 1)
            #expect(faulty.errors.contains("[unknown-relation]"), "\(faulty.errors)")
            try write(link: #"<link on="Success" to="log"/>"#)
            let checked = try await Command.run(["check", file.path] + plugins)
            #expect(checked.status == 0, "\(checked.errors)")

            let status = try await RunningHost.serve(
                ["--data", folder.appendingPathComponent("data").path, "--chains", chains.path] + plugins
            ) { lines in
                var awaited: Set = ["ready", "FROM PUMP!"]
                for await line in lines {
                    awaited = awaited.filter { !line.hasSuffix($0) }
                    if awaited.isEmpty { return }
                }
                Issue.record("the host ended before \(awaited)")
            }
            #expect(status == 0)
        }
    }

    @Test(.timeLimit(.minutes(2)))
    func `a plugin finds libraries that lie beside it, also as a copy`() async throws {
        try await withTemporaryFolder { folder in
            let side = folder.appendingPathComponent("side.c")
            try "int windlass_test_side(void) { return 7; }".write(to: side, atomically: true, encoding: .utf8)
            let library = folder.appendingPathComponent("libside.so").path
            let compiler = try await Command.run(
                executable: URL(fileURLWithPath: "/usr/bin/env"),
                ["clang", "-shared", "-fPIC", "-Wl,-soname,libside.so", side.path, "-o", library]
            )
            try #require(compiler.status == 0, "\(compiler.errors)")
            let function = #"@_silgen_name("windlass_test_side") func windlass_test_side() -> Int32"#
            let nodes = Self.nodes.replacingOccurrences(of: "Says it loudly.", with: #"\(windlass_test_side())"#)
            try await self.compile(
                "Side",
                namespace: "urn:example:side",
                types: "Once.self, Shout.self",
                nodes: "\(function)\n\(nodes)",
                linking: ["-L", folder.path, "-lside"],
                into: folder
            )
            let chains = folder.appendingPathComponent("chains")
            try FileManager.default.createDirectory(at: chains, withIntermediateDirectories: false)
            let chain = """
                <chain name="side" xmlns="urn:windlass:chain:1" xmlns:side="urn:example:side">
                  <side:once id="once" to="shout"/>
                  <side:shout id="shout"/>
                </chain>
                """
            try chain.write(to: chains.appendingPathComponent("side.xml"), atomically: true, encoding: .utf8)
            let data = folder.appendingPathComponent("data").path
            let status = try await RunningHost.serve(
                ["--data", data, "--chains", chains.path, "--plugins", folder.path]
            ) { lines in
                var told: [String] = []
                for await line in lines {
                    told.append(line)
                    if line == "ready" { break }
                }
                #expect(told.last == "ready", "\(told)")
                #expect(!told.contains { $0.contains("loaded where") }, "\(told)")
            }
            #expect(status == 0)
        }
    }

    /// Compiles an example's plugin into a folder.
    private func compile(example name: String, into folder: URL) async throws {
        let example = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Examples/\(name)Plugin/Sources/\(name)").standardizedFileURL
        let sources = try FileManager.default.contentsOfDirectory(at: example, includingPropertiesForKeys: nil)
        try await self.compile(sources, module: name, as: name, into: folder)
    }

    @Test("the examples are built and run, one of them on the listener of 'http:ingress'", .timeLimit(.minutes(3)))
    func examples() async throws {
        try await withTemporaryFolder { folder in
            try await self.compile(example: "Shout", into: folder)
            try await self.compile(example: "Webhook", into: folder)
            // Nodes share a listener by its port, so that it has to be known; it was free a moment ago.
            let port = try await Self.freePort()
            let chains = folder.appendingPathComponent("chains")
            try FileManager.default.createDirectory(at: chains, withIntermediateDirectories: false)
            let chain = """
                <chain name="hooks" xmlns="urn:windlass:chain:1" xmlns:flow="urn:windlass:flow"
                       xmlns:http="urn:windlass:http" xmlns:shout="urn:example:shout" xmlns:webhook="urn:example:webhook">
                  <http:ingress id="http" host="127.0.0.1" port="\(port)" to="log"/>
                  <webhook:ingress id="hooks" host="127.0.0.1" port="\(port)" secret="s3cret" to="loud"/>
                  <shout:upper-case id="loud" of="hook" to="log"/>
                  <flow:log id="log" level="notice" message="HOOK {shout}"/>
                </chain>
                """
            try chain.write(to: chains.appendingPathComponent("hooks.xml"), atomically: true, encoding: .utf8)
            let status = try await RunningHost.serve(
                [
                    "--data", folder.appendingPathComponent("data").path, "--chains", chains.path, "--plugins",
                    Self.products, "--plugins", folder.path,
                ]
            ) { lines in
                for await line in lines {
                    if line.hasSuffix("HOOK BUILD") { return }
                    guard line.hasSuffix("ready") else { continue }
                    let client = try await RawHTTPClient.connect(port: port)
                    let post =
                        "POST /hooks/build HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nX-Hook-Secret: s3cret\r\n\r\n"
                    try await client.send("\(post){}")
                    #expect(try await client.response().status == 200)
                    // The device API is on the same connection.
                    try await client.send("GET /api/v1/none/attributes HTTP/1.1\r\nHost: h\r\n\r\n")
                    #expect(try await client.response().status == 401)
                    try await client.close()
                }
                Issue.record("the host ended before it was asked")
            }
            #expect(status == 0)
        }
    }

    private static func freePort() async throws -> Int {
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(listener.localAddress?.port)
        try await listener.close()
        return port
    }

    @Test(
        "A plugin that does not fit in is refused",
        arguments: [
            ("urn:windlass:flow", "Shout.self", "which FlowNodes has too; remove one [duplicate-namespace]"),
            ("urn:windlass:chain:1", "Shout.self", "which the host has too; remove one [duplicate-namespace]"),
            (
                "urn:example:odd", "Shout.self, Shout.self",
                "has the node type 'shout' twice; rename one [duplicate-node-type]"
            ),
            ("urn:example:odd", "Neither.self", "is neither a Node nor an IngressNode [bad-descriptor]"),
            ("urn:example:odd", "Taken.self", "declares the attribute 'to', which is taken [bad-descriptor]"),
            ("urn:example:odd", "Bad.self", "has a default of 'count' that is not allowed"),
        ]
    )
    func refused(namespace: String, types: String, reason: String) async throws {
        let odd = """
            struct Neither: ChainNode {
                static let descriptor = NodeDescriptor(type: "neither", summary: "Nothing.", relations: [])
                init(configuration: Configuration, services: NodeServices) throws {}
            }

            struct Taken: Node {
                static let descriptor = NodeDescriptor(
                    type: "taken", summary: "Nothing.", relations: [], attributes: [.string("to", summary: "Where.")]
                )
                init(configuration: Configuration, services: NodeServices) throws {}
                func process(_ message: Message) async throws -> Emission { .end }
            }

            struct Bad: Node {
                static let descriptor = NodeDescriptor(
                    type: "bad", summary: "Nothing.", relations: [],
                    attributes: [.integer("count", default: 9, in: 1...3, summary: "How many.")]
                )
                init(configuration: Configuration, services: NodeServices) throws {}
                func process(_ message: Message) async throws -> Emission { .end }
            }
            """
        try await withTemporaryFolder { folder in
            try await self.compile(
                "Odd",
                namespace: namespace,
                types: types,
                nodes: "\(Self.nodes)\n\n\(odd)",
                into: folder
            )
            let nodes = try await Command.run("nodes", "--plugins", Self.products, "--plugins", folder.path)
            #expect(nodes.status == 1)
            #expect(nodes.errors.contains("plugin '\(folder.path)/libOddPlugin.so': "), "\(nodes.errors)")
            #expect(nodes.errors.contains(reason), "\(nodes.errors)")
        }
    }
}
