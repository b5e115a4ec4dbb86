import NodeKit
import Testing

@testable import windlass

@Suite struct ClientTests {
    @Test(
        "a server is named by scheme, host and port",
        arguments: [
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("https://updates.example.org", "https://updates.example.org:443"),
            ("HTTP://host/", "http://host:80"), ("http://[::1]:8081", "http://[::1]:8081"),
        ]
    )
    func address(text: String, expected: String) throws {
        #expect(try ServerAddress(text).description == expected)
    }

    @Test(
        "what is no address of a host is refused",
        arguments: [
            "", "host", "host:8081", "ftp://host", "http://", "http://host/api", "http://host?x=1", "http://u:p@host",
        ]
    )
    func noAddress(text: String) {
        #expect(throws: CommandFailure.self) { try ServerAddress(text) }
    }

    @Test("a bar shows how far a transfer is and how fast")
    func bar() {
        let bar = ProgressBar("uploading", total: 4 << 20, isTerminal: false)
        #expect(bar.line(0, after: .zero) == "uploading  [..............................] 0 %  0.0 MiB/s")
        #expect(bar.line(2 << 20, after: .seconds(1)) == "uploading  [###############...............] 50 %  2.0 MiB/s")
        #expect(bar.line(4 << 20, after: .seconds(8)) == "uploading  [##############################] 100 %  0.5 MiB/s")
    }

    @Test("columns are as wide as their widest text, and lines have no spaces at their end")
    func table() {
        var table = Table(["A", "B", "C"])
        table.add(["one", "2", ""])
        table.add(["x", "three", "4"])
        #expect(table.text == "A    B      C\none  2\nx    three  4")
    }

    @Test("times are told in UTC")
    func dates() {
        #expect(JSON.integer(1_700_000_000_000).dateText == "2023-11-14T22:13:20Z")
        #expect(JSON.null.dateText == "-")
    }

    @Test("identifiers are told from names")
    func identifiers() {
        #expect("13814000-1dd2-11b2-8080-808080808080".isIdentifier)
        #expect(!"13814000-1dd2-11b2-8080-80808080808".isIdentifier)
        #expect(!"13814000-1dd2-11b2-8080-80808080808g".isIdentifier)
        #expect(!"pump 1".isIdentifier)
    }
}
