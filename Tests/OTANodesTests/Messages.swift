import FoundationEssentials
import NodeKit
import OTA

extension Originator {
    static let device = Originator.numbered(1)

    static func numbered(_ number: UInt32) -> Originator {
        let bytes = (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
        let id = UUID(uuid: (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, bytes[3], bytes[2], bytes[1], bytes[0]))
        return Originator(id: id, name: "device-\(number)", type: "default")
    }
}

extension Message {
    static func of(_ type: MessageType, _ metadata: Metadata = [:], _ data: JSON? = nil) -> Message {
        Message(
            originator: .device,
            type: type,
            metadata: metadata,
            data: data.map(MessageData.json) ?? .none,
            timestamp: Timestamp(milliseconds: 1000)
        )
    }

    var refusal: NodeError? {
        guard case .refused(let error) = self.reply else { return nil }
        return error
    }

    var content: ContentReply? {
        guard case .content(let content) = self.reply else { return nil }
        return content
    }

    var json: JSON? {
        guard case .json(let json) = self.reply else { return nil }
        return json
    }
}

extension Emission {
    /// The one message and its relation; stops the test's process if there is another number of them.
    var only: (message: Message, relation: Relation) {
        precondition(self.routes.count == 1, "\(self.routes.count) routes instead of one")
        return self.routes[0]
    }

    /// The one message and its relation, once what the node began to store is stored.
    var stored: (message: Message, relation: Relation) {
        get async throws {
            try await self.pendingWrite?.stored()
            return self.only
        }
    }
}
