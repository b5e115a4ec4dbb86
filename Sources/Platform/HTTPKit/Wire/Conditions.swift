/// What a client makes its request depend on: the bytes that it has (RFC 9110 §13).
///
/// No `Last-Modified` is sent, so the conditions that compare dates do not count (RFC 9110 §13.1.3, §13.1.4).
enum Conditions {
    /// Whether the bytes are those that the client wants: `If-Match` (RFC 9110 §13.1.1), compared strongly.
    static func holds(ifMatch field: String?, entityTag: String?) -> Bool {
        guard let field else { return true }
        return Self.isAny(field) || Self.contains(field, entityTag, weakly: false)
    }

    /// Whether the client has these bytes already: `If-None-Match` (RFC 9110 §13.1.2), compared weakly.
    static func isUnchanged(ifNoneMatch field: String?, entityTag: String?) -> Bool {
        guard let field, entityTag != nil else { return false }
        return Self.isAny(field) || Self.contains(field, entityTag, weakly: true)
    }

    /// Whether a range may be sent: `If-Range` (RFC 9110 §13.1.5), compared strongly.
    ///
    /// A date never fits, as none is sent.
    static func holds(ifRange field: String?, entityTag: String?) -> Bool { field == nil || field == entityTag }

    private static func isAny(_ field: String) -> Bool {
        field.utf8.filter { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t") }.elementsEqual("*".utf8)
    }

    /// Whether a list of entity tags has one.
    ///
    /// - Parameters:
    ///   - list: Tags in quotes, some with `W/` before them; what is malformed fits nothing.
    ///   - tag: A strong tag, in quotes and without a comma inside.
    ///   - weakly: Whether the client's tags may be weak.
    /// - Returns: Whether one of the list's is the same.
    private static func contains(_ list: String, _ tag: String?, weakly: Bool) -> Bool {
        guard let tag else { return false }
        return list.split(separator: ",").contains { candidate in
            var candidate = candidate.drop { $0 == " " || $0 == "\t" }
            if weakly, candidate.hasPrefix("W/") { candidate = candidate.dropFirst(2) }
            while candidate.last == " " || candidate.last == "\t" { candidate.removeLast() }
            return candidate == tag
        }
    }
}
