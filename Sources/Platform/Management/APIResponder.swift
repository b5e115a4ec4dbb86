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
    let tokens: TokenIssuer
    let users: any UserService
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
        var session: Session?
        // Whether a path exists is nothing for strangers: ThingsBoard asks for the login first, below /api.
        switch match {
        case .found(let route, _) where route.access == .anyone: break
        case .otherMethods, .nothing:
            if path.hasPrefix("/api/") { session = try await self.authenticate(request) }
        case .found(let route, _):
            let caller = try await self.authenticate(request)
            guard route.access.includes(caller.authority) else { throw APIError.forbidden }
            session = caller
        }
        switch match {
        case .found(let route, let parameters):
            return try await route.handler(
                APIRequest(
                    request: request,
                    parameters: parameters,
                    query: PercentEncoding.query(request.uri.query ?? ""),
                    session: session,
                    remoteAddress: context.remoteAddress,
                    bodyBytesMax: self.options.bodyBytesMax
                )
            )
        case .otherMethods(let methods):
            throw APIError(
                .methodNotAllowed,
                31,
                "Request method '\(request.method.rawValue)' is not supported",
                headers: [.allow: methods.map(\.rawValue).joined(separator: ", ")]
            )
        case .nothing: throw APIError.pathNotFound
        }
    }

    private func authenticate(_ request: Request) async throws -> Session {
        guard let token = Self.token(in: request.headers) else { throw APIError.notAuthenticated }
        return try await self.tokens.session(accessToken: token, users: self.users)
    }

    /// The token in `X-Authorization: Bearer …`, as ThingsBoard's clients send it, or in `Authorization`.
    private static func token(in headers: HTTPFields) -> Substring? {
        for name in [HTTPField.Name.xAuthorization, .authorization] {
            guard let value = headers[name] else { continue }
            let parts = value.split(separator: " ", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == "bearer" { return parts[1] }
        }
        return nil
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
    /// The name of a downloaded file.
    static let xFileName = Self.known("x-filename")
}
