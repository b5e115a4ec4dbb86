import FoundationEssentials
import HTTPTypes
import Hummingbird
import NodeKit
import OTA

/// `/api/auth`: logging in and out.
struct AuthRoutes: Sendable {
    let logins: LoginService
    let tokens: TokenIssuer
    let users: any UserService

    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/auth/login",
            for: .anyone,
            logs: .action(.login),
            Operation(
                "Logs in",
                body: .json(.login),
                answer: .json(.tokens),
                failures: [
                    (.unauthorized, "The name or the password is wrong"),
                    (.tooManyRequests, "Too many logins failed; wait"),
                ]
            ),
            self.login
        )
        routes.add(
            .post,
            "/api/auth/token",
            for: .anyone,
            logs: .nothing,
            Operation(
                "Takes new tokens for a refresh token",
                body: .json(.refresh),
                answer: .json(.tokens),
                failures: [(.unauthorized, "The refresh token is not valid")]
            ),
            self.refresh
        )
        routes.add(
            .post,
            "/api/auth/logout",
            for: .everyUser,
            logs: .action(.logout),
            Operation("Ends the session of the token"),
            self.logout
        )
        routes.add(
            .get,
            "/api/auth/user",
            for: .everyUser,
            Operation("Reads who has logged in", answer: .json(.user)),
            self.user
        )
    }

    @Sendable private func login(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        let user = try await self.logins.user(
            name: try body.string("username") ?? "",
            password: try body.string("password") ?? "",
            from: request.remoteAddress,
            trail: request.trail
        )
        return .json(try await self.tokens.pair(for: user, session: UUID.random().uuidString.lowercased()))
    }

    @Sendable private func refresh(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        guard let token = try body.string("refreshToken") else { throw APIError.missing(parameter: "refreshToken") }
        let (user, session) = try await self.tokens.session(refreshToken: token, users: self.users)
        return .json(try await self.tokens.pair(for: user, session: session))
    }

    @Sendable private func logout(_ request: APIRequest) async throws -> Response {
        let caller = try request.caller()
        request.trail.concerns(caller.user)
        if case .login(let session) = caller.proof { try await self.tokens.logOut(session, users: self.users) }
        return .empty
    }

    @Sendable private func user(_ request: APIRequest) async throws -> Response {
        .json(try request.caller().user.json)
    }
}
