import Foundation
import NodeKit
import Testing

@Suite struct AttributeDescriptorTests {
    private func code(_ attribute: AttributeDescriptor, _ text: String) -> NodeError.Code? {
        do {
            _ = try attribute.parse(text)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("A number is taken within its range, its ends included, and refused beyond")
    func integers() {
        let port = AttributeDescriptor.integer("port", in: 0...65535, summary: "Port.")
        for text in ["0", "65535", "8080"] { #expect(self.code(port, text) == nil) }
        for text in ["-1", "65536"] { #expect(self.code(port, text) == "out-of-range") }
        for text in ["", " 1", "1 ", "1.0", "0x10", "9223372036854775808", "eins"] {
            #expect(self.code(port, text) == "bad-value")
        }
    }

    @Test("A truth value is true or false and nothing else")
    func booleans() {
        let quiet = AttributeDescriptor.boolean("quiet", summary: "Quiet.")
        for text in ["true", "false"] { #expect(self.code(quiet, text) == nil) }
        for text in ["", "True", "yes", "1"] { #expect(self.code(quiet, text) == "bad-value") }
    }

    @Test("A text with a list is one of it")
    func texts() {
        let kind = AttributeDescriptor.string("kind", oneOf: ["A", "B"], summary: "Kind.")
        #expect(self.code(kind, "A") == nil)
        for text in ["", "a", "A "] { #expect(self.code(kind, text) == "bad-value") }
        #expect(self.code(.string("any", summary: "Any."), "") == nil)
    }

    @Test("A duration is a number of the unit in its name")
    func durations() throws {
        let seconds = AttributeDescriptor.duration("wait-seconds", .seconds, in: 1...60, summary: "Wait.")
        let milliseconds = AttributeDescriptor.duration(
            "wait-milliseconds",
            .milliseconds,
            in: 1...60,
            summary: "Wait."
        )
        let configuration = Configuration(["s": try seconds.parse("60"), "ms": try milliseconds.parse("60")])
        #expect(configuration.duration("s") == .seconds(60))
        #expect(configuration.duration("ms") == .milliseconds(60))
        #expect(self.code(seconds, "61") == "out-of-range")
        #expect(self.code(seconds, "0") == "out-of-range")
    }

    @Test("What is optional and absent is nil")
    func absent() {
        let configuration = Configuration([:])
        #expect(configuration.stringIfPresent("x") == nil)
        #expect(configuration.integerIfPresent("x") == nil)
        #expect(configuration.durationIfPresent("x") == nil)
    }
}

@Suite struct MessageVariableTests {
    private struct Note: MessageAttachment {
        var text: String
        func value(forVariable name: String) -> JSON? { name == "note" ? .string(self.text) : nil }
    }

    private func message(_ metadata: Metadata = [:], _ data: MessageData = .none) -> Message {
        Message(
            originator: Originator(id: UUID.random(), name: "pump-1", type: "pump"),
            type: "X",
            metadata: metadata,
            data: data,
            timestamp: Timestamp(milliseconds: 1)
        )
    }

    @Test("Metadata come before attachments, and these before data; what every message has comes first")
    func order() {
        var message = self.message([:], .json(["note": "data", "type": "data", "other": 1]))
        #expect(message.value(forVariable: "note") == "data")
        message.attach(Note(text: "attached"))
        #expect(message.value(forVariable: "note") == "attached")
        message.metadata["note"] = "metadata"
        #expect(message.value(forVariable: "note") == "metadata")
        #expect(message.value(forVariable: "type") == "X")
        #expect(message.value(forVariable: "deviceName") == "pump-1")
        #expect(message.value(forVariable: "deviceType") == "pump")
        #expect(message.value(forVariable: "originator") == .string(message.originator.id.uuidString.lowercased()))
        #expect(message.value(forVariable: "other") == 1)
        #expect(message.value(forVariable: "absent") == nil)
    }

    @Test("Of telemetry in any form the last value of a key counts")
    func telemetry() {
        let array = self.message([:], .json([["a": 1, "b": 1], ["ts": 1, "values": ["a": 2]]]))
        #expect(array.value(forVariable: "a") == 2)
        #expect(array.value(forVariable: "b") == 1)
        let one = self.message([:], .json(["ts": 1, "values": ["a": 3]]))
        #expect(one.value(forVariable: "a") == 3)
        #expect(self.message([:], .bytes(.init())).value(forVariable: "a") == nil)
    }

    @Test("An attachment takes the place of one of its type")
    func attachments() {
        var message = self.message()
        message.attach(Note(text: "one"))
        message.attach(Note(text: "two"))
        #expect(message.attachment(Note.self)?.text == "two")
    }

    @Test("Metadata give numbers that are written as text, too")
    func numbers() {
        let metadata: Metadata = ["a": 5, "b": "6", "c": "x", "d": 1.5]
        #expect(["a", "b", "c", "d", "e"].map { metadata.integer($0) } == [5, 6, nil, nil, nil])
    }
}
