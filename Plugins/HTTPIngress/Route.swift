import HTTPKit
import IngressKit
import NodeKit
import OTA

/// Numbers and lengths that a request may have at most.
enum RequestBounds {
    /// The longest access token, in bytes.
    static let tokenLength = 255
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
    ///   - target: The path and query.
    /// - Throws: ``Rejection``.
    init(method: RequestMethod, target: RequestTarget) throws(Rejection) {
        var path = target.segments
        guard path.next()?.equals("api") == true, let area = path.next(), let tokenBytes = path.next() else {
            throw .notFound
        }
        if area.equals("download") {
            // Whatever name follows is for clients that call the file after the end of its URL.
            _ = path.next()
            guard path.next() == nil, tokenBytes.count <= Self.linkLengthMax else { throw .notFound }
            guard method == .get || method == .head else { throw .methodNotAllowed(allow: "GET, HEAD") }
            self.call = .follow(link: try tokenBytes.pathText())
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
        var query = Query(parameters: target.parameters)

        self.call = try Self.call(method, resource: resource, detail: detail, query: &query)
        guard !tokenBytes.isEmpty else { throw .notFound }
        let token = try tokenBytes.pathText()
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
            let id = String(decoding: detail, as: UTF8.self)
            return try Self.read { () throws(NodeError) in
                .answerCall(id: try DeviceProtocol.number(id, MessageKey.requestId))
            }
        }
        if resource.equals("claim"), detail == nil {
            guard method == .post else { throw .methodNotAllowed(allow: "POST") }
            return .claim
        }
        throw .notFound
    }

    /// Turns a fault of the device API into a refusal of the request.
    fileprivate static func read<Value>(_ body: () throws(NodeError) -> Value) throws(Rejection) -> Value {
        do {
            return try body()
        } catch {
            throw .badRequest(error.message)
        }
    }

    /// The parameters of a query, as the calls need them.
    private struct Query {
        var parameters: QueryParameters

        /// Takes a value that may be given once.
        private func single(_ value: HeadBytes, _ name: String, into text: inout String?) throws(Rejection) {
            guard text == nil else { throw .badRequest(DeviceProtocol.repeated(name).message) }
            text = try value.parameterText(of: name)
        }

        /// Takes names that may be given in one list or one by one; the result is joined by commas.
        private func list(_ value: HeadBytes, _ name: String, into text: inout String?) throws(Rejection) {
            let names = try value.parameterText(of: name)
            guard !names.isEmpty else { return }
            text = text.map { $0 + "," + names } ?? names
        }

        mutating func attributes() throws(Rejection) -> DeviceCall {
            var clientKeys: String?
            var sharedKeys: String?
            while let (name, value) = self.parameters.next() {
                if name.equals("clientKeys") { try self.list(value, "clientKeys", into: &clientKeys) }
                if name.equals("sharedKeys") { try self.list(value, "sharedKeys", into: &sharedKeys) }
            }
            return .readAttributes(clientKeys: clientKeys, sharedKeys: sharedKeys)
        }

        mutating func timeout() throws(Rejection) -> Int64 {
            var text: String?
            while let (name, value) = self.parameters.next() {
                if name.equals("timeout") { try self.single(value, "timeout", into: &text) }
            }
            let milliseconds = try Route.read { () throws(NodeError) in
                try DeviceProtocol.numberIfAny(text, "timeout")
            }
            return milliseconds == 0
                ? RequestBounds.longPollDefault : min(milliseconds, RequestBounds.longPollMax)
        }

        mutating func download(_ type: OtaPackageType) throws(Rejection) -> DeviceCall {
            var title: String?
            var version: String?
            var chunk: String?
            var size: String?
            while let (name, value) = self.parameters.next() {
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
            return try Route.read { () throws(NodeError) in
                .download(
                    try PackageRequest(
                        reading: type,
                        title: title,
                        version: version,
                        chunk: chunk,
                        size: size,
                        isNamed: true
                    )
                )
            }
        }
    }
}
