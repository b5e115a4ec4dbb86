import Testing

@testable import HTTPIngress

@Suite struct ConditionsTests {
    @Test(
        "a range of bytes is what RFC 9110 §14.1.2 says",
        arguments: [
            ("bytes=0-0", .part(0..<1)), ("bytes=0-", .part(0..<10)), ("bytes=9-9", .part(9..<10)),
            ("bytes=5-100", .part(5..<10)), ("bytes=-3", .part(7..<10)), ("bytes=-100", .part(0..<10)),
            ("bytes=10-", .unsatisfiable), ("bytes=10-11", .unsatisfiable), ("bytes=-0", .unsatisfiable),
            ("Bytes=1-2", .part(1..<3)), ("bytes=5-4", .whole), ("bytes=0-1,3-4", .whole), ("lines=0-1", .whole),
            ("bytes=", .whole), ("bytes=-", .whole), ("bytes=a-b", .whole), ("bytes=--1", .whole), ("bytes", .whole),
            ("bytes=0-9223372036854775807", .part(0..<10)), ("bytes=99999999999999999999-", .unsatisfiable),
            ("bytes=0-99999999999999999999", .part(0..<10)), ("bytes=-99999999999999999999", .part(0..<10)),
        ] as [(String, Conditions.Selection)]
    )
    func ranges(field: String, selection: Conditions.Selection) {
        #expect(Conditions.selection(range: field, ifRange: nil, entityTag: "\"t\"", size: 10) == selection)
    }

    @Test("nothing of an empty content can be sent", arguments: ["bytes=0-0", "bytes=-1", "bytes=0-"])
    func emptyContent(field: String) {
        #expect(Conditions.selection(range: field, ifRange: nil, entityTag: nil, size: 0) == .unsatisfiable)
    }

    @Test(
        "a range counts only if If-Range names the same bytes",
        arguments: [("\"t\"", true), ("W/\"t\"", false), ("\"u\"", false), ("Thu, 01 Jan 1970 00:00:00 GMT", false)]
    )
    func ifRange(field: String, counts: Bool) {
        let selection = Conditions.selection(range: "bytes=0-0", ifRange: field, entityTag: "\"t\"", size: 10)
        #expect(selection == (counts ? .part(0..<1) : .whole))
    }

    @Test(
        "If-None-Match knows lists, weak tags and any",
        arguments: [
            ("\"t\"", true), ("W/\"t\"", true), ("\"a\", \"t\"", true), ("\"a\" , W/\"t\" ", true), ("*", true),
            ("\"a\"", false), ("t", false), ("", false),
        ]
    )
    func ifNoneMatch(field: String, isUnchanged: Bool) {
        #expect(Conditions.isUnchanged(ifNoneMatch: field, entityTag: "\"t\"") == isUnchanged)
    }
}
