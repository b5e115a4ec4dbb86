import FoundationEssentials
import NodeKit
import Testing

@Suite struct MessageTests {
    private struct Note: MessageAttachment, Equatable {
        var text: String
    }

    private static let message = Message(
        originator: Originator(id: UUID.random(), name: "pump", type: "default"),
        type: .postTelemetryRequest,
        metadata: ["a": 1],
        data: .json(["t": 20]),
        timestamp: Timestamp(milliseconds: 5)
    )

    /// Every part of a message with a change of it.
    private static let changes: [(name: String, change: @Sendable (inout Message) -> Void)] = [
        ("originator", { $0.originator.name = "other" }),
        ("type", { $0.type = .postAttributesRequest }),
        ("metadata", { $0.metadata["a"] = 2 }),
        ("data", { $0.data = .none }),
        ("reply", { $0.reply = .empty }),
        ("timestamp", { $0.timestamp = Timestamp(milliseconds: 6) }),
        ("attachment", { $0.attach(Note(text: "new")) }),
    ]

    private static func description(_ message: Message) -> String {
        "\(message.originator) \(message.type) \(message.metadata.object) \(message.data) "
            + "\(String(describing: message.reply)) \(message.timestamp) "
            + "\(String(describing: message.attachment(Note.self)))"
    }

    @Test(arguments: Self.changes.indices)
    func `a copy that is changed leaves the other as it was`(index: Int) {
        var first = Self.message
        first.attach(Note(text: "old"))
        let before = Self.description(first)
        var second = first
        Self.changes[index].change(&second)
        #expect(Self.description(first) == before, "\(Self.changes[index].name)")
        #expect(Self.description(second) != before, "\(Self.changes[index].name)")
        // The other way round, too: the first is the one that is changed.
        let changed = Self.description(second)
        let third = second
        Self.changes[(index + 1) % Self.changes.count].change(&second)
        #expect(Self.description(third) == changed)
    }

    @Test func `a message with an answer is another message`() {
        let replied = Self.message.replying(.empty)
        #expect(Self.message.reply == nil)
        #expect(replied.reply != nil)
    }

    @Test func `an attachment takes the place of one of its type`() {
        var message = Self.message
        message.attach(Note(text: "one"))
        message.attach(Note(text: "two"))
        #expect(message.attachment(Note.self) == Note(text: "two"))
    }
}
