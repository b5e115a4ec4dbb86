public import NodeKit

/// Chains that were read, checked and planned, and can be run.
public struct CheckedChains: Sendable {
    /// The chains, in the order of their files.
    public let chains: [CheckedChain]
    /// What the checker warns of, sorted by file, line and column.
    public internal(set) var warnings: [ChainFault] = []
}

/// One checked chain.
public struct CheckedChain: Sendable {
    /// The chain's name.
    public let name: String
    /// The file it was read from, as given.
    public let path: String
    /// How many nodes a message and its copies may pass.
    public let hopsMax: Int
    /// The nodes, in the order of the file.
    public let nodes: [CheckedNode]
}

/// One node of a checked chain.
public struct CheckedNode: Sendable {
    /// The node's identifier in its chain.
    public let id: String
    /// The namespace of its element.
    public let namespace: String
    /// The name of its element.
    public let type: String
    /// Its links, in the order of the file.
    public let links: [CheckedLink]
    let nodeType: any ChainNode.Type
    let configuration: Configuration
    /// The attributes as written, filled from the environment: what tells whether a reload changes the node.
    let texts: [String: String]
    let source: SourceText
    /// Where it stands in the file, as zero-based byte offset.
    let offset: Int
}

/// A link of a checked chain.
public struct CheckedLink: Sendable, Hashable {
    /// The relation that messages leave by.
    public let relation: Relation
    /// Zero-based index of the node that they go to.
    public let target: Int
}
