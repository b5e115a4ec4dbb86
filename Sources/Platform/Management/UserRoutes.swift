import HTTPTypes
import Hummingbird
import NodeKit
import OTA

/// `/api/user`: people who may log in.
struct UserRoutes: Sendable {
    let services: ManagementServices
    let tokens: TokenIssuer
    let now: @Sendable () -> Timestamp

    private var users: any UserService { self.services.users }

    /// What lists of users are sorted by.
    static let sortProperties = ["createdTime", "email", "name", "firstName", "lastName", "authority"]

    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/user",
            for: .everyUser,
            Operation(
                "Saves a user; what the body does not say is not there any more",
                body: .json(.savedUser),
                answer: .json(.user)
            ),
            self.save
        )
        routes.add(
            .get,
            "/api/user/{userId}",
            for: .everyUser,
            Operation("Reads a user", answer: .json(.user)),
            self.get
        )
        routes.add(.delete, "/api/user/{userId}", for: .administrators, Operation("Deletes a user"), self.delete)
        routes.add(
            .get,
            "/api/users",
            for: .everyUser,
            Operation(
                "Lists users, or reads those that are named",
                query: .page(sortedBy: Self.sortProperties, isOptional: true) + [.list("userIds", "Their identifiers")],
                answer: .json(.usersOrPage)
            ),
            self.list
        )
        routes.add(
            .get,
            "/api/users/list",
            for: .everyUser,
            Operation(
                "Reads several users; those that are not there are left out",
                query: [.list("userIds", "Their identifiers", required: true)],
                answer: .json(Schema.user.list)
            ),
            self.several
        )
        routes.add(
            .post,
            "/api/user/{userId}/userCredentialsEnabled",
            for: .administrators,
            Operation(
                "Lets a user log in or not",
                query: [.flag("userCredentialsEnabled", "Whether the user may log in; true if left out")]
            ),
            self.enable
        )
        // ThingsBoard sends a mail to who forgot his password; here an administrator hands on the link.
        routes.add(
            .post,
            "/api/user/{userId}/passwordReset",
            for: .administrators,
            logs: .action(.credentialsUpdated),
            Operation(
                "Takes away the password of a user, and makes the link to set a new one",
                answer: .json(.activationLink)
            ),
            self.resetPassword
        )
        routes.add(
            .get,
            "/api/user/{userId}/activationLink",
            for: .administrators,
            Operation("Makes the link by which a user sets the first password", answer: .text("text/plain")),
            self.activationLink
        )
        routes.add(
            .get,
            "/api/user/{userId}/activationLinkInfo",
            for: .administrators,
            Operation(
                "Makes the link by which a user sets the first password, and says how long it is valid",
                answer: .json(.activationLink)
            ),
            self.activationLinkInfo
        )
    }

    private func user(_ request: APIRequest, changes: Bool) async throws -> User {
        try await self.services.user(try request.id("userId"), for: request, changes: changes)
    }

    @Sendable private func save(_ request: APIRequest) async throws -> Response {
        let body = try await request.object()
        if let id = try body.id("id", of: User.self) { return try await self.update(id, body, request) }
        let caller = try request.caller()
        guard caller.authority != .customerUser else { throw APIError.forbidden }
        guard let authority = try body.authority() else {
            throw APIError.badRequest("User authority isn't defined!")
        }
        // Whoever looks after one tenant makes users of that one, whatever the body says.
        let tenant = caller.authority == .sysAdmin ? try body.id("tenantId") ?? .system : caller.tenantId
        guard authority != .sysAdmin || caller.authority == .sysAdmin else { throw APIError.forbidden }
        var user = User(
            createdTime: self.now(),
            tenantId: tenant,
            name: "",
            passwordHash: "",
            authority: authority
        )
        try user.update(from: body)
        let saved = try await self.users.saveUser(user)
        request.trail.saved(saved, isNew: true)
        request.trail.note("authority", .string(authority.rawValue))
        return .json(saved.json)
    }

    /// Changes what is told about a user; authority and tenant are for good.
    private func update(_ id: UserId, _ body: BodyReader, _ request: APIRequest) async throws -> Response {
        let user = try await self.services.user(id, for: request, changes: true)
        if let authority = try body.authority(), authority != user.authority {
            throw APIError.badRequest("Can't update user authority!")
        }
        if let tenant = try body.id("tenantId", of: Tenant.self), tenant != user.tenantId {
            throw APIError.badRequest("Can't update user tenant id!")
        }
        var described = user
        try described.update(from: body)
        let saved = try await self.users.changeUser(id) { [described] user in
            user.name = described.name
            user.firstName = described.firstName
            user.lastName = described.lastName
            user.phone = described.phone
            user.additionalInfo = described.additionalInfo
        }
        request.trail.saved(saved, isNew: false)
        return .json(saved.json)
    }

    @Sendable private func get(_ request: APIRequest) async throws -> Response {
        .json(try await self.user(request, changes: false).json)
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        let user = try await self.user(request, changes: true)
        let caller = try request.caller().user
        guard user.authority != .sysAdmin || user.id != caller.id else {
            throw APIError(.forbidden, 20, "Sysadmin is not allowed to delete himself")
        }
        try await self.users.deleteUser(user.id)
        return .empty
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        // Older clients ask for several users on this path.
        if request.queryText("userIds") != nil { return try await self.several(request) }
        let link = try request.pageLink()
        let caller = try request.caller()
        guard caller.authority != .customerUser else {
            let isFirst = link.page == 0
            return .json(Page(data: isFirst ? [caller.user] : [], totalElements: 1, link: link).json(\.json))
        }
        return .json(try await self.users.findUsers(of: caller.tenantId, authority: nil, page: link).json(\.json))
    }

    @Sendable private func several(_ request: APIRequest) async throws -> Response {
        guard let ids = try request.queryList("userIds") else { throw APIError.missing(parameter: "userIds") }
        var users: [JSON] = []
        for text in ids {
            let user = try await self.users.findUserById(try APIRequest.parse(text, "userIds"))
            // As in ThingsBoard, those that are not there and those of others are left out.
            if let user, try request.caller().maySee(user) { users.append(user.json) }
        }
        return .json(.array(users))
    }

    /// Lets a user log in or not; who may not is logged out everywhere.
    @Sendable private func enable(_ request: APIRequest) async throws -> Response {
        let text = request.queryText("userCredentialsEnabled") ?? "true"
        guard let isEnabled = Bool(text.lowercased()) else {
            throw APIError.badRequest("Parameter 'userCredentialsEnabled' must be true or false, not '\(text)'")
        }
        request.trail.did(isEnabled ? .activated : .suspended)
        let user = try await self.user(request, changes: true)
        let caller = try request.caller().user
        guard isEnabled || user.id != caller.id else {
            throw APIError.badRequest("You cannot disable yourself; ask another administrator")
        }
        _ = try await self.users.changeUser(user.id) { user in
            if !isEnabled { user.tokenVersion += 1 }
            user.isEnabled = isEnabled
        }
        return .empty
    }

    /// Takes away a user's password and all logins, and tells the link to choose a new one.
    @Sendable private func resetPassword(_ request: APIRequest) async throws -> Response {
        let user = try await self.user(request, changes: true)
        guard try user.id != request.caller().user.id else {
            throw APIError.badRequest("You cannot take away your own password; change it with /api/auth/changePassword")
        }
        let saved = try await self.users.changeUser(user.id) { user in
            user.passwordHash = ""
            user.tokenVersion += 1
        }
        return .json(try await self.linkInfo(saved, request))
    }

    @Sendable private func activationLink(_ request: APIRequest) async throws -> Response {
        var response = Response.empty
        response.headers[.contentType] = "text/plain"
        let user = try await self.user(request, changes: true)
        response.body = ResponseBody(byteBuffer: .init(string: try await self.link(user, request)))
        return response
    }

    @Sendable private func activationLinkInfo(_ request: APIRequest) async throws -> Response {
        .json(try await self.linkInfo(try await self.user(request, changes: true), request))
    }

    private func linkInfo(_ user: User, _ request: APIRequest) async throws -> JSON {
        [
            "value": .string(try await self.link(user, request)),
            "ttlMs": .integer(TokenIssuer.activationLifetime * 1000),
        ]
    }

    /// Where a user who has no password sends one; made anew each time, and valid for a day.
    private func link(_ user: User, _ request: APIRequest) async throws -> String {
        guard !user.isActivated else { throw APIError.badRequest("User is already activated!") }
        let scheme = request.request.headers[.xForwardedProto]?.lowercased() == "https" ? "https" : "http"
        let host = request.request.head.authority ?? "localhost"
        let token = try await self.tokens.activationToken(for: user)
        return "\(scheme)://\(host)/api/noauth/activate?activateToken=\(token)"
    }
}

extension User {
    /// What the API adds to ``additionalInfo``, and does not take from there.
    static let enabledKey = "userCredentialsEnabled"

    /// Takes over what a body describes in full.
    ///
    /// - Throws: ``APIError`` if a member is of the wrong type.
    fileprivate mutating func update(from body: BodyReader) throws {
        self.name = try body.string("email") ?? ""
        self.firstName = try body.string("firstName")
        self.lastName = try body.string("lastName")
        self.phone = try body.string("phone")
        self.additionalInfo = body["additionalInfo"]
        if case .object(var object)? = self.additionalInfo {
            object[Self.enabledKey] = nil
            self.additionalInfo = object.isEmpty ? nil : .object(object)
        }
    }
}

extension BodyReader {
    /// The authority that a body names.
    fileprivate func authority() throws -> Authority? {
        guard let text = try self.string("authority") else { return nil }
        guard let authority = Authority(rawValue: text) else {
            let known = Authority.allCases.map(\.rawValue).joined(separator: ", ")
            throw APIError.badRequest("'\(text)' is no authority; known are \(known)")
        }
        return authority
    }
}
