public import NodeKit

/// Sets the answer for the peer that waits for one.
///
/// | Relation  | When              |
/// |-----------|-------------------|
/// | `Success` | The reply is set. |
public struct ReplyNode: ImmediateNode {
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
            .string(
                "json",
                optional: true,
                summary:
                    "What an accepted request is answered with; a text \"{name}\" in it becomes a variable's value."
            ),
        ],
        overtakesWrites: true
    )

    private static let ok = "ok"
    private static let codes: [NodeError.Code] = [
        .badRequest, .unauthorized, .forbidden, .notFound, .conflict, .tooLarge, .tooManyRequests, .storageFull,
        .unavailable, .timedOut, .internalError,
    ]

    private enum Answer {
        case fixed(Reply)
        case json(JSONTemplate)
    }

    private let answer: Answer

    /// Reads the configuration; opens nothing and starts nothing.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if an accepted request is to get a message, a refused one JSON, or that is
    ///   none.
    public init(configuration: Configuration, services: NodeServices) throws {
        let status = configuration.string("status")
        let message = configuration.stringIfPresent("message")
        let json = configuration.stringIfPresent("json")
        guard status == Self.ok else {
            guard json == nil else {
                throw NodeError("bad-value", "a request that is refused gets no 'json'; leave it out, or 'status'")
            }
            self.answer = .fixed(.refused(NodeError(.init(rawValue: status), message ?? "refused by the chain")))
            return
        }
        guard message == nil else {
            throw NodeError("bad-value", "a request that is accepted gets no 'message'; leave it out or set 'status'")
        }
        self.answer = try json.map { .json(try JSONTemplate(parsing: $0)) } ?? .fixed(.empty)
    }

    /// Sets the reply.
    public func decide(_ message: Message) throws -> Emission {
        switch self.answer {
        case .fixed(let reply): .route(message.replying(reply), to: .success)
        case .json(let template): .route(message.replying(.json(template.value(for: message))), to: .success)
        }
    }
}
