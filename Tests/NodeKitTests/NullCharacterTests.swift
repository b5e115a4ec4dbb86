import NIOCore
import NodeKit
import Testing

@Suite struct NullCharacterTests {
    @Test(
        "JSON with U+0000 in a name or string is refused, with the name of the field",
        .bug(id: "D1.3"),
        arguments: [
            (#"{"v":"a\u0000b"}"#, "v"), (#"{"v":"\u0000"}"#, "v"), (#"{"v":"\u0000\n\u0041"}"#, "v"),
            (#"{"ts":1,"values":{"a":{"b":[1,"\u0000"]}}}"#, "values.a.b[1]"), (#"[{"a":1},{"b":"x\u0000"}]"#, "[1].b"),
            (#"[[["\u0000"]]]"#, "[0][0][0]"), (#"{"a":{"b\u0000c":1}}"#, #"a.b\u0000c"#),
            (#"{"\u0000":1}"#, #"\u0000"#),
            (#""\u0000""#, "the body"), (#"{"fw_state":"FAILED","fw_error":"\ud83d\ude00\u0000"}"#, "fw_error"),
            // As it is, without an escape.
            ("{\"v\":\"a\u{0}b\"}", "v"), ("{\"values\":{\"k\u{0}\":[\"\\n\u{0}\"]}}", #"values.k\u0000"#),
            ("{\"a\":[\"\u{0}\"]}", "a[0]"),
        ]
    )
    func refusal(text: String, field: String) throws {
        let error = try #require(throws: JSONSyntaxError.self) { try JSON(parsing: text) }
        let refusal = NodeError(unreadable: "the body", error)
        #expect(refusal.code == .badRequest && refusal.isNullCharacter)
        #expect(refusal.message == "'\(field)' must not have the character U+0000 in it")
        // Stored text has it as an escape only.
        guard !text.utf8.contains(0) else {
            #expect(throws: JSONSyntaxError.self) { try JSON(parsing: text, allowsNull: true) }
            return
        }
        #expect(
            try JSON(parsing: text, allowsNull: true).description
                == JSON(parsing: ByteBuffer(string: text), allowsNull: true).description
        )
    }

    @Test(
        "text that is not JSON is refused for that",
        .bug(id: "D1.3"),
        arguments: ["{", "{\"a\":\"\u{1}\"}", "{\"a\":\"\u{0}", "{\"a\":1}\u{0}", #"{"a":"\u000"}"#]
    )
    func otherFaults(text: String) throws {
        let error = try #require(throws: JSONSyntaxError.self) { try JSON(parsing: text) }
        let refusal = NodeError(unreadable: "the body", error)
        #expect(refusal.code == .badRequest && !refusal.isNullCharacter)
        #expect(refusal.message.hasPrefix("the body is not valid JSON at byte "))
    }

    @Test("JSON that was stored with U+0000 is read as it was written", .bug(id: "D1.3"))
    func stored() throws {
        let text = #"{"a\u0000b":["\u0000"]}"#
        let json = try JSON(parsing: text, allowsNull: true)
        #expect(json["a\u{0}b"] == ["\u{0}"])
        #expect(json.description == text)
    }

    @Test(
        "a field's name is shown up to a limit, even if it is one letter with many marks",
        .bug(id: "D1.3"),
        arguments: [String(repeating: "n", count: 1000), "n" + String(repeating: "\u{301}", count: 1000)]
    )
    func longField(name: String) throws {
        let error = try #require(throws: JSONSyntaxError.self) { try JSON(parsing: #"{"\#(name)":"\u0000"}"#) }
        #expect(NodeError(unreadable: "it", error).message.unicodeScalars.count < 200)
        #expect(throws: NodeError.self) { try NullCharacter.refuse(in: "a\u{0}", "title") }
        #expect(throws: Never.self) { try NullCharacter.refuse(in: "a", "title") }
    }
}
