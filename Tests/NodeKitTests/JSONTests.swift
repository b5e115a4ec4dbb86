import NIOCore
import NodeKit
import Testing

@Suite struct JSONTests {
    @Test(
        "What is read is written again as it was",
        arguments: [
            "null", "true", "false", "0", "-0", "1", "-1", "9223372036854775807", "-9223372036854775808", "1.5",
            "-0.25",
            "\"\"", "\"a\"", "\"\\\"\\\\\\n\\r\\t\\u0001\"", "\"größe €\"", "[]", "[1,[2],{}]", "{}",
            "{\"b\":1,\"a\":{\"c\":null}}",
        ]
    )
    func roundTrip(text: String) throws {
        let expected = text == "-0" ? "0" : text
        #expect(try JSON(parsing: text).description == expected)
    }

    @Test("White space, escapes, surrogate pairs and exponents are understood")
    func forms() throws {
        #expect(try JSON(parsing: " \t\r\n[ 1 , 2 ] ") == [1, 2])
        #expect(try JSON(parsing: #""\u0041\/\b\f\ud83d\ude00""#) == .string("A/\u{8}\u{C}😀"))
        #expect(try JSON(parsing: "1e2") == .double(100))
        #expect(try JSON(parsing: "25E-1") == .double(2.5))
    }

    @Test("An integer beyond 64 bits becomes a string, as ThingsBoard stores it")
    func largeIntegers() throws {
        #expect(try JSON(parsing: "9223372036854775808") == .string("9223372036854775808"))
        #expect(try JSON(parsing: "-9223372036854775809") == .string("-9223372036854775809"))
    }

    @Test("Of a repeated member the last value counts, in the place of the first")
    func repeatedMembers() throws {
        #expect(try JSON(parsing: #"{"a":1,"b":2,"a":3}"#).description == #"{"a":3,"b":2}"#)
    }

    @Test(
        "What is no JSON is refused at the byte where it goes wrong",
        arguments: [
            ("", 0), (" ", 1), ("nul", 0), ("tru e", 0), ("01", 1), ("-", 1), ("1.", 2), ("1e", 2), ("1e999", 0),
            (".5", 0),
            ("+1", 0), ("[1,]", 3), ("[1", 2), ("{", 1), ("{a:1}", 1), ("{\"a\"1}", 4), ("{\"a\":1,}", 7), ("\"a", 2),
            ("\"\n\"", 1), ("\"\\x\"", 2), ("\"\\u12\"", 3), ("\"\\ud800\"", 7), ("1 2", 2), ("NaN", 0), ("'a'", 0),
        ]
    )
    func faults(text: String, offset: Int) {
        let error = #expect(throws: JSONSyntaxError.self) { try JSON(parsing: text) }
        #expect(error?.offset == offset)
    }

    @Test("Bytes that are not UTF-8 are refused")
    func invalidUTF8() {
        for bytes: [UInt8] in [[0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0x5C, 0x6E, 0xED, 0xA0, 0x80, 0x22]] {
            #expect(throws: JSONSyntaxError.self) { try JSON(parsing: ByteBuffer(bytes: bytes)) }
        }
    }

    @Test("Arrays and objects nest as deep as the limit says, and no deeper")
    func depth() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try JSON(parsing: nested(JSON.depthMax))
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: nested(JSON.depthMax + 1)) }
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: String(repeating: "[", count: 1_000_000)) }
        _ = try JSON(parsing: #"{"a":{"a":1}}"#, depthMax: 2)
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: #"{"a":{"a":[]}}"#, depthMax: 2) }
    }

    @Test("A text is a value without quotes")
    func texts() {
        #expect(JSON.string("a").text == "a")
        #expect(JSON.integer(5).text == "5")
        #expect(JSON.bool(true).text == "true")
        #expect((["a": [1]] as JSON).text == #"{"a":[1]}"#)
    }

    @Test("Objects are equal whatever the order of their members")
    func equality() {
        #expect(JSON.Object([("a", 1), ("b", 2)]) == JSON.Object([("b", 2), ("a", 1)]))
        #expect(Set([JSON.Object([("a", 1), ("b", 2)]), JSON.Object([("b", 2), ("a", 1)])]).count == 1)
    }
}

@Suite struct TelemetryTests {
    @Test(
        "All of ThingsBoard's telemetry forms are read",
        arguments: [
            (#"{"a":1,"b":null}"#, ["- {\"a\":1}"]), (#"{"ts":5,"values":{"a":1}}"#, ["5 {\"a\":1}"]),
            (#"[{"a":1},{"ts":5,"values":{"b":2,"c":null}}]"#, ["- {\"a\":1}", "5 {\"b\":2}"]), ("{}", []), ("[]", []),
            (#"{"a":null}"#, []), (#"[{}]"#, []), (#"{"ts":5}"#, ["- {\"ts\":5}"]),
        ]
    )
    func forms(text: String, expected: [String]) throws {
        let points = try JSON(parsing: text).telemetryPoints().map { point in
            "\(point.timestamp?.description ?? "-") \(JSON.object(point.values))"
        }
        #expect(points == expected)
    }

    @Test(
        "Any other shape is the peer's mistake",
        arguments: ["1", "\"a\"", "null", "[1]", "[[]]", #"{"ts":"5","values":{}}"#, #"{"ts":5,"values":[]}"#]
    )
    func faults(text: String) throws {
        let json = try JSON(parsing: text)
        let error = #expect(throws: NodeError.self) { try json.telemetryPoints() }
        #expect(error?.code == .badRequest)
    }
}
