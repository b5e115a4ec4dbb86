public import NodeKit

/// Asks a condition about each message.
///
/// | Relation  | When                                 |
/// |-----------|--------------------------------------|
/// | `True`    | The condition holds.                 |
/// | `False`   | It does not.                         |
/// | `Failure` | It cannot be evaluated.              |
public struct FilterNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "filter",
        summary: "Asks a condition about each message.",
        relations: [
            RelationDescriptor(.true, "The condition holds."),
            RelationDescriptor(.false, "The condition does not hold."),
            RelationDescriptor(.failure, "The condition cannot be evaluated."),
        ],
        attributes: [
            .condition("test", summary: "An XPath 1.0 expression, such as \"$deviceType = 'canary' and $fw_size > 0\".")
        ],
        overtakesWrites: true
    )

    private let condition: any Condition

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.condition = configuration.condition("test")
    }

    /// Routes by the condition.
    public func decide(_ message: consuming Message) throws -> Emission {
        .route(message, to: try self.condition.holds(for: message) ? .true : .false)
    }
}
