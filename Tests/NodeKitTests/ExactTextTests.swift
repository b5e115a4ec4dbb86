import NodeKit
import Testing

/// Texts that `String` takes for the same, and others.
enum Equivalents {
    static let pairs = [
        ("caf\u{E9}", "cafe\u{301}"), ("K", "\u{212A}"), ("\u{C5}", "\u{212B}"), (";", "\u{37E}"), ("`", "\u{1FEF}"),
        // The same number of bytes in another order.
        ("a\u{315}\u{300}", "a\u{300}\u{315}"),
        // Longer than what a `String` keeps in itself.
        ("a long name of a device: caf\u{E9}", "a long name of a device: cafe\u{301}"),
        ("provisionDeviceKey", "provisionDevice\u{212A}ey"),
    ]
}

@Suite struct ExactTextTests {
    @Test("texts are the same if their bytes are", .bug(id: "D1.2"), arguments: Equivalents.pairs)
    func equality(a: String, b: String) {
        #expect(a == b)
        #expect(a.exact != b.exact)
        #expect(Set([a.exact, b.exact, a.exact]).count == 2)
        #expect(Optional(a).exact != Optional(b).exact)
        // However a text came to be: a copy, a part of another one, one with room to grow.
        var grown = String()
        grown.reserveCapacity(200)
        grown += a
        for same in [a, String(decoding: Array(a.utf8), as: UTF8.self), String("x\(a)".dropFirst()), grown] {
            #expect(same.exact == a.exact)
            #expect(same.exact.hashValue == a.exact.hashValue)
            #expect(same.exact != b.exact)
        }
    }

    @Test("texts of every length differ in each of their bytes", .bug(id: "D1.2"))
    func lengths() {
        for length in 0..<70 {
            let text = [UInt8](repeating: UInt8(ascii: "a"), count: length)
            let first = String(decoding: text, as: UTF8.self).exact
            #expect(first == String(decoding: text, as: UTF8.self).exact)
            #expect(first != String(decoding: text + [0x61], as: UTF8.self).exact)
            for index in text.indices {
                var other = text
                other[index] = UInt8(ascii: "b")
                #expect(first != String(decoding: other, as: UTF8.self).exact)
            }
        }
    }

    @Test("a type with such texts has exact equality, and its properties are strings", .bug(id: "D1.2"))
    func wrapper() {
        struct Name: Hashable {
            @ExactText var text: String
        }
        var name = Name(text: "caf\u{E9}")
        #expect(name != Name(text: "cafe\u{301}"))
        name.text = "cafe\u{301}"
        #expect(name == Name(text: "cafe\u{301}") && name.$text == "cafe\u{301}")
        let device = Originator(id: .random(), name: "caf\u{E9}", type: "t")
        var other = device
        other.name = "cafe\u{301}"
        #expect(device != other)
    }

    @Test("an object keeps members apart whose names only look the same", .bug(id: "D1.2"), arguments: [0, 20])
    func members(others: Int) throws {
        let more = (0..<others).map { "\"m\($0)\":0," }.joined()
        for (a, b) in Equivalents.pairs {
            var object = try #require(try JSON(parsing: "{\(more)\"\(a)\":1,\"\(b)\":2}").object)
            #expect(object.count == others + 2)
            #expect(object[a] == 1 && object[b] == 2)
            object[a] = 3
            object[b] = nil
            #expect(object[a] == 3 && object[b] == nil && object.count == others + 1)
            let built: JSON.Object = [a: 1, b: 2]
            #expect(built.count == 2)
            #expect(Metadata(built)[b] == 2)
            #expect(JSON.Object([(name: a, value: 1), (name: b, value: 2)]).count == 2)
        }
    }

    @Test("values are equal if their bytes are", .bug(id: "D1.2"), arguments: Equivalents.pairs)
    func values(a: String, b: String) {
        #expect(JSON.string(a) != .string(b))
        #expect(JSON.array([.string(a)]) != [.string(b)])
        #expect(JSON.object([a: 1]) != .object([b: 1]))
        #expect(Set([JSON.string(a), .string(b)]).count == 2)
        #expect(MessageData.json(.string(a)) != .json(.string(b)))
        #expect(Relation(rawValue: a) != Relation(rawValue: b))
        let message = Message(
            originator: Originator(id: .random(), name: "d", type: "t"),
            type: .postTelemetryRequest,
            data: .json([["ts": 1, "values": .object([a: 1])], .object([b: 2])]),
            timestamp: .now
        )
        #expect(message.value(forVariable: a) == 1)
        #expect(message.value(forVariable: b) == 2)
    }
}
