import Testing

@testable import HTTPKit

@Suite struct AuthorityTests {
    @Test(
        "a host is a name or an address, with or without a port",
        arguments: [
            ("", true), ("h", true), ("a-b_c.example", true), ("h:80", true), ("h:", true), ("127.0.0.1:1", true),
            ("[::1]", true), ("[::1]:80", true), ("[fe80::1%25eth0]", true), ("a%20b", true), (":80", true),
            ("h:x", false), ("h:1:2", false), ("[::1", false), ("[]", false), ("[::1]x", false), ("a b", false),
            ("a/b", false), ("u@h", false), ("a?b", false), ("a#b", false), ("a\\b", false), ("ü", false),
            ("a\0", false),
        ]
    )
    func hosts(text: String, isValid: Bool) {
        #expect(Authority.isValid(text.utf8) == isValid)
    }

    @Test(
        "a target in absolute form is for the host of the request",
        arguments: [
            ("/x", "h", true), ("*", "h", true), ("http://h/x", "h", true), ("http://h", "h", true),
            ("http://h?x", "h", true), ("HTTP://H:80/x", "h", true), ("https://h/x", "h:443", true),
            ("http://h/x", nil, true), ("http://[::1]:8080/x", "[::1]:8080", true), ("http://h/x", "g", false),
            ("http://h:81/x", "h", false), ("https://h/x", "h:80", false), ("http:///x", "h", false),
            ("http://u@h/x", "h", false), ("http://h/x", "", false), ("http://h#g/x", "g", false),
        ] as [(String, String?, Bool)]
    )
    func targets(target: String, host: String?, fits: Bool) {
        #expect(Authority.fits(target: target, host: host) == fits)
    }
}
