import Chains
import Foundation
import NodeKit
import Testing

@Suite struct ChainSourceTests {
    private func withFolder(_ body: (URL) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "chains-\(UUID.random())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder)
    }

    private func codes(_ body: () throws -> Void) -> [String] {
        do {
            try body()
            return []
        } catch let faults as ChainFaults {
            return faults.faults.map(\.code)
        } catch {
            return ["\(error)"]
        }
    }

    @Test("A folder's chain files are read sorted by name, without hidden and other files")
    func sorted() throws {
        try self.withFolder { folder in
            for name in ["b.xml", "a.xml", ".hidden.xml", "notes.txt", "a.xml.bak"] {
                try Data(name.utf8).write(to: folder.appending(path: name))
            }
            let sources = try ChainSource.read(folder: folder.path)
            #expect(sources.map(\.path) == [folder.path + "/a.xml", folder.path + "/b.xml"])
            #expect(sources.map { String(decoding: $0.bytes, as: UTF8.self) } == ["a.xml", "b.xml"])
        }
    }

    @Test("A folder without chain files is a fault")
    func empty() throws {
        try self.withFolder { folder in
            #expect(self.codes { _ = try ChainSource.read(folder: folder.path) } == ["empty-folder"])
        }
    }

    @Test("A folder that is not there is a fault")
    func missingFolder() {
        #expect(self.codes { _ = try ChainSource.read(folder: "/does/not/exist") } == ["unreadable-file"])
    }

    @Test("Every file that cannot be read is a fault of its own")
    func missingFiles() throws {
        try self.withFolder { folder in
            let paths = ["/does/not/exist.xml", folder.path]
            #expect(self.codes { _ = try ChainSource.read(files: paths) } == ["unreadable-file", "unreadable-file"])
        }
    }

    @Test("A file of the largest size is read, and one byte more is a fault")
    func sizeLimit() throws {
        try self.withFolder { folder in
            let file = folder.appending(path: "a.xml")
            try Data(repeating: 0x20, count: 1 << 20).write(to: file)
            #expect(try ChainSource.read(files: [file.path])[0].bytes.count == 1 << 20)
            try Data(repeating: 0x20, count: 1 << 20 + 1).write(to: file)
            #expect(self.codes { _ = try ChainSource.read(files: [file.path]) } == ["too-large"])
        }
    }
}

@Suite struct LimitTests {
    private func codes(_ text: String) throws -> [String] {
        let checker = ChainChecker(types: try TestPlugin.types(), environment: [:])
        do {
            _ = try checker.check([ChainSource(path: "x.xml", bytes: Array(text.utf8))])
            return []
        } catch {
            return error.faults.map(\.code)
        }
    }

    private func chain(_ body: String) -> String {
        #"<chain xmlns="urn:windlass:chain:1" xmlns:t="urn:test" name="x"><t:source id="in" to="a"/><t:work id="a"/>"#
            + body + "</chain>"
    }

    @Test("A file is refused one byte past the largest size, whoever read it")
    func size() throws {
        let text = self.chain("")
        let atLimit = text + String(repeating: " ", count: 1 << 20 - text.utf8.count)
        #expect(try self.codes(atLimit) == [])
        #expect(try self.codes(atLimit + " ") == ["too-large"])
    }

    @Test("A chain may have ten thousand elements and no more")
    func elements() throws {
        let variable = #"<variable name="x"/>"#
        #expect(try self.codes(self.chain(String(repeating: variable, count: 9_997))) == [])
        #expect(try self.codes(self.chain(String(repeating: variable, count: 9_998))) == ["too-many-elements"])
    }

    @Test("Elements may nest sixteen levels, where they are unknown, and no deeper")
    func depth() throws {
        let atLimit = String(repeating: "<a>", count: 15) + String(repeating: "</a>", count: 15)
        #expect(try self.codes(self.chain(atLimit)) == ["unknown-element"])
        #expect(try self.codes(self.chain("<a>\(atLimit)</a>")) == ["too-deep"])
    }

    @Test("The name of a chain has at most 64 characters")
    func nameLength() throws {
        let name = String(repeating: "n", count: 64)
        #expect(try self.codes(self.chain("").replacing(#"name="x""#, with: #"name="\#(name)""#)) == [])
        #expect(try self.codes(self.chain("").replacing(#"name="x""#, with: #"name="\#(name)n""#)) == ["bad-value"])
    }

    @Test("Positions are right far into a large file")
    func farPositions() throws {
        let filler = String(repeating: "<!-- filling up to more than one buffer of the parser é -->\n", count: 10_000)
        let checker = ChainChecker(types: try TestPlugin.types(), environment: [:])
        let text = self.chain(filler + #"  é <t:work  id="b" size="x"/>"#)
        let faults = #expect(throws: ChainFaults.self) {
            _ = try checker.check([ChainSource(path: "x.xml", bytes: Array(text.utf8))])
        }
        let places = faults?.faults.map { "\($0.line):\($0.column) \($0.code)" }
        #expect(places == ["10001:3 unexpected-text", "10001:5 unreachable-node", "10001:21 bad-value"])
    }

    @Test("A chain of many nodes is checked in little time whichever way its links point", arguments: [true, false])
    func manyNodes(isForward: Bool) throws {
        let count = 4_000
        let nodes = (0..<count).map { index in
            let target = isForward ? index + 1 : index - 1
            let link = (0..<count).contains(target) ? #" to="n\#(target)""# : ""
            return #"<t:work id="n\#(index)"\#(link)/>"#
        }
        let first = isForward ? 0 : count - 1
        let text = self.chain(nodes.joined() + #"<t:source id="start" to="n\#(first)"/>"#)
        #expect(try self.codes(text) == [])
    }

    @Test("A node with many links is checked in little time, on one relation or on many", arguments: [true, false])
    func manyLinks(isOneRelation: Bool) throws {
        let count = 1_000
        let links = (0..<count).map { #"<link on="\#(isOneRelation ? "Other" : "r\($0)")" to="n\#($0)"/>"# }
        let ends = (0..<count).map { #"<t:sink id="n\#($0)"/>"# }
        let text = self.chain(
            #"<t:assigned id="start" to="s"/><t:switch id="s">"# + links.joined() + "</t:switch>"
                + ends.joined(separator: "\n")
                + #"<t:hold id="q" to="w"/><t:window id="w"/><t:source id="other" to="q"/>"#
        )
        let checker = ChainChecker(types: try TestPlugin.types(), environment: [:])
        let warnings = try checker.check([ChainSource(path: "x.xml", bytes: Array(text.utf8))]).warnings
        // One for each end, and one for Other if that has no link.
        #expect(warnings.count == (isOneRelation ? count : count + 1))
    }
}

@Suite struct NodeTypesTests {
    @Test("A plugin whose namespace is taken is refused")
    func namespace() throws {
        var types = try TestPlugin.types()
        let error = #expect(throws: NodeError.self) { try types.add(TestPlugin.plugin) }
        #expect(error?.code == "duplicate-namespace")
        #expect(types.plugins.map(\.name) == ["Test"])
    }

    @Test("A plugin that takes the namespace of chains is refused")
    func chainNamespace() {
        var types = NodeTypes()
        let plugin = Plugin(name: "X", version: "1", namespace: NodeTypes.chainNamespace, nodes: [])
        #expect(throws: NodeError.self) { try types.add(plugin) }
    }

    @Test("A plugin that has a node type twice is refused")
    func twice() {
        var types = NodeTypes()
        let plugin = Plugin(name: "X", version: "1", namespace: "urn:x", nodes: [WorkNode.self, WorkNode.self])
        let error = #expect(throws: NodeError.self) { try types.add(plugin) }
        #expect(error?.code == "duplicate-node-type")
        #expect(types.plugins.isEmpty)
    }

    @Test("A node type that declares a reserved attribute, a bad default or no work is refused")
    func badDescriptors() {
        for type in [ReservedNode.self, BadDefaultNode.self, IdleNode.self] as [any ChainNode.Type] {
            var types = NodeTypes()
            let error = #expect(throws: NodeError.self) {
                try types.add(Plugin(name: "X", version: "1", namespace: "urn:x", nodes: [type]))
            }
            #expect(error?.code == "bad-descriptor")
        }
    }
}
