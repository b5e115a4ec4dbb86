import FoundationEssentials
import Hummingbird
import NodeKit
import OTA

/// Where users choose their passwords.
struct PasswordRoutes: Sendable {
    let logins: LoginService
    let tokens: TokenIssuer
    let users: any UserService

    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/auth/changePassword",
            for: .everyUser,
            logs: .action(.credentialsUpdated),
            Operation(
                "Changes the password of who has logged in, who is logged out everywhere else",
                body: .json(.changedPassword),
                answer: .json(.tokens),
                failures: [(.tooManyRequests, "Too many passwords were wrong; wait")]
            ),
            self.change
        )
        routes.add(
            .post,
            "/api/noauth/activate",
            for: .anyone,
            logs: .action(.activated),
            Operation("Sets the first password of a user", body: .json(.activation), answer: .json(.tokens)),
            self.activate
        )
    }

    /// Ends all logins of the user, and answers with a new one.
    @Sendable private func change(_ request: APIRequest) async throws -> Response {
        let caller = try request.caller().user
        request.trail.concerns(caller)
        let body = try await request.object()
        let current = try body.string("currentPassword") ?? ""
        let new = try body.string("newPassword") ?? ""
        do {
            // As slow as a login for whoever has a token and tries passwords.
            _ = try await self.logins.user(
                name: caller.name,
                password: current,
                from: request.remoteAddress,
                trail: request.trail
            )
        } catch let error as APIError where error.status == .unauthorized {
            throw APIError.badRequest("Current password doesn't match!")
        }
        guard new.exact != current.exact else {
            throw APIError.badRequest("New password should be different from existing!")
        }
        let hash = try await self.logins.hash(new)
        let user = try await self.users.changeUser(caller.id) { $0.passwordHash = hash }
        return .json(try await self.tokens.pair(for: user, session: UUID.random().uuidString.lowercased()))
    }

    /// Takes the first password of a user, who is logged in with it.
    @Sendable private func activate(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        let token = try body.string("activateToken") ?? ""
        let user: User
        do {
            user = try await self.tokens.user(activationToken: token, users: self.users)
        } catch let error as APIError where error.status == .unauthorized {
            throw APIError.badRequest(
                "The activation token is not valid any more; an administrator gets a new one from /api/user/{id}/activationLink"
            )
        }
        request.trail.isBy(user)
        request.trail.concerns(user)
        let hash = try await self.logins.hash(try body.string("password") ?? "")
        let saved = try await self.users.changeUser(user.id) { user in
            // The link may have been used twice at the same time.
            guard !user.isActivated else { throw NodeError(.badRequest, "User is already activated!") }
            user.passwordHash = hash
        }
        return .json(try await self.tokens.pair(for: saved, session: UUID.random().uuidString.lowercased()))
    }
}
