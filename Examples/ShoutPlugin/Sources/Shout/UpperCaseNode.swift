public import NodeKit

/// Puts a variable's value into the metadata, in upper case.
///
/// | Relation  | When                                          |
/// |-----------|-----------------------------------------------|
/// | `Success` | The metadata's `shout` is the value.          |
/// | `Nothing` | The message does not have the variable.       |
public struct UpperCaseNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "upper-case",
        summary: "Puts a variable's value into the metadata, in upper case.",
        relations: [
            RelationDescriptor(.success, "The metadata's 'shout' is the value."),
            RelationDescriptor("Nothing", "The message does not have the variable."),
        ],
        attributes: [
            .string("of", default: "deviceName", summary: "The variable's name.")
        ],
        variables: [VariableDescriptor("shout", "The value in upper case.")]
    )

    private let variable: String

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.variable = configuration.string("of")
    }

    /// Answers with exactly one emission; an error thrown here leaves by `Failure`.
    public func process(_ message: Message) async throws -> Emission {
        guard let value = message.value(forVariable: self.variable) else { return .route(message, to: "Nothing") }
        var message = message
        message.metadata["shout"] = .string(value.text.uppercased())
        return .route(message, to: .success)
    }
}
