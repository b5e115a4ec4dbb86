public import NodeKit
import OTA

/// Brings what a device answered to the call that waits for it.
///
/// | Relation    | When                                                                                       |
/// |-------------|--------------------------------------------------------------------------------------------|
/// | `Success`   | A call waited for the answer.                                                              |
/// | `Unmatched` | None did: the answer came too late, or again, or nobody wanted it.                         |
/// | `Failure`   | The message has no `requestId` (`bad-request`).                                            |
public struct RPCReplyNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "rpc-reply",
        summary: "Brings what a device answered (TO_SERVER_RPC_RESPONSE) to the call that waits for it.",
        relations: [
            RelationDescriptor(.success, "A call waited for the answer."),
            RelationDescriptor("Unmatched", "No call waited: the answer came too late, or again, or nobody wanted it."),
            RelationDescriptor(.failure, "The message has no 'requestId'."),
        ]
    )

    private let calls: DeviceCalls

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.calls = try services.require(DeviceCalls.self)
    }

    /// Ends the call.
    public func decide(_ message: Message) throws -> Emission {
        guard let request = message.metadata.integer(MessageKey.requestId) else {
            throw NodeError(.badRequest, "the message '\(message.type)' does not say which call it answers")
        }
        let answer: JSON?
        switch message.data {
        case .none: answer = .null
        case .json(let value): answer = value
        case .bytes(let bytes): answer = try? JSON(parsing: bytes)
        }
        let isAwaited = self.calls.answer(request, of: message.originator.id, with: answer)
        return .route(message, to: isAwaited ? .success : "Unmatched")
    }
}
