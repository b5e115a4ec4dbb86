public import NodeKit
import OTA

/// Answers with what a device needs to know about its package, as a JSON object of the shared attributes.
///
/// `missed-pushes` hears of the reply, and does not send the package again.
///
/// | Relation  | When                                          |
/// |-----------|-----------------------------------------------|
/// | `Success` | The reply is set.                             |
/// | `Failure` | The message did not pass a `package-lookup`.  |
public struct PackageInfoNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "package-info",
        summary: "Answers with title, version, size, checksum or URL of the package that package-lookup found.",
        relations: [
            RelationDescriptor(.success, "The reply is a JSON object of the package's shared attributes."),
            RelationDescriptor(.failure, "The message did not pass a package-lookup."),
        ]
    )

    private let sessions: DeviceSessions

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.sessions = try services.require(DeviceSessions.self)
    }

    /// Sets the reply.
    public func decide(_ message: Message) throws -> Emission {
        let values = try message.lookedUpPackage().package.sharedAttributes
        self.sessions.replied(to: message.originator.id, values)
        return .route(message.replying(.json(.object(values))), to: .success)
    }
}
