public import NodeKit

/// The loaded plugins, and their node types by namespace and element name.
public struct NodeTypes: Sendable {
    /// The namespace of `chain`, `link` and `variable`.
    public static let chainNamespace = "urn:windlass:chain:1"
    /// Attributes that every node element has, so that no node type can declare them.
    static let reservedAttributes = ["id", "to"]

    /// The plugins, in the order they were added.
    public private(set) var plugins: [Plugin] = []
    private var types: [String: [String: any ChainNode.Type]] = [:]

    /// Makes a set without node types.
    public init() {}

    /// Adds a plugin's node types.
    ///
    /// - Throws: ``NodeError`` with code `duplicate-namespace` or `duplicate-node-type` if one is taken, or
    ///   `bad-descriptor` if a node type describes itself wrongly; nothing is added then.
    public mutating func add(_ plugin: Plugin) throws(NodeError) {
        if let other = self.plugins.first(where: { $0.namespace == plugin.namespace })?.name
            ?? (plugin.namespace == Self.chainNamespace ? "the host" : nil)
        {
            throw NodeError(
                "duplicate-namespace",
                "plugin '\(plugin.name)' has the namespace '\(plugin.namespace)', which \(other) has too; remove one"
            )
        }
        var types: [String: any ChainNode.Type] = [:]
        for type in plugin.nodes {
            let descriptor = type.descriptor
            guard types.updateValue(type, forKey: descriptor.type) == nil else {
                throw NodeError(
                    "duplicate-node-type",
                    "plugin '\(plugin.name)' has the node type '\(descriptor.type)' twice; rename one"
                )
            }
            if let reason = Self.fault(in: descriptor, of: type) {
                throw NodeError(
                    "bad-descriptor",
                    "node type '\(descriptor.type)' of plugin '\(plugin.name)' \(reason)"
                )
            }
        }
        self.types[plugin.namespace] = types
        self.plugins.append(plugin)
    }

    /// The node type of an element.
    public func type(namespace: String, name: String) -> (any ChainNode.Type)? { self.types[namespace]?[name] }

    /// The namespaces of the plugins, in the order these were added.
    public var namespaces: [String] { self.plugins.map(\.namespace) }

    /// The element names of a namespace, sorted; `nil` if no plugin has it.
    public func names(namespace: String) -> [String]? { self.types[namespace].map { $0.keys.sorted() } }

    private static func fault(in descriptor: NodeDescriptor, of type: any ChainNode.Type) -> String? {
        guard type is any Node.Type || type is any IngressNode.Type else {
            return "is neither a Node nor an IngressNode"
        }
        var names = Set(Self.reservedAttributes)
        for attribute in descriptor.attributes {
            guard names.insert(attribute.name).inserted else {
                return "declares the attribute '\(attribute.name)', which is taken"
            }
            guard let text = attribute.defaultText else { continue }
            do {
                _ = try attribute.parse(text)
            } catch {
                return "has a default of '\(attribute.name)' that is not allowed: \(error.message)"
            }
        }
        return nil
    }
}
