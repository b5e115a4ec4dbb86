import Testing

@testable import HTTPKit

@Suite struct ConditionsTests {
    @Test(
        "a range counts only if If-Range names the same bytes",
        arguments: [
            (nil, true), ("\"t\"", true), ("W/\"t\"", false), ("\"u\"", false), ("t", false), ("", false), ("*", false),
            ("Thu, 01 Jan 1970 00:00:00 GMT", false),
        ] as [(String?, Bool)]
    )
    func ifRange(field: String?, counts: Bool) {
        #expect(Conditions.holds(ifRange: field, entityTag: "\"t\"") == counts)
    }

    @Test(
        "If-None-Match knows lists, weak tags and any",
        arguments: [
            ("\"t\"", true), ("W/\"t\"", true), ("\"a\", \"t\"", true), ("\"a\" , W/\"t\" ", true), ("*", true),
            (" * ", true),
            ("\"a\",,\"t\"", true), ("\"a\"", false), ("t", false), ("", false), ("w/\"t\"", false),
        ]
    )
    func ifNoneMatch(field: String, isUnchanged: Bool) {
        #expect(Conditions.isUnchanged(ifNoneMatch: field, entityTag: "\"t\"") == isUnchanged)
    }

    @Test(
        "If-Match knows lists and any, but no weak tags",
        arguments: [
            (nil, true), ("\"t\"", true), ("\"a\", \"t\"", true), ("*", true), ("W/\"t\"", false), ("\"a\"", false),
            ("", false),
        ] as [(String?, Bool)]
    )
    func ifMatch(field: String?, holds: Bool) {
        #expect(Conditions.holds(ifMatch: field, entityTag: "\"t\"") == holds)
    }

    @Test("bytes without a tag are those of nobody's tag")
    func noTag() {
        #expect(!Conditions.isUnchanged(ifNoneMatch: "\"t\"", entityTag: nil))
        #expect(!Conditions.holds(ifMatch: "\"t\"", entityTag: nil))
        #expect(!Conditions.holds(ifRange: "\"t\"", entityTag: nil))
        #expect(Conditions.holds(ifMatch: "*", entityTag: nil))
    }
}
