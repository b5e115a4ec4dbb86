import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NodeKit
import OTA

/// Finds the route of each request, checks who sent it, and turns failures into answers.
struct APIResponder: HTTPResponder {
    typealias Context = BasicManagementContext

    let routes: RouteTable
    let authenticator: Authenticator
    let audit: AuditLog
    let options: ManagementServer.Options
    let logger: Logger
    let now: @Sendable () -> Timestamp

    func respond(to request: Request, context: BasicManagementContext) async throws -> Response {
        do {
            let response = try await self.answer(request, context)
            return request.method == .head ? response.createHeadResponse() : response
        } catch let error {
            guard let known = APIError(error) else {
                self.logger.error(
                    "management request failed",
                    metadata: ["http.method": "\(request.method)", "error": "\(error)"]
                )
                return APIError.unexpected.response(at: self.now())
            }
            return known.response(at: self.now())
        }
    }

    private func answer(_ request: Request, _ context: BasicManagementContext) async throws -> Response {
        let path = request.uri.path
        let match = self.routes.match(request.method, path)
        if case .found(let route, let parameters) = match {
            return try await self.answer(request, context, route, parameters)
        }
        // Whether a path exists is nothing for strangers: ThingsBoard asks for the login first, below /api.
        if path.hasPrefix("/api/") {
            _ = try await self.authenticator.session(of: request.headers, from: context.remoteAddress)
        }
        guard case .otherMethods(let methods) = match else { throw APIError.pathNotFound }
        throw APIError(
            .methodNotAllowed,
            31,
            "Request method '\(request.method.rawValue)' is not supported",
            headers: [.allow: methods.map(\.rawValue).joined(separator: ", ")]
        )
    }

    private func answer(
        _ request: Request,
        _ context: BasicManagementContext,
        _ route: Route,
        _ parameters: [String: Substring]
    ) async throws -> Response {
        var session: Session?
        if route.access != .anyone {
            session = try await self.authenticator.session(of: request.headers, from: context.remoteAddress)
        }
        var decoded: [String: String] = [:]
        for (name, text) in parameters {
            decoded[name] = try PercentEncoding.decode(text, plusIsSpace: false, of: name)
        }
        let request = APIRequest(
            request: request,
            parameters: decoded,
            query: try PercentEncoding.query(request.uri.query ?? ""),
            session: session,
            remoteAddress: context.remoteAddress,
            bodyBytesMax: self.options.bodyBytesMax
        )
        return try await self.audit.logging(request, as: route.action) {
            if let session = request.session, !route.access.includes(session.authority) { throw APIError.forbidden }
            if route.operation.answersOnlyJSON { try Self.checkThatJSONIsTaken(request.request.headers) }
            return try await route.handler(request)
        }
    }

    /// Refuses a request whose sender takes no JSON (RFC 9110 §12.5.1).
    private static func checkThatJSONIsTaken(_ headers: HTTPFields) throws {
        guard let accept = headers[.accept], !accept.allSatisfy(\.isWhitespace) else { return }
        let isTaken = accept.split(separator: ",").contains { range in
            let parts = range.split(separator: ";").map { $0.filter { !$0.isWhitespace }.lowercased() }
            guard let type = parts.first, ["*/*", "application/*", "application/json"].contains(type) else {
                return false
            }
            return !parts.dropFirst().contains {
                $0.hasPrefix("q=0") && $0.dropFirst(3).allSatisfy { ".0".contains($0) }
            }
        }
        guard isTaken else {
            throw APIError(.notAcceptable, 31, "No acceptable representation; this is answered as JSON")
        }
    }
}

/// What Hummingbird tells about a request's connection.
struct BasicManagementContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let remoteAddress: String

    init(source: ApplicationRequestContextSource) {
        self.coreContext = .init(source: source)
        self.remoteAddress = source.channel.remoteAddress?.ipAddress ?? ""
    }
}

extension HTTPField.Name {
    private static func known(_ name: String) -> HTTPField.Name {
        guard let name = HTTPField.Name(name) else { preconditionFailure("'\(name)' is no name of a header field") }
        return name
    }

    /// Where ThingsBoard's clients send their token.
    static let xAuthorization = Self.known("X-Authorization")
    /// Where a request came from before the last proxy.
    static let xForwardedFor = Self.known("X-Forwarded-For")
    /// The scheme before the last proxy.
    static let xForwardedProto = Self.known("X-Forwarded-Proto")
    /// The name of a downloaded file.
    static let xFileName = Self.known("x-filename")
}
