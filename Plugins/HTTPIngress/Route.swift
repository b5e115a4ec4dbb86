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
        self = try Route(method: method, bytes: target[...])
    }

    private typealias Bytes = Slice<UnsafeBufferPointer<UInt8>>

    private init(method: RequestMethod, bytes: Bytes) throws(Rejection) {
        let target = try Self.originForm(bytes)
        let pathEnd = target.firstIndex { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") } ?? target.endIndex
        var path = PathSegments(rest: target[..<pathEnd])
        guard path.next()?.isEmpty == true, Self.equal(path.next(), "api"), let area = path.next(),
            let tokenBytes = path.next()
        else { throw .notFound }
        if Self.equal(area, "download") {
            // Whatever name follows is for clients that call the file after the end of its URL.
            _ = path.next()
            guard path.next() == nil, tokenBytes.count <= Self.linkLengthMax else { throw .notFound }
            guard method == .get || method == .head else { throw .methodNotAllowed(allow: "GET, HEAD") }
            self.call = .follow(link: try Self.pathSegment(tokenBytes))
            return
        }
        guard Self.equal(area, "v1") else { throw .notFound }
        guard let resource = path.next() else {
            guard Self.equal(tokenBytes, "provision") else { throw .notFound }
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            self.call = .provision
            return
        }
        let detail = path.next()
        guard path.next() == nil else { throw .notFound }
        var query = Query(rest: target[pathEnd...].dropFirst())

        self.call = try Self.call(method, resource: resource, detail: detail, query: &query)
        guard !tokenBytes.isEmpty else { throw .notFound }
        let token = try Self.pathSegment(tokenBytes)
        guard token.utf8.count <= RequestBounds.tokenLength else { throw .unauthorized }
        self.token = token
    }

    private static func call(
        _ method: RequestMethod,
        resource: Bytes,
        detail: Bytes?,
        query: inout Query
    ) throws(Rejection) -> DeviceCall {
        let isRead = method == .get || method == .head
        if Self.equal(resource, "firmware"), detail == nil {
            guard isRead else { throw .methodNotAllowed(allow: "GET, HEAD") }
            return try query.download(.firmware)
        }
        if Self.equal(resource, "software"), detail == nil {
            guard isRead else { throw .methodNotAllowed(allow: "GET, HEAD") }
            return try query.download(.software)
        }
        if Self.equal(resource, "telemetry"), detail == nil {
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            return .writeTelemetry
        }
        if Self.equal(resource, "attributes") {
            if detail == nil {
                if isRead { return try query.attributes() }
                guard method == .post else { throw .methodNotAllowed(allow: "GET, HEAD, POST") }
                return .writeAttributes
            }
            guard Self.equal(detail, "updates") else { throw .notFound }
            guard method == .get else { throw .methodNotAllowed(allow: "GET") }
            return .awaitAttributes(milliseconds: try query.timeout())
        }
        if Self.equal(resource, "rpc") {
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
        if Self.equal(resource, "claim"), detail == nil {
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            return .claim
        }
        throw .notFound
    }

    /// The path and query of a target; of `http://host/path` what follows the host (RFC 9112 §3.2.2).
    private static func originForm(_ bytes: Bytes) throws(Rejection) -> Bytes {
        if bytes.first == UInt8(ascii: "/") { return bytes }
        for scheme in ["http://", "https://"] where bytes.count > scheme.utf8.count {
            let start = bytes.index(bytes.startIndex, offsetBy: scheme.utf8.count)
            guard bytes[..<start].elementsEqual(scheme.utf8, by: { $0 | 0x20 == $1 | 0x20 }) else { continue }
            guard let slash = bytes[start...].firstIndex(of: UInt8(ascii: "/")) else { throw .notFound }
            return bytes[slash...]
        }
        throw .notFound
    }

    private static func equal(_ bytes: Bytes?, _ text: StaticString) -> Bool {
        guard let bytes, bytes.count == text.utf8CodeUnitCount else { return false }
        return bytes.elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// A segment of the path without its escapes.
    ///
    /// What could be taken for another path by whoever reads it next is refused: dot segments, slashes and control
    /// characters that hide in escapes.
    private static func pathSegment(_ bytes: Bytes) throws(Rejection) -> String {
        let text = try PercentCoding.decode(bytes, plusIsSpace: false)
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
        var rest: Bytes?

        mutating func next() -> Bytes? {
            guard let rest = self.rest else { return nil }
            guard let slash = rest.firstIndex(of: UInt8(ascii: "/")) else {
                self.rest = nil
                return rest
            }
            self.rest = rest[rest.index(after: slash)...]
            return rest[..<slash]
        }
    }

    /// The parameters of a query, in order.
    private struct Query {
        var rest: Bytes

        mutating func next() -> (name: Bytes, value: Bytes)? {
            while !self.rest.isEmpty {
                let end = self.rest.firstIndex { $0 == UInt8(ascii: "&") || $0 == UInt8(ascii: "#") }
                let pair = self.rest[..<(end ?? self.rest.endIndex)]
                if let end, self.rest[end] == UInt8(ascii: "&") {
                    self.rest = self.rest[self.rest.index(after: end)...]
                } else {
                    self.rest = self.rest[self.rest.endIndex...]
                }
                guard !pair.isEmpty else { continue }
                guard let sign = pair.firstIndex(of: UInt8(ascii: "=")) else { return (pair, pair[pair.endIndex...]) }
                return (pair[..<sign], pair[pair.index(after: sign)...])
            }
            return nil
        }

        /// Takes a value that may be given once.
        private func single(_ value: Bytes, _ name: String, into text: inout String?) throws(Rejection) {
            guard text == nil else { throw .badRequest("Parameter '\(name)' is given twice!") }
            text = try PercentCoding.decode(value, plusIsSpace: true)
        }

        /// Takes names that may be given in one list or one by one; the result is joined by commas.
        private func list(_ value: Bytes, into text: inout String?) throws(Rejection) {
            let names = try PercentCoding.decode(value, plusIsSpace: true)
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
                if Route.equal(name, "clientKeys") { try self.list(value, into: &clientKeys) }
                if Route.equal(name, "sharedKeys") { try self.list(value, into: &sharedKeys) }
            }
            return .readAttributes(clientKeys: clientKeys, sharedKeys: sharedKeys)
        }

        mutating func timeout() throws(Rejection) -> Int64 {
            var text: String?
            while let (name, value) = self.next() {
                if Route.equal(name, "timeout") { try self.single(value, "timeout", into: &text) }
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
                if Route.equal(name, "title") {
                    try self.single(value, "title", into: &title)
                } else if Route.equal(name, "version") {
                    try self.single(value, "version", into: &version)
                } else if Route.equal(name, "chunk") {
                    try self.single(value, "chunk", into: &chunk)
                } else if Route.equal(name, "size") {
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
