import FoundationEssentials
import GRDB
import NIOCore
public import NodeKit

extension SQLiteStore: MessageQueues {
    /// The queue with this name.
    public func queue(named name: String) -> any MessageQueue { StoredMessageQueue(store: self, name: name) }
}

/// A queue in the table `message_queue`.
private struct StoredMessageQueue: MessageQueue {
    let store: SQLiteStore
    let name: String

    func append(_ message: Message) async throws {
        let text = message.stored.description
        try await self.store.write(repeatable: true) { [name, statements = self.store.statements] db, _ in
            try statements.queueEntry.run(db) { arguments in
                try arguments.add(name)
                try arguments.add(text)
            }
        }
    }

    func first(_ limit: Int) async throws -> [QueuedMessage] {
        try await self.store.read { [name] db in
            try db.rows(
                "SELECT id, message FROM message_queue WHERE queue = ? ORDER BY id LIMIT ?",
                [name, max(0, limit)]
            )
            .map { row in QueuedMessage(id: row["id"], message: try Message(stored: try JSON(stored: row["message"]))) }
        }
    }

    func remove(_ ids: [Int64]) async throws {
        guard !ids.isEmpty else { return }
        try await self.store.write(repeatable: true) { [name, statements = self.store.statements] db, _ in
            for id in ids {
                try statements.queueRemoval.run(db) { arguments in
                    try arguments.add(id)
                    try arguments.add(name)
                }
            }
        }
    }

    func count() async throws -> Int {
        try await self.store.read { [name] db in
            Int(try db.integer("SELECT count(*) FROM message_queue WHERE queue = ?", [name]) ?? 0)
        }
    }
}

extension Message {
    /// All of the message that outlives the process, as one JSON value.
    fileprivate var stored: JSON {
        var object: JSON.Object = [
            "originator": [
                "id": .string(self.originator.id.uuidString), "name": .string(self.originator.name),
                "type": .string(self.originator.type),
            ],
            "type": .string(self.type.rawValue),
            "metadata": .object(self.metadata.object),
            "timestamp": .integer(self.timestamp.rawValue),
        ]
        switch self.data {
        case .none: break
        case .json(let value): object["json"] = value
        case .bytes(let buffer):
            object["bytes"] = .string(Data(buffer.readableBytesView).base64EncodedString())
        }
        return .object(object)
    }

    fileprivate init(stored: JSON) throws {
        guard let id = stored["originator"]?["id"]?.string.flatMap(UUID.init(uuidString:)),
            let name = stored["originator"]?["name"]?.string,
            let deviceType = stored["originator"]?["type"]?.string,
            let type = stored["type"]?.string,
            let metadata = stored["metadata"]?.object,
            let time = stored["timestamp"]?.integer
        else { throw NodeError(.internalError, "a queue holds a message that cannot be read; check the store") }
        var data = MessageData.none
        if let value = stored["json"] {
            data = .json(value)
        } else if let bytes = stored["bytes"]?.string.flatMap({ Data(base64Encoded: $0) }) {
            data = .bytes(ByteBuffer(bytes: bytes))
        }
        self.init(
            originator: Originator(id: id, name: name, type: deviceType),
            type: MessageType(rawValue: type),
            metadata: Metadata(metadata),
            data: data,
            timestamp: Timestamp(milliseconds: time)
        )
    }
}
