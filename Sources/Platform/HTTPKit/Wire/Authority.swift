/// The host and port that a request is for: `Host`, and the part of a target in absolute form between scheme and path
/// (RFC 3986 §3.2).
///
/// There is one site here, whatever it is called. But a proxy may have chosen by one of the two and passes on the other, so
/// one that is malformed, or that names another host than the other, is refused.
enum Authority {
    /// Whether a text is a host with or without a port, or empty (RFC 9112 §3.2).
    ///
    /// No names of users: these are only there to mislead (RFC 9110 §4.2.4).
    static func isValid(_ text: some BidirectionalCollection<UInt8>) -> Bool {
        var rest = text[...]
        if rest.first == UInt8(ascii: "[") {
            guard let end = rest.firstIndex(of: UInt8(ascii: "]")) else { return false }
            let address = rest[rest.index(after: rest.startIndex)..<end]
            guard !address.isEmpty, address.allSatisfy(Self.isAddressCharacter) else { return false }
            rest = rest[rest.index(after: end)...]
        } else {
            rest = rest.drop(while: Self.isNameCharacter)
        }
        guard let colon = rest.first else { return true }
        return colon == UInt8(ascii: ":") && rest.dropFirst().allSatisfy { Self.digits.contains($0) }
    }

    /// Whether the authority of a target in absolute form is well-formed and the same as the `Host` field, if there is one.
    ///
    /// - Parameters:
    ///   - target: The request target; one in another form has no authority and fits any host.
    ///   - host: The field's value.
    /// - Returns: `false` if the request is to be refused.
    static func fits(target: String, host: String?) -> Bool {
        let target = target.utf8
        guard target.first != UInt8(ascii: "/") else { return true }
        for (scheme, port) in [("http://", ":80"), ("https://", ":443")] where Self.begins(target, with: scheme) {
            let authority = target.dropFirst(scheme.utf8.count)
                .prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
            guard !authority.isEmpty, Self.isValid(authority) else { return false }
            guard let host else { return true }
            return Self.normal(String(Substring(authority)), port) == Self.normal(host, port)
        }
        return true
    }

    /// Without the scheme's own port, in lower case.
    private static func normal(_ authority: String, _ port: String) -> String {
        let authority = authority.lowercased()
        return authority.hasSuffix(port) ? String(authority.dropLast(port.count)) : authority
    }

    private static func begins(_ text: String.UTF8View, with scheme: String) -> Bool {
        // RFC 3986 §3.1: a scheme is compared without case.
        text.count >= scheme.utf8.count && zip(text, scheme.utf8).allSatisfy { $0 | 0x20 == $1 }
    }

    private static var digits: ClosedRange<UInt8> { UInt8(ascii: "0")...UInt8(ascii: "9") }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        self.digits.contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
    }

    /// What a registered name consists of (RFC 3986 §3.2.2): unreserved, sub-delims, and escapes.
    private static func isNameCharacter(_ byte: UInt8) -> Bool {
        if self.isLetterOrDigit(byte) { return true }
        switch byte {
        case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"), UInt8(ascii: "%"),
            UInt8(ascii: "!"), UInt8(ascii: "$"), UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "("),
            UInt8(ascii: ")"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: ","), UInt8(ascii: ";"),
            UInt8(ascii: "="):
            return true
        default: return false
        }
    }

    /// What stands between brackets: an IPv6 address, with a zone as RFC 6874 writes it, or one of a kind yet to come.
    private static func isAddressCharacter(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: ":") || self.isNameCharacter(byte)
    }
}
