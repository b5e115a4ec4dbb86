/// The name of a node's queue: the chain and the node, written `chain/node`.
public struct QueueName: Sendable, Hashable, CustomStringConvertible {
    /// The name of the chain; empty if a name has none.
    public var chain: String
    /// The node's identifier in its chain.
    public var node: String

    /// Names the queue of a node.
    public init(chain: String, node: String) {
        self.chain = chain
        self.node = node
    }

    /// Reads a name; what stands before the last slash is the chain.
    public init(_ text: String) {
        let bytes = text.utf8
        guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else {
            self.init(chain: "", node: text)
            return
        }
        self.init(chain: String(text[..<slash]), node: String(text[bytes.index(after: slash)...]))
    }

    /// The name as queues are stored under it.
    public var description: String { self.chain.isEmpty ? self.node : "\(self.chain)/\(self.node)" }
}
