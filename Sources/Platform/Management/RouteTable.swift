import HTTPTypes
import Hummingbird
import NodeKit
import OTA

/// What answers a request.
typealias RequestHandler = @Sendable (APIRequest) async throws -> Response

/// One method of one path.
struct Route: Sendable {
    /// Who may use it: stated by every route, so that none lets somebody in because nobody thought of it.
    enum Access: Sendable, Equatable {
        /// Whoever can connect, without a login.
        case anyone
        /// Whoever has logged in with one of these authorities.
        case only(Set<Authority>)

        /// Whoever has logged in.
        static let everyUser = Self.only([.sysAdmin, .tenantAdmin, .customerUser])
        /// Whoever has logged in to a tenant, be it only to read.
        static let tenantUsers = Self.only([.tenantAdmin, .customerUser])
        /// Administrators of the host and of tenants.
        static let administrators = Self.only([.sysAdmin, .tenantAdmin])
        /// Administrators of tenants.
        static let tenantAdministrators = Self.only([.tenantAdmin])
        /// Administrators of the host.
        static let systemAdministrators = Self.only([.sysAdmin])

        /// Whether a login with this authority may use it.
        func includes(_ authority: Authority) -> Bool {
            switch self {
            case .anyone: true
            case .only(let authorities): authorities.contains(authority)
            }
        }
    }

    /// What using it leaves in the audit log.
    enum Log: Sendable, Equatable {
        /// Nothing: it changes nothing.
        case nothing
        /// An entry with what the handler says was done, else what the method does.
        case change
        /// An entry with this action, unless the handler says another.
        case action(AuditAction)
    }

    fileprivate enum Segment {
        case literal(Substring)
        case parameter(String)
    }

    let method: HTTPRequest.Method
    /// The path as it was added, such as `/api/device/{id}`.
    let path: String
    let access: Access
    /// The action of its entry in the audit log, unless the handler says another; `nil` if it leaves none.
    let action: AuditAction?
    /// What it does, for the document of the API.
    let operation: Operation
    let handler: RequestHandler
    fileprivate let segments: [Segment]
    fileprivate let literals: Int

    /// The names of the path's parameters, in order.
    var parameterNames: [String] {
        self.segments.compactMap { if case .parameter(let name) = $0 { name } else { nil } }
    }

    fileprivate func parameters(of path: [Substring]) -> [String: Substring]? {
        guard path.count == self.segments.count else { return nil }
        var parameters: [String: Substring] = [:]
        for (segment, text) in zip(self.segments, path) {
            switch segment {
            case .literal(let literal): guard literal == text else { return nil }
            case .parameter(let name): parameters[name] = text
            }
        }
        return parameters
    }
}

/// All paths of the API.
///
/// It tells a path that does not exist from a method that a path does not have, which a router that only finds handlers
/// does not.
struct RouteTable: Sendable {
    enum Match: Sendable {
        /// The parameters as they stand in the path.
        case found(Route, parameters: [String: Substring])
        case otherMethods([HTTPRequest.Method])
        case nothing
    }

    /// All routes, in the order in which they were added.
    private(set) var routes: [Route] = []

    /// Adds a path such as `/api/device/{id}`.
    ///
    /// A handler gets a request whose sender the route lets in. Entities that the request names it looks up by
    /// ``ManagementServices``, which lets nobody see those of another tenant; lists it asks for with ``APIRequest/tenantId()``.
    ///
    /// - Parameters:
    ///   - method: `get`, `post`, `put` or `delete`; `head` goes with `get`.
    ///   - path: The path, with names of parameters in braces.
    ///   - access: Who may use it.
    ///   - log: What it leaves in the audit log; unless told otherwise, an entry if the method is not `get`.
    ///   - operation: What it does, as the document of the API tells everybody.
    ///   - handler: Answers it.
    mutating func add(
        _ method: HTTPRequest.Method,
        _ path: String,
        for access: Route.Access,
        logs log: Route.Log? = nil,
        _ operation: Operation,
        _ handler: @escaping RequestHandler
    ) {
        let segments = path.split(separator: "/").map { segment -> Route.Segment in
            segment.hasPrefix("{") ? .parameter(String(segment.dropFirst().dropLast())) : .literal(segment)
        }
        let literals = segments.count {
            if case .literal = $0 { true } else { false }
        }
        let action: AuditAction? =
            switch log ?? (method == .get ? .nothing : .change) {
            case .nothing: nil
            case .change: method == .delete ? .deleted : .updated
            case .action(let action): action
            }
        self.routes.append(
            Route(
                method: method,
                path: path,
                access: access,
                action: action,
                operation: operation,
                handler: handler,
                segments: segments,
                literals: literals
            )
        )
    }

    /// Finds the route of a request; of several the one that says most of the path literally.
    func match(_ method: HTTPRequest.Method, _ path: String) -> Match {
        let path = path.split(separator: "/")
        var best: (route: Route, parameters: [String: Substring])?
        var others: [HTTPRequest.Method] = []
        for route in self.routes {
            guard let parameters = route.parameters(of: path) else { continue }
            guard route.method == method || (method == .head && route.method == .get) else {
                if !others.contains(route.method) { others.append(route.method) }
                continue
            }
            if best.map({ $0.route.literals < route.literals }) ?? true { best = (route, parameters) }
        }
        if let best { return .found(best.route, parameters: best.parameters) }
        return others.isEmpty ? .nothing : .otherMethods(others)
    }
}

/// The encoding of paths and queries (RFC 3986 §2.1).
enum PercentEncoding {
    /// Decodes the text of a field; an escape that is broken stays as it is.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if it is not UTF-8 or has U+0000 in it: to replace that would
    ///   make one name of several.
    static func decode(
        _ text: some StringProtocol,
        plusIsSpace: Bool,
        of field: @autoclosure () -> String
    ) throws(NodeError) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let value = Self.hexadecimal(rest.prefix(2)) {
                rest.removeFirst(2)
                bytes.append(value)
            } else if byte == UInt8(ascii: "+"), plusIsSpace {
                bytes.append(UInt8(ascii: " "))
            } else {
                bytes.append(byte)
            }
        }
        return try Self.text(bytes, of: field())
    }

    /// The text that bytes are; throws as ``decode(_:plusIsSpace:of:)`` does.
    static func text(
        _ bytes: some Collection<UInt8>,
        of field: @autoclosure () -> String
    ) throws(NodeError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw NodeError(.badRequest, "'\(field())' is not UTF-8")
        }
        try NullCharacter.refuse(in: text, field())
        return text
    }

    private static func hexadecimal(_ digits: ArraySlice<UInt8>) -> UInt8? {
        guard digits.count == 2 else { return nil }
        var value = 0
        for digit in digits {
            guard let digit = Character(Unicode.Scalar(digit)).hexDigitValue else { return nil }
            value = value << 4 | digit
        }
        return UInt8(value)
    }

    /// Reads a query; of a repeated name the first value counts.
    static func query(_ text: String) throws(NodeError) -> [ExactText: String] {
        var values: [ExactText: String] = [:]
        for pair in text.utf8.split(separator: UInt8(ascii: "&")) {
            let name = pair.prefix { $0 != UInt8(ascii: "=") }
            let value = pair.dropFirst(name.count + 1)
            let decoded = try Self.decode(Substring(name), plusIsSpace: true, of: "the name of a parameter")
            let key = decoded.exact
            if values[key] == nil { values[key] = try Self.decode(Substring(value), plusIsSpace: true, of: decoded) }
        }
        return values
    }
}
