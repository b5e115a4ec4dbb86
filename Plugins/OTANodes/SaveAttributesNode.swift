public import NodeKit
import OTA

/// Stores the message's data as attributes of the device.
///
/// The message goes on meanwhile, as far as nothing needs to know the outcome; see ``Emission/route(_:to:storing:)``.
///
/// | Relation  | When                                                                 |
/// |-----------|----------------------------------------------------------------------|
/// | `Success` | The attributes are stored; a device may be told so.                  |
/// | `Failure` | The data is no JSON object (`bad-request`), or could not be stored.  |
public struct SaveAttributesNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "save-attributes",
        summary: "Stores the message's data as attributes of the device.",
        relations: [
            RelationDescriptor(.success, "The attributes are stored."),
            RelationDescriptor(.failure, "The data is no JSON object, or could not be stored."),
        ],
        attributes: [
            .string(
                "scope",
                default: AttributeScope.client.rawValue,
                oneOf: AttributeScope.allCases.map(\.rawValue),
                summary: "Who keeps the attributes; shared ones are pushed to the device."
            )
        ],
        overtakesWrites: true
    )

    private let scope: AttributeScope
    private let attributes: any AttributesService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.scope = AttributeScope(rawValue: configuration.string("scope")) ?? .client
        self.attributes = try services.require((any AttributesService).self)
    }

    /// Stores the members that are not `null`.
    public func decide(_ message: consuming Message) throws -> Emission {
        guard case .json(.object(let object)) = message.data else {
            throw NodeError(.badRequest, "attributes must be a JSON object")
        }
        let values = object.withoutNulls
        guard !values.isEmpty else { return .route(message, to: .success) }
        let write = try self.attributes.beginSavingAttributes(
            of: message.device,
            scope: self.scope,
            values,
            at: message.timestamp
        )
        return .route(message, to: .success, storing: write)
    }
}
