import Testing

@testable import HTTPKit

@Suite struct RequestTargetTests {
    /// Takes a text apart while its bytes are there.
    private func with<Result>(_ text: String, _ body: (RequestTarget?) throws -> Result) rethrows -> Result {
        try Array(text.utf8).withUnsafeBufferPointer { try body(RequestTarget($0)) }
    }

    private func text(_ bytes: HeadBytes) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test(
        "a target is a path and a query, whichever host it names",
        arguments: [
            ("/", "/", ""), ("/a/b", "/a/b", ""), ("/a?b=c", "/a", "b=c"), ("/a?", "/a", ""), ("/a?b?c", "/a", "b?c"),
            ("/a#b", "/a", ""), ("/a#b?c", "/a", ""), ("/a?b#c", "/a", "b"), ("http://h/a?b", "/a", "b"),
            ("HTTPS://h:1/a", "/a", ""),
        ]
    )
    func parts(target: String, path: String, query: String) {
        self.with(target) { target in
            #expect(target.map { self.text($0.path) } == path)
            #expect(target.map { self.text($0.query) } == query)
        }
    }

    @Test("a target in another form names nothing", arguments: ["*", "h:80", "ftp://h/a", "http://h", ""])
    func otherForms(target: String) { self.with(target) { #expect($0 == nil) } }

    @Test(
        "the segments of a path are what is between its slashes",
        arguments: [("/", [""]), ("/a", ["a"]), ("/a/b", ["a", "b"]), ("/a/", ["a", ""]), ("//a", ["", "a"])]
    )
    func segments(path: String, expected: [String]) {
        self.with(path) { target in
            var segments = target?.segments
            var found: [String] = []
            while let segment = segments?.next() { found.append(self.text(segment)) }
            #expect(found == expected)
        }
    }

    @Test("the parameters of a query come in order, those without a value and a repeated one, too")
    func parameters() {
        self.with("/?a=1&&b&=2&a=3=4&c=") { target in
            var parameters = target?.parameters
            var found: [String] = []
            while let (name, value) = parameters?.next() { found.append("\(self.text(name)):\(self.text(value))") }
            #expect(found == ["a:1", "b:", ":2", "a:3=4", "c:"])
        }
    }
}
