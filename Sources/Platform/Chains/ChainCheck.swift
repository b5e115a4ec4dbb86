import NodeKit

/// The check of one chain file: goes on after a fault, so that all are found.
struct ChainCheck {
    /// How many nodes a message and its copies may pass if the chain does not say (`hops-max`).
    static let hopsDefault = 1000
    /// The most that a chain may allow.
    static let hopsLimit: Int64 = 1_000_000
    /// The longest name of a chain and identifier of a node.
    static let identifierLengthMax = 64

    /// A node element whose type is known.
    struct DraftNode {
        var id: String
        var element: XMLElement
        var type: any ChainNode.Type
        var descriptor: NodeDescriptor
        var configuration: [String: ConfigurationValue] = [:]
        var texts: [String: String] = [:]
        var links: [CheckedLink] = []

        var takesMessages: Bool { self.type is any Node.Type }
        var startsMessages: Bool { self.type is any IngressNode.Type }
    }

    let source: SourceText
    let types: NodeTypes
    let environment: EnvironmentText
    private(set) var faults: [ChainFault] = []
    /// The known nodes, in the order of the file.
    private(set) var nodes: [DraftNode] = []
    /// The identifiers of all nodes, with the place in ``nodes`` of those whose type is known.
    private var indexes: [String: Int?] = [:]
    private var variables: Set<String> = Message.builtInVariables
    /// Whether all nodes and links are known, so that it can be said what is not reached.
    private var isComplete = true

    init(source: SourceText, types: NodeTypes, environment: EnvironmentText) {
        self.source = source
        self.types = types
        self.environment = environment
    }

    mutating func fault(at offset: Int, _ code: String, _ message: String, help: String? = nil) {
        self.faults.append(self.source.fault(at: offset, code, message, help: help))
    }

    mutating func warn(at offset: Int, _ code: String, _ message: String, help: String) {
        self.faults.append(self.source.fault(.warning, at: offset, code, message, help: help))
    }

    /// Checks a file's root element.
    ///
    /// - Returns: The chain if it has a name; worth nothing if there are errors among the faults.
    mutating func chain(_ root: XMLElement) -> CheckedChain? {
        guard root.name == "chain", root.namespace == NodeTypes.chainNamespace else {
            let code = root.name == "chain" ? "unknown-namespace" : "unknown-element"
            let help = "the root element is <chain xmlns=\"\(NodeTypes.chainNamespace)\" name=\"…\">"
            self.fault(at: root.offset, code, "<\(root.qualifiedName)> is not a chain", help: help)
            return nil
        }
        self.refuseText(in: root)
        let attributes = self.attributes(of: root, allowed: ["name", "hops-max"])
        let name = self.identifier(attributes, "name", of: root, missing: "missing-attribute")
        let hops = AttributeDescriptor.integer(
            "hops-max",
            default: Int64(Self.hopsDefault),
            in: 1...Self.hopsLimit,
            summary: "How many nodes a message and its copies may pass."
        )
        var hopsMax = Self.hopsDefault
        if let text = attributes["hops-max"], case .integer(let value)? = self.value(text, of: hops, in: root) {
            hopsMax = Int(value)
        }
        for child in root.children { self.declare(child) }
        for index in self.nodes.indices {
            self.configure(index)
            self.link(index)
        }
        if self.nodes.isEmpty, self.isComplete {
            self.fault(at: root.offset, "empty-chain", "the chain has no node", help: "start with an ingress node")
        }
        self.checkGraph(isComplete: self.isComplete)
        if self.isComplete { self.checkLater() }
        // A fault elsewhere, such as a misspelt relation, would show as a dead end as well.
        if self.faults.isEmpty { self.checkDelivery() }
        guard let name else { return nil }
        return CheckedChain(name: name, path: self.source.path, hopsMax: hopsMax, nodes: self.nodes.map(self.checked))
    }

    private func checked(_ node: DraftNode) -> CheckedNode {
        CheckedNode(
            id: node.id,
            namespace: node.element.namespace ?? "",
            type: node.element.name,
            links: node.links,
            nodeType: node.type,
            configuration: Configuration(node.configuration),
            texts: node.texts,
            source: self.source,
            offset: node.element.offset
        )
    }

    // MARK: Elements

    /// Takes in a child of the chain, so that links and conditions can name it wherever they stand.
    private mutating func declare(_ element: XMLElement) {
        self.refuseText(in: element)
        guard let namespace = element.namespace else {
            let message =
                element.prefix.map { "the prefix '\($0)' is not declared" } ?? "<\(element.name)> has no namespace"
            self.fault(at: element.offset, "unknown-namespace", message, help: self.namespacesHelp())
            self.giveUp(element)
            return
        }
        if namespace == NodeTypes.chainNamespace {
            guard element.name == "variable" else {
                let help =
                    element.name == "link"
                    ? "put it into the node that it leaves"
                    : Suggestion.help(
                        for: element.name,
                        among: ["variable"],
                        listedAs: "beside nodes, which have a prefix, there is only"
                    )
                let message = "<\(element.qualifiedName)> does not belong into a chain"
                self.fault(at: element.offset, "unknown-element", message, help: help)
                self.giveUp(element)
                return
            }
            self.declareVariable(element)
            return
        }
        guard let names = self.types.names(namespace: namespace) else {
            let message = "no plugin has the namespace '\(namespace)'"
            self.fault(at: element.offset, "unknown-namespace", message, help: self.namespacesHelp(for: namespace))
            self.giveUp(element)
            return
        }
        guard let type = self.types.type(namespace: namespace, name: element.name) else {
            let message = "there is no node type '\(element.name)' in '\(namespace)'"
            let help = Suggestion.help(for: element.name, among: names, listedAs: "it has")
            self.fault(at: element.offset, "unknown-element", message, help: help)
            self.giveUp(element)
            return
        }
        let descriptor = type.descriptor
        self.variables.formUnion(descriptor.variables.map(\.name))
        guard let id = self.declareIdentifier(of: element, index: self.nodes.count) else {
            self.isComplete = false
            return
        }
        self.nodes.append(DraftNode(id: id, element: element, type: type, descriptor: descriptor))
    }

    /// Keeps the identifier of a node that is not understood, so that links to it are not reported, too.
    private mutating func giveUp(_ element: XMLElement) {
        self.isComplete = false
        guard let attribute = element.attribute("id"), let id = try? self.environment.fill(attribute.value) else {
            return
        }
        if self.indexes[id] == nil { self.indexes[id] = .some(nil) }
    }

    private mutating func declareIdentifier(of element: XMLElement, index: Int) -> String? {
        guard let attribute = element.attribute("id") else {
            let help = "add id=\"…\", a name that links and messages can use"
            self.fault(at: element.offset, "missing-id", "<\(element.qualifiedName)> has no id", help: help)
            return nil
        }
        guard let id = self.identifier(self.filled([attribute]), "id", of: element, missing: "missing-id") else {
            return nil
        }
        guard self.indexes[id] == nil else {
            let first = self.nodes.first { $0.id == id }?.element.offset
            let place = first.map { " by the node in line \(self.source.position(of: $0).line)" } ?? ""
            self.fault(
                at: attribute.offset,
                "repeated-id",
                "the id '\(id)' is taken\(place)",
                help: "rename one of them"
            )
            return nil
        }
        self.indexes[id] = index
        return id
    }

    private mutating func declareVariable(_ element: XMLElement) {
        self.refuseChildren(of: element, "a variable")
        let attributes = self.attributes(of: element, allowed: ["name", "summary"])
        guard let name = attributes["name"] else {
            let help = "add name=\"…\", the key of what devices send"
            self.fault(at: element.offset, "missing-attribute", "<variable> has no name", help: help)
            return
        }
        guard ConditionSyntax.isName(name.value) else {
            let help = "a name starts with a letter or '_' and goes on with those, digits, '-' and '.'"
            self.fault(at: name.offset, "bad-value", "'\(name.value)' is no name of a variable", help: help)
            return
        }
        self.variables.insert(name.value)
    }

    private func namespacesHelp(for namespace: String = "") -> String? {
        let help = Suggestion.help(
            for: namespace,
            among: self.types.namespaces.sorted(),
            listedAs: "the loaded plugins have"
        )
        return help ?? "no plugin is loaded"
    }

    private mutating func refuseText(in element: XMLElement) {
        guard let offset = element.textOffset else { return }
        let message = "text does not belong into <\(element.qualifiedName)>"
        self.fault(at: offset, "unexpected-text", message, help: "remove it, or make it a comment")
    }

    private mutating func refuseChildren(of element: XMLElement, _ what: String) {
        for child in element.children {
            let message = "<\(child.qualifiedName)> does not belong into \(what)"
            self.fault(at: child.offset, "unknown-element", message, help: "nothing does")
        }
    }

    // MARK: Attributes

    /// The attributes of one of our own elements, filled from the environment; reports those that are not allowed.
    private mutating func attributes(of element: XMLElement, allowed: [String]) -> [String: FilledAttribute] {
        self.filled(element.attributes.filter { self.isAllowed($0, of: element, allowed) })
    }

    private mutating func isAllowed(_ attribute: XMLAttribute, of element: XMLElement, _ allowed: [String]) -> Bool {
        if attribute.prefix == nil, allowed.contains(attribute.name) { return true }
        // Editors find the schema by this one.
        if attribute.namespace == "http://www.w3.org/2001/XMLSchema-instance" { return false }
        let message = "<\(element.qualifiedName)> has no attribute '\(attribute.qualifiedName)'"
        let help = Suggestion.help(for: attribute.name, among: allowed, listedAs: "it has")
        self.fault(at: attribute.offset, "unknown-attribute", message, help: help)
        return false
    }

    /// An attribute's value, filled from the environment, and where it stands.
    private struct FilledAttribute {
        var value: String
        var offset: Int
    }

    private mutating func filled(_ attributes: [XMLAttribute]) -> [String: FilledAttribute] {
        var filled: [String: FilledAttribute] = [:]
        for attribute in attributes {
            do {
                let value = try self.environment.fill(attribute.value)
                filled[attribute.name] = FilledAttribute(value: value, offset: attribute.offset)
            } catch {
                self.fault(
                    at: attribute.offset,
                    error.code,
                    "in '\(attribute.name)': \(error.message)",
                    help: error.help
                )
            }
        }
        return filled
    }

    /// The name of a chain or node: it is part of log lines, counters and the names of queues.
    private mutating func identifier(
        _ attributes: [String: FilledAttribute],
        _ name: String,
        of element: XMLElement,
        missing code: String
    ) -> String? {
        guard let attribute = attributes[name] else {
            if element.attribute(name) == nil {
                let message = "<\(element.qualifiedName)> has no \(name)"
                self.fault(at: element.offset, code, message, help: "add \(name)=\"…\"")
            }
            return nil
        }
        let isPlain = attribute.value.unicodeScalars.allSatisfy { scalar in
            scalar.isASCII
                && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
                    || "-_.".unicodeScalars.contains(scalar))
        }
        guard isPlain, (1...Self.identifierLengthMax).contains(attribute.value.utf8.count) else {
            self.fault(
                at: attribute.offset,
                "bad-value",
                "'\(attribute.value)' cannot be \(name == "id" ? "an id" : "a name")",
                help: "use 1…\(Self.identifierLengthMax) letters of ASCII, digits, '-', '_' and '.'"
            )
            return nil
        }
        return attribute.value
    }

    private mutating func configure(_ index: Int) {
        let node = self.nodes[index]
        let declared = node.descriptor.attributes
        let allowed = NodeTypes.reservedAttributes + declared.map(\.name)
        let own = node.element.attributes.filter { attribute in
            self.isAllowed(attribute, of: node.element, allowed)
                && !NodeTypes.reservedAttributes.contains(attribute.name)
        }
        let texts = self.filled(own)
        for attribute in declared {
            // So that a file can leave it to the environment whether there is one: tls-port="${HTTPS_PORT:-}".
            let isLeftOut = attribute.isOptional && texts[attribute.name]?.value.isEmpty == true
            if let text = texts[attribute.name], !isLeftOut {
                self.nodes[index].texts[attribute.name] = text.value
                self.nodes[index].configuration[attribute.name] = self.value(text, of: attribute, in: node.element)
            } else if let text = attribute.defaultText {
                // NodeTypes has made sure that defaults can be parsed.
                self.nodes[index].configuration[attribute.name] = try? attribute.parse(text)
            } else if !attribute.isOptional, node.element.attribute(attribute.name) == nil {
                let message = "node '\(node.id)' needs the attribute '\(attribute.name)'"
                let help = "add \(attribute.name)=\"…\": \(attribute.summary)"
                self.fault(at: node.element.offset, "missing-attribute", message, help: help)
            }
        }
    }

    private mutating func value(
        _ text: FilledAttribute,
        of attribute: AttributeDescriptor,
        in element: XMLElement
    ) -> ConfigurationValue? {
        if attribute.kind == .condition { return self.condition(text, named: attribute.name) }
        do {
            return try attribute.parse(text.value)
        } catch {
            var help: String?
            if case .string(let values?) = attribute.kind {
                help = Suggestion.nearest(to: text.value, among: values).map { "did you mean '\($0)'?" }
            }
            let message = "'\(attribute.name)' of <\(element.qualifiedName)>: \(error.message)"
            self.fault(at: text.offset, error.code.rawValue, message, help: help)
            return nil
        }
    }

    private mutating func condition(_ text: FilledAttribute, named name: String) -> ConfigurationValue? {
        let syntax = ConditionSyntax(text.value)
        for fault in syntax.faults {
            self.fault(at: text.offset, fault.code, "in '\(name)': \(fault.message)", help: fault.help)
        }
        for variable in syntax.variables where !self.variables.contains(variable) {
            let near = Suggestion.nearest(to: variable, among: self.variables.sorted()).map {
                "did you mean '$\($0)'? "
            }
            let help = "\(near ?? "")if devices send it, declare it with <variable name=\"\(variable)\"/>"
            self.fault(at: text.offset, "unknown-variable", "in '\(name)': no node sets '$\(variable)'", help: help)
        }
        guard syntax.faults.isEmpty else { return nil }
        do {
            let condition = try XPathCondition(text.value, variables: syntax.variables)
            // What libxml2 only finds when it evaluates must not be left for the first message.
            _ = try condition.holds(for: .empty)
            return .condition(condition)
        } catch {
            let message = NodeError(wrapping: error).message
            self.fault(at: text.offset, "bad-condition", "in '\(name)': '\(text.value)' is no condition: \(message)")
            return nil
        }
    }

    // MARK: Links

    private mutating func link(_ index: Int) {
        let node = self.nodes[index]
        if let attribute = node.element.attribute("to"), let target = self.filled([attribute])["to"] {
            self.link(index, on: Relation.success.rawValue, at: attribute.offset, to: target)
        } else if node.element.attribute("to") != nil {
            self.isComplete = false
        }
        for child in node.element.children {
            guard child.namespace == NodeTypes.chainNamespace, child.name == "link" else {
                let message = "<\(child.qualifiedName)> does not belong into a node"
                let near = Suggestion.nearest(to: child.name, among: ["link"]).map { "did you mean '\($0)'? " } ?? ""
                let help = "\(near)a node holds only <link on=\"…\" to=\"…\"/>"
                self.fault(at: child.offset, "unknown-element", message, help: help)
                self.isComplete = false
                continue
            }
            self.refuseText(in: child)
            self.refuseChildren(of: child, "a link")
            let attributes = self.attributes(of: child, allowed: ["on", "to"])
            for name in ["on", "to"] where child.attribute(name) == nil {
                self.fault(at: child.offset, "missing-attribute", "<link> has no '\(name)'", help: "add \(name)=\"…\"")
            }
            guard let relation = attributes["on"], let target = attributes["to"] else {
                self.isComplete = false
                continue
            }
            self.link(index, on: relation.value, at: relation.offset, to: target)
        }
    }

    private mutating func link(_ index: Int, on relation: String, at offset: Int, to target: FilledAttribute) {
        let node = self.nodes[index]
        let relations = node.linkableRelations
        if relation.isEmpty || (!relations.contains(relation) && !node.descriptor.hasOpenRelations) {
            let message = "node '\(node.id)' has no relation '\(relation)'"
            let help = Suggestion.help(for: relation, among: relations, listedAs: "it has") ?? "it has none"
            self.fault(at: offset, "unknown-relation", message, help: help)
        }
        guard let known = self.indexes[target.value] else {
            let names = self.indexes.keys.filter { $0 != node.id }.sorted()
            let help = Suggestion.help(for: target.value, among: names, listedAs: "the chain has")
            self.fault(at: target.offset, "unknown-target", "there is no node '\(target.value)'", help: help)
            self.isComplete = false
            return
        }
        guard let known else { return }
        guard self.nodes[known].takesMessages else {
            let message = "node '\(target.value)' takes no messages: they only start there"
            self.fault(at: target.offset, "ingress-target", message, help: "link to a node that is no ingress")
            return
        }
        let link = CheckedLink(relation: Relation(rawValue: relation), target: known)
        guard !node.links.contains(link) else {
            let message = "node '\(node.id)' is linked to '\(target.value)' on '\(relation)' twice"
            self.fault(at: target.offset, "repeated-link", message, help: "remove one; each would get a copy")
            return
        }
        self.nodes[index].links.append(link)
    }
}

extension ChainCheck.DraftNode {
    /// The relations that can be linked without being open: any node that takes messages can fail.
    var linkableRelations: [String] {
        var relations = self.descriptor.relations.map(\.relation.rawValue)
        if self.takesMessages, !relations.contains(Relation.failure.rawValue) {
            relations.append(Relation.failure.rawValue)
        }
        return relations
    }
}

extension Message {
    /// The variables that every message has, and those that the runtime sets when a node fails.
    static let builtInVariables: Set<String> = [
        "type", "originator", "deviceName", "deviceType", ChainPlan.errorKey, ChainPlan.errorCodeKey,
    ]

    /// A message that holds nothing, to try a condition with.
    static let empty = Message(
        originator: .unknown(name: ""),
        type: "",
        timestamp: Timestamp(milliseconds: 0)
    )
}
