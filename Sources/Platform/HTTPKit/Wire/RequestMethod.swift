/// The method of a request, as far as it matters here (RFC 9110 §9).
enum RequestMethod: Hashable, Sendable {
    case get
    case head
    case post
    case connect
    /// One that HTTP knows, and no path here.
    case other

    /// Reads a method; `nil` for one that nobody has registered, which is more likely no HTTP at all.
    init?(_ bytes: HeadBytes) {
        if bytes.equals("GET") {
            self = .get
        } else if bytes.equals("POST") {
            self = .post
        } else if bytes.equals("HEAD") {
            self = .head
        } else if bytes.equals("CONNECT") {
            self = .connect
        } else if Self.others.contains(where: bytes.equals) {
            self = .other
        } else {
            return nil
        }
    }

    /// Whether bytes may be the beginning of a method.
    static func mayBegin(_ bytes: HeadBytes) -> Bool {
        bytes.count <= Self.lengthMax
            && bytes.allSatisfy { byte in
                (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) || byte == UInt8(ascii: "-")
            }
    }

    /// How many bytes the longest has.
    private static let lengthMax = 11

    /// Those of the IANA's registry that clients, crawlers and tools do send; a request with one has a path that can be looked
    /// for.
    private static let others: [StaticString] = [
        "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH",
        "SEARCH",
        "UNLOCK", "BIND", "REBIND", "UNBIND", "ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "M-SEARCH", "NOTIFY",
        "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "MKCALENDAR", "LINK", "UNLINK",
    ]
}
