public import NodeKit
import OTA

/// Ends the update that a message is about as FAILED.
///
/// Of an update that stands still (`UPDATE_STALLED`) the cause is then `TIMED_OUT`, and the device may still prove the host wrong: what
/// it reports later counts.
///
/// | Relation    | When                                                                    |
/// |-------------|-------------------------------------------------------------------------|
/// | `Success`   | The update has failed; `updateError` says why.                          |
/// | `Unchanged` | It is over, moved since the message was sent, or there is none.         |
/// | `Failure`   | The kind of package is not known, or the store could not answer.        |
public struct FailUpdateNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "fail-update",
        summary: "Ends the update that the message is about as FAILED.",
        relations: [
            RelationDescriptor(.success, "The update has failed; 'updateError' says why."),
            RelationDescriptor("Unchanged", "It is over, moved since the message was sent, or there is none."),
            RelationDescriptor(.failure, "The kind of package is not known, or the store could not answer."),
        ],
        attributes: [
            .string(
                "reason",
                optional: true,
                summary: "What is stored as the reason; by default what the message tells."
            )
        ],
        variables: [VariableDescriptor(MessageKey.error, "Why the update failed.")]
    )

    private let reason: String?
    private let retries: any UpdateRetryService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.reason = configuration.stringIfPresent("reason")
        self.retries = try services.require((any UpdateRetryService).self)
    }

    /// Ends the update.
    public func process(_ message: Message) async throws -> Emission {
        let type = try message.packageType()
        let reason = self.reason ?? message.stallReason ?? "ended by the rule chain"
        let isEnded = try await self.retries.fail(
            message.device,
            type,
            ifUnmovedSince: message.unmovedSince,
            cause: message.type == .updateStalled ? .timedOut : nil,
            reason: reason,
            retryAt: nil
        )
        guard isEnded else { return .route(message, to: "Unchanged") }
        var message = message
        message.metadata[MessageKey.error] = .string(reason)
        return .route(message, to: .success)
    }
}

extension Message {
    /// When the update that stands still moved last; `nil` if the message is about something else.
    var unmovedSince: Timestamp? {
        guard self.type == .updateStalled else { return nil }
        return self.metadata.integer(MessageKey.activeTime).map(Timestamp.init(milliseconds:))
    }

    /// What an update failed of that stands still, in words; `nil` if the message is about something else.
    var stallReason: String? {
        guard self.type == .updateStalled, let state = self.metadata.string(MessageKey.state) else { return nil }
        let seconds = self.metadata.integer("stalledSeconds").map { " for \($0) s" } ?? ""
        return "timed out: nothing was heard of the update in \(state)\(seconds)"
    }
}
