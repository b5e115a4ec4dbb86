/// The first line of a request (RFC 9112 §3).
struct RequestLine {
    /// The method.
    let method: RequestMethod
    /// The request target, of visible ASCII.
    let target: HeadBytes
    /// Whether the version is 1.0 and not 1.1.
    let isOldVersion: Bool

    /// Reads the line.
    ///
    /// - Parameters:
    ///   - line: The line without its end.
    ///   - endsWithCRLF: Whether that was as it should be.
    /// - Throws: ``Rejection``.
    init(_ line: HeadBytes, endsWithCRLF: Bool) throws(Rejection) {
        let space = UInt8(ascii: " ")
        guard let methodEnd = line.first(space), let method = RequestMethod(line.part(0..<methodEnd)),
            line.first(UInt8(ascii: "\r")) == nil
        else { throw .malformed }
        var start = methodEnd
        while start < line.count, line[start] == space { start += 1 }
        let end = line.first(space, from: start) ?? line.count
        let target = line.part(start..<end)
        guard target.isVisible, Self.isTarget(target, method) else { throw .malformed }
        var versionStart = end
        while versionStart < line.count, line[versionStart] == space { versionStart += 1 }
        let version = line.part(versionStart..<line.count)
        // Without a version it is HTTP/0.9, and what is no HTTP is another protocol.
        guard version.isEmpty || version.count >= 5 && version.part(0..<5).equals("HTTP/") else { throw .malformed }
        guard endsWithCRLF, version.equals("HTTP/1.1") || version.equals("HTTP/1.0") else { throw .versionNotSupported }
        self.method = method
        self.target = target
        self.isOldVersion = version[7] == UInt8(ascii: "0")
    }

    /// Whether a target has one of the forms of RFC 9112 §3.2.
    private static func isTarget(_ target: HeadBytes, _ method: RequestMethod) -> Bool {
        guard let first = target.first else { return false }
        if method == .connect { return Authority.isValid(target) }
        if first == UInt8(ascii: "/") || first == UInt8(ascii: "*") { return true }
        let schemeEnd = target.firstIndex { !$0.isLetter } ?? target.count
        return schemeEnd > 0 && target.count >= schemeEnd + 3 && target.part(schemeEnd..<schemeEnd + 3).equals("://")
    }
}

/// Reads the head of a request, field by field, straight from the bytes that came in.
///
/// What it refuses outright is no HTTP, or leaves open where the request ends; whatever else read it may have seen another
/// end. What only means that the request is not served stands in ``RequestHead/refusal``.
struct HeadReader {
    private let head: RequestHead
    private let keepsFields: Bool
    private var hostsCount = 0
    private var isHostValid = true
    /// The target, if it names a host, and the host of the `Host` field; both are compared at the end.
    private var absolute: (target: String, host: String?)?
    private var hasTransferEncoding = false
    private var closes = false
    private var keepsAlive = false
    private var changesProtocol = false

    /// Begins with the first line.
    ///
    /// - Parameters:
    ///   - line: The line.
    ///   - routes: Where a route is looked for; `nil` to keep the target and all fields in place of that.
    init(_ line: RequestLine, _ routes: RouteTable?) {
        let head = RequestHead(method: line.method, isOldVersion: line.isOldVersion)
        if let routes {
            routes.find(line.target, for: head)
            self.keepsFields = head.route?.keepsFields == true
        } else {
            head.target = String(decoding: line.target, as: UTF8.self)
            self.keepsFields = true
        }
        self.head = head
        if line.target.first != UInt8(ascii: "/") {
            self.absolute = (String(decoding: line.target, as: UTF8.self), nil)
        }
    }

    /// Takes in a field.
    ///
    /// - Parameters:
    ///   - name: Its name, which is well-formed.
    ///   - value: Its value, which is well-formed, without white space around it.
    /// - Throws: ``Rejection`` if it cannot be told where the request ends.
    mutating func add(_ name: HeadBytes, _ value: HeadBytes) throws(Rejection) {
        if self.keepsFields { self.head.fields.append(HeaderField(name: Self.text(name), value: Self.text(value))) }
        switch name.count {
        case 4 where name.equalsIgnoringCase("host"):
            self.hostsCount += 1
            self.isHostValid = self.isHostValid && Authority.isValid(value)
            self.absolute?.host = Self.text(value)
        case 5 where name.equalsIgnoringCase("range"):
            if self.head.method == .get { self.setConditions { $0.range = $0.range == nil ? Self.text(value) : "" } }
        case 6 where name.equalsIgnoringCase("expect"):
            if value.equalsIgnoringCase("100-continue") {
                self.head.expectsContinue = !self.head.isOldVersion
            } else {
                self.head.refuse(.expectationFailed)
            }
        case 7 where name.equalsIgnoringCase("upgrade"):
            self.changesProtocol = true
        case 8 where name.equalsIgnoringCase("if-range"):
            self.setConditions { $0.ifRange = $0.ifRange == nil ? Self.text(value) : "" }
        case 8 where name.equalsIgnoringCase("if-match"):
            self.setConditions { $0.ifMatch = Self.list($0.ifMatch, value) }
        case 10 where name.equalsIgnoringCase("connection"):
            for option in value.elements {
                if option.equalsIgnoringCase("close") { self.closes = true }
                if option.equalsIgnoringCase("keep-alive") { self.keepsAlive = true }
            }
        case 13 where name.equalsIgnoringCase("if-none-match"):
            self.setConditions { $0.ifNoneMatch = Self.list($0.ifNoneMatch, value) }
        case 14 where name.equalsIgnoringCase("content-length"):
            // RFC 9112 §6.3: several lengths are refused, also if they are the same.
            guard self.head.contentLength == nil, let length = value.number else { throw .malformed }
            self.head.contentLength = length
        case 16 where name.equalsIgnoringCase("content-encoding"):
            if !value.equalsIgnoringCase("identity") { self.refuse(.encodingNotSupported) }
        case 17 where name.equalsIgnoringCase("transfer-encoding"):
            try self.addTransferEncoding(value)
        default: break
        }
    }

    private mutating func addTransferEncoding(_ value: HeadBytes) throws(Rejection) {
        // RFC 9112 §6.1: nothing is chunked twice.
        guard !self.hasTransferEncoding else { throw .malformed }
        self.hasTransferEncoding = true
        self.head.isChunked = true
        if value.equalsIgnoringCase("chunked") { return }
        // RFC 9112 §6.3: where the last coding is another, nobody knows where the body ends.
        let codings = Array(value.elements)
        guard codings.last?.equalsIgnoringCase("chunked") == true,
            !codings.dropLast().contains(where: { $0.equalsIgnoringCase("chunked") })
        else { throw .malformed }
        self.refuse(.codingNotSupported)
    }

    /// Ends with the empty line after the fields.
    consuming func finish() throws(Rejection) -> RequestHead {
        // RFC 9112 §6.1: two ways to say where the body ends are how requests are smuggled.
        if self.hasTransferEncoding, self.head.contentLength != nil { throw .malformed }
        // RFC 9112 §9.3: 1.1 goes on unless told otherwise, 1.0 only if told so.
        if self.closes || self.head.isOldVersion && !self.keepsAlive { self.head.isKeepAlive = false }
        // Nobody changes the protocol here, but the client may go on as if somebody did.
        if self.changesProtocol { self.head.isKeepAlive = false }
        if self.head.method == .connect {
            // RFC 9110 §9.3.6: what follows is for a tunnel.
            self.head.isKeepAlive = false
            self.head.contentLength = nil
            self.head.isChunked = false
        }
        // RFC 9112 §3.2: HTTP/1.1 without a Host field, or any version with several or an invalid one, is refused.
        if self.hostsCount > 1 || (self.hostsCount == 0 && !self.head.isOldVersion) {
            self.refuse(.badRequest("exactly one Host field is needed"))
        } else if !self.isHostValid {
            self.refuse(.badRequest("the Host field is not a host with or without a port"))
        } else if let (target, host) = self.absolute, !Authority.fits(target: target, host: host) {
            self.refuse(.badRequest("the request target names no host, or another one than the Host field"))
        }
        // RFC 9112 §6.1: HTTP/1.0 knows no transfer codings, so the framing cannot be trusted.
        if self.head.isChunked && self.head.isOldVersion {
            self.refuse(.badRequest("HTTP/1.0 has no Transfer-Encoding"))
        }
        return self.head
    }

    private func refuse(_ rejection: Rejection) {
        self.head.refuse(rejection)
        self.head.isKeepAlive = false
    }

    private func setConditions(_ change: (inout ConditionFields) -> Void) {
        var conditions = self.head.conditions ?? ConditionFields()
        change(&conditions)
        self.head.conditions = conditions
    }

    private static func text(_ value: HeadBytes) -> String { String(decoding: value, as: UTF8.self) }

    /// A list and what another field of the same name adds to it (RFC 9110 §5.3).
    private static func list(_ list: String?, _ value: HeadBytes) -> String {
        list.map { $0 + "," + Self.text(value) } ?? Self.text(value)
    }
}
