import FoundationEssentials
import NIOCore
import NIOHTTP1
import NodeKit

/// What a request to a server is made of.
enum HTTPCall {
    /// The methods that a chain file may ask for.
    enum Method: String, CaseIterable {
        case get = "GET"
        case post = "POST"
        case put = "PUT"
        case patch = "PATCH"
        case delete = "DELETE"

        var isWithBody: Bool { self != .get && self != .delete }
    }

    /// Where a server is.
    struct Endpoint: Sendable, Hashable {
        var isSecure: Bool
        /// Name or address; an IPv6 address without brackets.
        var host: String
        var port: Int
        /// What stands in the URL between the scheme and the path, for the field `Host`.
        var authority: String
        /// The URL up to the path.
        var origin: String { "\(self.isSecure ? "https" : "http")://\(self.authority)" }
    }
}

extension OutsideCall.Answer {
    /// What is wrong with the answer; `nil` if nothing is.
    func error(from endpoint: HTTPCall.Endpoint) -> NodeError? {
        guard !(200..<300).contains(self.status) else { return nil }
        // RFC 9110 §15.5.9 and §15.6, RFC 8470 §5.2, RFC 6585 §4: the same request may succeed later.
        let isRetryable = [408, 425, 429].contains(self.status) || self.status >= 500
        return NodeError(
            isRetryable ? .unavailable : "http-status",
            "'\(endpoint.authority)' answered with status \(self.status)"
        )
    }
}

/// A request with places for variables.
struct HTTPCallTemplate: Sendable {
    /// The most bytes of a value that goes into a header field.
    static let fieldValueLengthMax = 4096

    let endpoint: HTTPCall.Endpoint
    private let method: HTTPCall.Method
    /// Path and query.
    private let target: TextTemplate
    private let headers: [(name: String, value: TextTemplate)]
    private let json: JSONTemplate?

    /// Reads the attributes of a node.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if they cannot be used.
    init(_ configuration: Configuration) throws(NodeError) {
        let url = configuration.string("url")
        self.method = HTTPCall.Method(rawValue: configuration.string("method")) ?? .post
        (self.endpoint, self.target) = try Self.split(url)
        self.headers = try configuration.stringIfPresent("headers").map(Self.headers) ?? []
        self.json = try configuration.stringIfPresent("json").map { text throws(NodeError) in
            try JSONTemplate(parsing: text)
        }
        guard self.json == nil || self.method.isWithBody else {
            throw NodeError("bad-value", "\(self.method.rawValue) sends no 'json'; leave it out, or use POST")
        }
    }

    /// The request about a message.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if there is nothing to send that is JSON.
    func call(for message: Message) throws(NodeError) -> OutsideCall {
        let target = self.target.text(for: message, Self.percentEncoded)
        var headers = HTTPHeaders([
            ("Host", self.endpoint.authority), ("Connection", "close"), ("User-Agent", "windlass/\(Platform.version)"),
        ])
        for (name, value) in self.headers {
            headers.replaceOrAdd(name: name, value: value.text(for: message, Self.fieldValue))
        }
        let body = try self.method.isWithBody ? self.body(for: message) : nil
        if let body {
            if !headers.contains(name: "Content-Type") { headers.add(name: "Content-Type", value: "application/json") }
            headers.add(name: "Content-Length", value: String(body.readableBytes))
        }
        return OutsideCall(
            method: self.method.rawValue,
            origin: self.endpoint.origin,
            target: target,
            fields: headers.map { OutsideCall.Field($0.name, $0.value) },
            body: body
        )
    }

    private func body(for message: Message) throws(NodeError) -> ByteBuffer {
        switch (self.json, message.data) {
        case (let template?, _): return template.value(for: message).bytes
        case (nil, .json(let value)): return value.bytes
        case (nil, .none): return ByteBuffer(string: "{}")
        case (nil, .bytes):
            throw NodeError(.badRequest, "the data of '\(message.type)' is no JSON; say with 'json' what to send")
        }
    }

    // MARK: Reading

    /// Takes a URL apart (RFC 3986 §3).
    ///
    /// Where the request goes is constant: no variable, which may be a device's own word, has a say in it.
    private static func split(_ url: String) throws(NodeError) -> (HTTPCall.Endpoint, TextTemplate) {
        func bad(_ reason: String) -> NodeError { NodeError("bad-value", "'url' \(reason)") }
        let isSecure = url.hasPrefix("https://")
        guard isSecure || url.hasPrefix("http://") else { throw bad("must begin with http:// or https://") }
        let rest = url.dropFirst(isSecure ? 8 : 7)
        let authority = rest.prefix { !"/?#".contains($0) }
        guard !authority.contains("{"), !authority.contains("}") else {
            throw bad("may have variables only in its path and query, so that no device says where calls go")
        }
        guard !authority.contains("@") else {
            throw bad("may hold no user and password; set 'headers', such as {\"Authorization\": \"Basic …\"}")
        }
        let (host, port) = try Self.split(authority: authority, defaultPort: isSecure ? 443 : 80, bad)
        var target = rest.dropFirst(authority.count)
        if let fragment = target.firstIndex(of: "#") { target = target[..<fragment] }
        guard target.unicodeScalars.allSatisfy({ (0x21...0x7E).contains($0.value) }) else {
            throw bad("must be printable ASCII without spaces; percent-encode other characters")
        }
        let endpoint = HTTPCall.Endpoint(isSecure: isSecure, host: host, port: port, authority: String(authority))
        return (endpoint, try TextTemplate(target.hasPrefix("/") ? String(target) : "/\(target)"))
    }

    private static func split(
        authority: Substring,
        defaultPort: Int,
        _ bad: (String) -> NodeError
    ) throws(NodeError) -> (host: String, port: Int) {
        var host = authority
        var port = defaultPort
        if let colon = authority.lastIndex(of: ":"), authority[colon...].allSatisfy({ $0 != "]" }) {
            guard let number = Int(authority[authority.index(after: colon)...]), (1...65535).contains(number) else {
                throw bad("has a port outside 1…65535")
            }
            host = authority[..<colon]
            port = number
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty, host.unicodeScalars.allSatisfy({ (0x21...0x7E).contains($0.value) }) else {
            throw bad("names no host in printable ASCII")
        }
        return (String(host), port)
    }

    private static func headers(_ text: String) throws(NodeError) -> [(name: String, value: TextTemplate)] {
        let value: JSON
        do {
            value = try JSON(parsing: text)
        } catch {
            throw NodeError("bad-value", "'headers' is \(error)", cause: error)
        }
        guard case .object(let object) = value else {
            throw NodeError("bad-value", "'headers' must be a JSON object of names and texts")
        }
        var headers: [(name: String, value: TextTemplate)] = []
        for member in object.members {
            // RFC 9110 §5.6.2.
            let isToken = member.name.utf8.allSatisfy { byte in
                Self.isAlphanumeric(byte) || "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
            guard isToken, !member.name.isEmpty else {
                throw NodeError("bad-value", "'\(member.name)' in 'headers' is no name of a header field")
            }
            guard !["content-length", "transfer-encoding", "connection", "host"].contains(member.name.lowercased())
            else { throw NodeError("bad-value", "'\(member.name)' in 'headers' is set by the node itself") }
            guard case .string(let text) = member.value else {
                throw NodeError("bad-value", "'\(member.name)' in 'headers' must be a text")
            }
            headers.append((member.name, try TextTemplate(Self.fieldValue(text))))
        }
        return headers
    }

    // MARK: Filling in

    /// A value with all that is not unreserved encoded (RFC 3986 §2.3), so that it stays within its place.
    private static func percentEncoded(_ value: String) -> String {
        var encoded: [UInt8] = []
        for byte in value.utf8 {
            if Self.isAlphanumeric(byte) || "-._~".utf8.contains(byte) {
                encoded.append(byte)
            } else {
                encoded.append(UInt8(ascii: "%"))
                for digit in [byte >> 4, byte & 15] {
                    encoded.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "A") + digit - 10)
                }
            }
        }
        return String(decoding: encoded, as: UTF8.self)
    }

    /// A value without what could end a header field, and not without end.
    private static func fieldValue(_ value: String) -> String {
        var text = String.UnicodeScalarView()
        for scalar in value.unicodeScalars.prefix(Self.fieldValueLengthMax) {
            text.append((0x20...0x7E).contains(scalar.value) ? scalar : "?")
        }
        return String(text)
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"):
            true
        default: false
        }
    }
}
