public import NodeKit
import OTA

/// Answers a device that asks for client and shared attributes.
///
/// The metadata's `clientKeys` and `sharedKeys` say which: with neither, all of both; with one, only that group. A group
/// without a result is absent from the answer. `missed-pushes` hears of a reply that offers a package, and does not send it again.
///
/// | Relation  | When                                                                          |
/// |-----------|-------------------------------------------------------------------------------|
/// | `Success` | The reply is `{"client":{…},"shared":{…}}`, or `{}` if there is nothing.      |
/// | `Failure` | More names than allowed (`bad-request`), or the store could not answer.       |
public struct AttributesReplyNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "attributes-reply",
        summary: "Answers with the client and shared attributes that the device asks for.",
        relations: [
            RelationDescriptor(.success, "The reply is a JSON object with the groups 'client' and 'shared'."),
            RelationDescriptor(.failure, "More names than allowed were asked for, or the store could not answer."),
        ],
        attributes: [
            .integer(
                "keys-max",
                default: 1000,
                in: 1...10_000,
                summary: "How many names a device may ask for in one group."
            )
        ]
    )

    private let keysMax: Int
    private let attributes: any AttributesService
    private let sessions: DeviceSessions

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.keysMax = Int(configuration.integer("keys-max"))
        self.attributes = try services.require((any AttributesService).self)
        self.sessions = try services.require(DeviceSessions.self)
    }

    /// Sets the reply.
    public func process(_ message: Message) async throws -> Emission {
        let clientKeys = try self.keys(MessageKey.clientKeys, of: message)
        let sharedKeys = try self.keys(MessageKey.sharedKeys, of: message)
        let isForAll = clientKeys == nil && sharedKeys == nil
        var answer: JSON.Object = [:]
        if isForAll || clientKeys != nil {
            answer["client"] = try await self.group(.client, clientKeys, of: message.device)
        }
        if isForAll || sharedKeys != nil {
            let shared = try await self.group(.shared, sharedKeys, of: message.device)
            answer["shared"] = shared
            if case .object(let values)? = shared { self.sessions.replied(to: message.originator.id, values) }
        }
        return .route(message.replying(.json(.object(answer))), to: .success)
    }

    /// The names that were asked for; `nil` if there is no list, or an empty one, which ThingsBoard takes for none.
    private func keys(_ name: String, of message: Message) throws(NodeError) -> [String]? {
        guard let list = message.metadata.string(name) else { return nil }
        // By bytes: a comma before a mark that combines with it is a comma all the same.
        let keys = list.utf8.split(separator: UInt8(ascii: ","), maxSplits: self.keysMax)
        guard keys.count <= self.keysMax else {
            throw NodeError(
                .badRequest,
                "'\(name)' asks for more than \(self.keysMax) attributes; ask for fewer at once"
            )
        }
        return keys.isEmpty ? nil : keys.map { String(Substring($0)) }
    }

    private func group(_ scope: AttributeScope, _ keys: [String]?, of device: DeviceId) async throws -> JSON? {
        let entries = try await self.attributes.attributes(of: device, scope: scope, keys: keys)
        return entries.isEmpty ? nil : .object(JSON.Object(entries.lazy.map { ($0.key, $0.value) }))
    }
}
