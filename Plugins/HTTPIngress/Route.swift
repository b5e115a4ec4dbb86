import OTA

/// Numbers and lengths that a request may have at most.
enum RequestBounds {
    /// The longest access token, in bytes.
    static let tokenLength = 255
    /// The greatest chunk index and chunk size: 32 bits, as in ThingsBoard.
    ///
    /// Their product fits 64 bits.
    static let chunkNumber = Int64(Int32.max)
    /// The greatest identifier of a remote call.
    static let callIdentifier = Int64(Int32.max)
    /// How long a long poll waits that does not say so, in milliseconds.
    static let longPollDefault: Int64 = 60_000
    /// How long a long poll waits at most, in milliseconds.
    static let longPollMax: Int64 = 300_000
}

/// The method and target of a request, understood: who asks and what for.
struct Route: Hashable, Sendable {
    /// The device's access token, 1…255 bytes; `nil` for a request that no device makes yet.
    ///
    /// Never logged.
    var token: String?
    /// What it asks for.
    var call: DeviceCall

    /// Stands in a path for the token of whoever the client's certificate says, as `me` does in MQTT topics.
    static let tokenOfCertificate = "me"

    /// The longest link to a package, in bytes; longer ones are none.
    static let linkLengthMax = 255

    /// Reads `/api/v1/{token}/…`, `/api/v1/provision` and `/api/download/{link}` in one pass over its bytes.
    ///
    /// - Parameters:
    ///   - method: The method; `HEAD` counts as `GET` where that is safe to repeat.
    ///   - target: The request target in origin or absolute form (RFC 9112 §3.2).
    /// - Throws: ``Rejection``.
    init(method: RequestMethod, target: HeadBytes) throws(Rejection) {
        let target = try Self.originForm(target)
        let pathEnd = target.firstIndex { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") } ?? target.count
        var path = PathSegments(rest: target.part(0..<pathEnd))
        guard path.next()?.isEmpty == true, path.next()?.equals("api") == true, let area = path.next(),
            let tokenBytes = path.next()
        else { throw .notFound }
        if area.equals("download") {
            // Whatever name follows is for clients that call the file after the end of its URL.
            _ = path.next()
            guard path.next() == nil, tokenBytes.count <= Self.linkLengthMax else { throw .notFound }
            guard method == .get || method == .head else { throw .methodNotAllowed(allow: "GET, HEAD") }
            self.call = .follow(link: try Self.pathSegment(tokenBytes))
            return
        }
        guard area.equals("v1") else { throw .notFound }
        guard let resource = path.next() else {
            guard tokenBytes.equals("provision") else { throw .notFound }
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            self.call = .provision
            return
        }
        let detail = path.next()
        guard path.next() == nil else { throw .notFound }
        var query = Query(rest: target.part(min(pathEnd + 1, target.count)..<target.count))

        self.call = try Self.call(method, resource: resource, detail: detail, query: &query)
        guard !tokenBytes.isEmpty else { throw .notFound }
        let token = try Self.pathSegment(tokenBytes)
        guard token.utf8.count <= RequestBounds.tokenLength else { throw .unauthorized }
        self.token = token
    }

    private static func call(
        _ method: RequestMethod,
        resource: HeadBytes,
        detail: HeadBytes?,
        query: inout Query
    ) throws(Rejection) -> DeviceCall {
        let isRead = method == .get || method == .head
        if resource.equals("firmware"), detail == nil {
            guard isRead else { throw .methodNotAllowed(allow: "GET, HEAD") }
            return try query.download(.firmware)
        }
        if resource.equals("software"), detail == nil {
            guard isRead else { throw .methodNotAllowed(allow: "GET, HEAD") }
            return try query.download(.software)
        }
        if resource.equals("telemetry"), detail == nil {
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            return .writeTelemetry
        }
        if resource.equals("attributes") {
            if detail == nil {
                if isRead { return try query.attributes() }
                guard method == .post else { throw .methodNotAllowed(allow: "GET, HEAD, POST") }
                return .writeAttributes
            }
            guard detail?.equals("updates") == true else { throw .notFound }
            guard method == .get else { throw .methodNotAllowed(allow: "GET") }
            return .awaitAttributes(milliseconds: try query.timeout())
        }
        if resource.equals("rpc") {
            guard let detail else {
                if method == .get { return .awaitCall(milliseconds: try query.timeout()) }
                guard method == .post else { throw .methodNotAllowed(allow: "GET, POST") }
                return .callServer
            }
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            guard let id = Self.number(detail, max: RequestBounds.callIdentifier) else {
                throw .badRequest("the identifier of a call must be an integer of 0…\(RequestBounds.callIdentifier)")
            }
            return .answerCall(id: id)
        }
        if resource.equals("claim"), detail == nil {
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            return .claim
        }
        throw .notFound
    }

    /// The path and query of a target; of `http://host/path` what follows the host (RFC 9112 §3.2.2).
    private static func originForm(_ target: HeadBytes) throws(Rejection) -> HeadBytes {
        if target.first == UInt8(ascii: "/") { return target }
        for scheme in ["http://", "https://"] as [StaticString] where target.count > scheme.utf8CodeUnitCount {
            let start = scheme.utf8CodeUnitCount
            guard target.part(0..<start).equalsIgnoringCase(scheme) else { continue }
            guard let slash = target.first(UInt8(ascii: "/"), from: start) else { throw .notFound }
            return target.part(slash..<target.count)
        }
        throw .notFound
    }

    /// A segment of the path without its escapes.
    ///
    /// What could be taken for another path by whoever reads it next is refused: dot segments, slashes and control
    /// characters that hide in escapes.
    private static func pathSegment(_ bytes: HeadBytes) throws(Rejection) -> String {
        let text = try PercentCoding.decode(bytes, plusIsSpace: false, of: "path")
        guard text != ".", text != ".." else { throw .badRequest("the path has a dot segment") }
        for byte in text.utf8
        where byte < 0x20 || byte == 0x7F || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "\\") {
            throw .badRequest("the path has an escaped slash, backslash or control character")
        }
        return text
    }

    /// A number of digits only, at most `max`; `nil` for anything else.
    fileprivate static func number(_ bytes: some Collection<UInt8>, max: Int64) -> Int64? {
        guard !bytes.isEmpty else { return nil }
        var value: Int64 = 0
        for byte in bytes {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            value = value * 10 + Int64(byte - UInt8(ascii: "0"))
            // Checked at every digit, so the product above cannot overflow.
            guard value <= max else { return nil }
        }
        return value
    }

    /// The parts of a path between slashes, including empty ones.
    private struct PathSegments {
        var rest: HeadBytes?

        mutating func next() -> HeadBytes? {
            guard let rest = self.rest else { return nil }
            guard let slash = rest.first(UInt8(ascii: "/")) else {
                self.rest = nil
                return rest
            }
            self.rest = rest.part(slash + 1..<rest.count)
            return rest.part(0..<slash)
        }
    }

    /// The parameters of a query, in order.
    private struct Query {
        var rest: HeadBytes

        mutating func next() -> (name: HeadBytes, value: HeadBytes)? {
            while !self.rest.isEmpty {
                let end = self.rest.firstIndex { $0 == UInt8(ascii: "&") || $0 == UInt8(ascii: "#") } ?? self.rest.count
                let pair = self.rest.part(0..<end)
                let goesOn = end < self.rest.count && self.rest[end] == UInt8(ascii: "&")
                self.rest = self.rest.part((goesOn ? end + 1 : self.rest.count)..<self.rest.count)
                guard !pair.isEmpty else { continue }
                guard let sign = pair.first(UInt8(ascii: "=")) else {
                    return (pair, pair.part(pair.count..<pair.count))
                }
                return (pair.part(0..<sign), pair.part(sign + 1..<pair.count))
            }
            return nil
        }

        /// Takes a value that may be given once.
        private func single(_ value: HeadBytes, _ name: String, into text: inout String?) throws(Rejection) {
            guard text == nil else { throw .badRequest("Parameter '\(name)' is given twice!") }
            text = try PercentCoding.decode(value, plusIsSpace: true, of: name)
        }

        /// Takes names that may be given in one list or one by one; the result is joined by commas.
        private func list(_ value: HeadBytes, _ name: String, into text: inout String?) throws(Rejection) {
            let names = try PercentCoding.decode(value, plusIsSpace: true, of: name)
            guard !names.isEmpty else { return }
            text = text.map { $0 + "," + names } ?? names
        }

        private func number(_ text: String?, _ name: String) throws(Rejection) -> Int64 {
            guard let text, !text.isEmpty else { return 0 }
            guard let value = Route.number(text.utf8, max: RequestBounds.chunkNumber) else {
                throw .badRequest("Parameter '\(name)' must be an integer of 0…\(RequestBounds.chunkNumber)!")
            }
            return value
        }

        mutating func attributes() throws(Rejection) -> DeviceCall {
            var clientKeys: String?
            var sharedKeys: String?
            while let (name, value) = self.next() {
                if name.equals("clientKeys") { try self.list(value, "clientKeys", into: &clientKeys) }
                if name.equals("sharedKeys") { try self.list(value, "sharedKeys", into: &sharedKeys) }
            }
            return .readAttributes(clientKeys: clientKeys, sharedKeys: sharedKeys)
        }

        mutating func timeout() throws(Rejection) -> Int64 {
            var text: String?
            while let (name, value) = self.next() {
                if name.equals("timeout") { try self.single(value, "timeout", into: &text) }
            }
            let milliseconds = try self.number(text, "timeout")
            return milliseconds == 0
                ? RequestBounds.longPollDefault : min(milliseconds, RequestBounds.longPollMax)
        }

        mutating func download(_ type: OtaPackageType) throws(Rejection) -> DeviceCall {
            var title: String?
            var version: String?
            var chunk: String?
            var size: String?
            while let (name, value) = self.next() {
                if name.equals("title") {
                    try self.single(value, "title", into: &title)
                } else if name.equals("version") {
                    try self.single(value, "version", into: &version)
                } else if name.equals("chunk") {
                    try self.single(value, "chunk", into: &chunk)
                } else if name.equals("size") {
                    try self.single(value, "size", into: &size)
                }
            }
            guard let title, !title.isEmpty else { throw .badRequest("Parameter 'title' can't be empty!") }
            guard let version, !version.isEmpty else { throw .badRequest("Parameter 'version' can't be empty!") }
            return .download(
                DeviceCall.Download(
                    type: type,
                    title: title,
                    version: version,
                    chunk: try self.number(chunk, "chunk"),
                    size: try self.number(size, "size")
                )
            )
        }
    }
}
