import NodeKit

/// Declares an attribute that every node has.
struct ReservedNode: Node {
    static let descriptor = NodeDescriptor(
        type: "reserved",
        summary: "Bad.",
        relations: [],
        attributes: [.string("to", default: "x", summary: "Taken.")]
    )
    init(configuration: Configuration, services: NodeServices) throws {}
    func process(_ message: Message) async throws -> Emission { .end }
}

/// Has a default that is not allowed.
struct BadDefaultNode: Node {
    static let descriptor = NodeDescriptor(
        type: "bad-default",
        summary: "Bad.",
        relations: [],
        attributes: [.integer("size", default: 11, in: 1...10, summary: "Size.")]
    )
    init(configuration: Configuration, services: NodeServices) throws {}
    func process(_ message: Message) async throws -> Emission { .end }
}

/// Neither takes nor starts messages.
struct IdleNode: ChainNode {
    static let descriptor = NodeDescriptor(type: "idle", summary: "Bad.", relations: [])
    init(configuration: Configuration, services: NodeServices) throws {}
}
