public import NodeKit

/// Sets the answer for the peer that waits for one.
///
/// | Relation  | When              |
/// |-----------|-------------------|
/// | `Success` | The reply is set. |
public struct ReplyNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "reply",
        summary: "Sets the answer for the device that waits for one; the first answer of a message counts.",
        relations: [RelationDescriptor(.success, "The reply is set.")],
        attributes: [
            .string(
                "status",
                default: Self.ok,
                oneOf: [Self.ok] + Self.codes.map(\.rawValue),
                summary: "Whether the request is accepted, or why it is refused; each protocol has its own word for it."
            ),
            .string("message", optional: true, summary: "A sentence that tells the device why it is refused."),
        ]
    )

    private static let ok = "ok"
    private static let codes: [NodeError.Code] = [
        .badRequest, .unauthorized, .forbidden, .notFound, .conflict, .tooLarge, .tooManyRequests, .storageFull,
        .unavailable, .timedOut, .internalError,
    ]

    private let reply: Reply

    /// Reads the configuration; opens nothing and starts nothing.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if an accepted request is to get a message.
    public init(configuration: Configuration, services: NodeServices) throws {
        let status = configuration.string("status")
        let message = configuration.stringIfPresent("message")
        guard status == Self.ok else {
            self.reply = .refused(NodeError(.init(rawValue: status), message ?? "refused by the chain"))
            return
        }
        guard message == nil else {
            throw NodeError("bad-value", "a request that is accepted gets no 'message'; leave it out or set 'status'")
        }
        self.reply = .empty
    }

    /// Sets the reply.
    public func process(_ message: Message) async throws -> Emission {
        .route(message.replying(self.reply), to: .success)
    }
}
