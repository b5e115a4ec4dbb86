import ArgumentParser
import Host
import NodeKit

/// The command `windlass nodes`.
struct Nodes: ParsableCommand {
    enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

    static let configuration = CommandConfiguration(
        abstract: "Lists the node types of the loaded plugins with their relations and attributes."
    )

    @OptionGroup var load: LoadArguments

    @Option(name: .long, help: "How to list them: text or json.")
    var format = Format.text

    func run() throws {
        let plugins = try PluginLoader().load(folders: self.load.options().plugins).plugins
        switch self.format {
        case .text: print(plugins.map(\.listing).joined(separator: "\n\n"))
        case .json: print(JSON.array(plugins.map(\.json)).description)
        }
    }
}

extension Plugin {
    /// The plugin and its node types for people.
    fileprivate var listing: String {
        let nodes = self.nodes.map { $0.descriptor }.sorted { $0.type < $1.type }
        return (["\(self.name) \(self.version)  \(self.namespace)"] + nodes.map(\.listing)).joined(separator: "\n\n")
    }

    /// The plugin and its node types for programs.
    fileprivate var json: JSON {
        [
            "name": .string(self.name), "version": .string(self.version), "namespace": .string(self.namespace),
            "nodes": .array(
                self.nodes.sorted { $0.descriptor.type < $1.descriptor.type }.map { node in
                    var object = node.descriptor.json
                    object["takesMessages"] = .bool(node is any Node.Type)
                    object["startsMessages"] = .bool(node is any IngressNode.Type)
                    return .object(object)
                }
            ),
        ]
    }
}

extension NodeDescriptor {
    fileprivate var listing: String {
        var lines = ["  \(self.type)  \(self.summary)"]
        let relations = self.relations.map { (name: $0.relation.rawValue, text: $0.summary) }
        let open = self.hasOpenRelations ? [(name: "…", text: "Any relation that the chain file names.")] : []
        lines += Self.table("relations", relations + open)
        lines += Self.table("attributes", self.attributes.map { ($0.name, "\($0.valueText). \($0.summary)") })
        lines += Self.table("variables", self.variables.map { ("$\($0.name)", $0.summary) })
        return lines.joined(separator: "\n")
    }

    private static func table(_ title: String, _ rows: [(name: String, text: String)]) -> [String] {
        guard !rows.isEmpty else { return [] }
        let width = rows.map(\.name.count).max() ?? 0
        return ["    \(title)"]
            + rows.map { "      \($0.name)\(String(repeating: " ", count: width - $0.name.count))  \($0.text)" }
    }

    fileprivate var json: JSON.Object {
        [
            "type": .string(self.type), "summary": .string(self.summary),
            "relations": .array(
                self.relations.map { ["name": .string($0.relation.rawValue), "summary": .string($0.summary)] }
            ),
            "openRelations": .bool(self.hasOpenRelations),
            "attributes": .array(self.attributes.map { .object($0.json) }),
            "variables": .array(self.variables.map { ["name": .string($0.name), "summary": .string($0.summary)] }),
        ]
    }
}

extension AttributeDescriptor {
    /// What may be written: type, range, unit and default.
    fileprivate var valueText: String {
        var text: String
        switch self.kind {
        case .string(nil): text = "text"
        case .string(let values?): text = values.joined(separator: "|")
        case .integer(let range): text = "integer \(range.lowerBound)…\(range.upperBound)"
        case .boolean: text = "true|false"
        case .duration(_, let range): text = "duration \(range.lowerBound)…\(range.upperBound)"
        case .condition: text = "XPath condition"
        }
        if let unit = self.unit { text += " \(unit)" }
        if let defaultText = self.defaultText { return text + ", default \(defaultText)" }
        return text + (self.isOptional ? ", optional" : ", required")
    }

    fileprivate var json: JSON.Object {
        var object: JSON.Object = ["name": .string(self.name)]
        switch self.kind {
        case .string(let values):
            object["type"] = "string"
            object["oneOf"] = values.map { .array($0.map(JSON.string)) }
        case .integer(let range):
            object["type"] = "integer"
            object["minimum"] = .integer(range.lowerBound)
            object["maximum"] = .integer(range.upperBound)
        case .boolean: object["type"] = "boolean"
        case .duration(_, let range):
            object["type"] = "duration"
            object["minimum"] = .integer(range.lowerBound)
            object["maximum"] = .integer(range.upperBound)
        case .condition: object["type"] = "condition"
        }
        object["unit"] = self.unit.map(JSON.string)
        object["default"] = self.defaultText.map(JSON.string)
        object["required"] = .bool(self.defaultText == nil && !self.isOptional)
        object["summary"] = .string(self.summary)
        return object
    }
}
