public import NodeKit

/// Sends a message by the relation that is named like the value of a variable.
///
/// | Relation      | When                                                        |
/// |---------------|-------------------------------------------------------------|
/// | any of a link | The variable's value is the link's text.                    |
/// | `Other`       | No link fits, or the message does not have the variable.    |
public struct SwitchNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "switch",
        summary: "Sends the message by the relation that is named like the value of a variable.",
        relations: [RelationDescriptor(.other, "No link fits, or the message does not have the variable.")],
        hasOpenRelations: true,
        attributes: [.string("on", summary: "The variable's name, such as 'type' or 'deviceType'.")],
        overtakesWrites: true
    )

    private let variable: String

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.variable = configuration.string("on")
        guard !self.variable.isEmpty else { throw NodeError("bad-value", "'on' is empty; it must name a variable") }
    }

    /// Routes by the value.
    public func decide(_ message: consuming Message) throws -> Emission {
        // A value may be a device's own word: "Failure" must not become a failure of the chain.
        guard let value = message.value(forVariable: self.variable)?.text, value != Relation.failure.rawValue else {
            return .route(message, to: .other)
        }
        return .route(message, to: Relation(rawValue: value))
    }
}
