import NIOHTTP1

/// What the head of a request says that matters here, read in one pass over its fields.
struct RequestHead: Sendable {
    /// What is asked, or why it is refused.
    var route: Result<Route, Rejection>
    /// Whether the answer goes without its body.
    var isHead: Bool
    /// Whether another request may follow on the connection.
    var isKeepAlive: Bool
    /// Whether the version is 1.0, whose clients must be told that the connection stays.
    var isOldVersion: Bool
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    var expectsContinue = false
    /// The length of the body, if it is told beforehand.
    var contentLength: Int64?
    /// Whether the body comes in chunks.
    var isChunked = false
    /// `Range`, for a `GET` only (RFC 9110 §14.2); empty if there are several.
    var range: String?
    /// The field `If-Range`; empty if there are several.
    var ifRange: String?
    /// The field `If-Match`; several are one list.
    var ifMatch: String?
    /// The field `If-None-Match`; several are one list.
    var ifNoneMatch: String?

    /// Whether a body follows.
    var hasBody: Bool { self.isChunked || (self.contentLength ?? 0) > 0 }

    /// Reads the head that the decoder made.
    init(_ head: HTTPRequestHead) {
        self.isHead = head.method == .HEAD
        self.isOldVersion = head.version.minor == 0
        self.isKeepAlive = head.isKeepAlive
        do {
            self.route = .success(try Route(method: head.method, target: head.uri))
        } catch {
            self.route = .failure(error)
        }
        var host: String?
        var hosts = 0
        for (name, value) in head.headers {
            switch name.utf8.count {
            case 4 where Self.equal(name, "host"):
                host = Self.trimmed(value)
                hosts += 1
            case 5 where Self.equal(name, "range"):
                if head.method == .GET { self.range = self.range == nil ? Self.trimmed(value) : "" }
            case 6 where Self.equal(name, "expect"):
                if Self.equal(Self.trimmed(value), "100-continue") {
                    self.expectsContinue = !self.isOldVersion
                } else {
                    self.route = .failure(.expectationFailed)
                }
            case 7 where Self.equal(name, "upgrade"):
                // The decoder reads nothing after a request that wants to change the protocol, which nobody does here.
                self.isKeepAlive = false
            case 8 where Self.equal(name, "if-range"): self.ifRange = self.ifRange == nil ? Self.trimmed(value) : ""
            case 8 where Self.equal(name, "if-match"): self.ifMatch = Self.list(self.ifMatch, value)
            case 13 where Self.equal(name, "if-none-match"): self.ifNoneMatch = Self.list(self.ifNoneMatch, value)
            case 14 where Self.equal(name, "content-length"): self.contentLength = Int64(Self.trimmed(value))
            case 16 where Self.equal(name, "content-encoding"):
                if !Self.equal(Self.trimmed(value), "identity") { self.refuse(.encodingNotSupported) }
            case 17 where Self.equal(name, "transfer-encoding"):
                // RFC 9112 §6.1: nothing is chunked twice.
                if self.isChunked { self.refuse(.badRequest("more than one Transfer-Encoding")) }
                self.isChunked = true
                if !Self.equal(Self.trimmed(value), "chunked") { self.refuse(.codingNotSupported) }
            default: break
            }
        }
        if head.method == .CONNECT { self.isKeepAlive = false }
        // RFC 9112 §3.2: HTTP/1.1 without a Host field, or any version with several or an invalid one, is refused.
        if hosts > 1 || (hosts == 0 && !self.isOldVersion) {
            self.refuse(.badRequest("exactly one Host field is needed"))
        } else if let host, !Authority.isValid(host.utf8) {
            self.refuse(.badRequest("the Host field is not a host with or without a port"))
        } else if !Authority.fits(target: head.uri, host: host) {
            self.refuse(.badRequest("the request target names no host, or another one than the Host field"))
        }
        // RFC 9112 §6.1: HTTP/1.0 knows no transfer codings, so the framing cannot be trusted.
        if self.isChunked && self.isOldVersion { self.refuse(.badRequest("HTTP/1.0 has no Transfer-Encoding")) }
    }

    private mutating func refuse(_ rejection: Rejection) {
        self.route = .failure(rejection)
        self.isKeepAlive = false
    }

    /// A list and what another field of the same name adds to it (RFC 9110 §5.3).
    private static func list(_ list: String?, _ value: String) -> String { list.map { $0 + "," + value } ?? value }

    /// A value without the white space around it, which is none of it (RFC 9110 §5.5).
    private static func trimmed(_ value: String) -> String {
        guard let first = value.utf8.first, let last = value.utf8.last, isSpace(first) || isSpace(last) else {
            return value
        }
        func isSpace(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        let rest = value.utf8.drop(while: isSpace)
        guard let end = rest.lastIndex(where: { !isSpace($0) }) else { return "" }
        return String(Substring(rest[...end]))
    }

    /// Whether two texts are equal but for the case of ASCII letters; `lowercase` is in lower case.
    private static func equal(_ text: String, _ lowercase: StaticString) -> Bool {
        guard text.utf8.count == lowercase.utf8CodeUnitCount else { return false }
        let other = UnsafeBufferPointer(start: lowercase.utf8Start, count: lowercase.utf8CodeUnitCount)
        return text.utf8.elementsEqual(other) { byte, lower in
            byte == lower || ((UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) && byte | 0x20 == lower)
        }
    }
}
