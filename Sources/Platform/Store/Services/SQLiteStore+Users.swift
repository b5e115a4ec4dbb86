import FoundationEssentials
import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: UserService {
    /// The user with this name, of whatever tenant, compared without case.
    public func findUser(name: String) async throws -> User? {
        try await self.read { db in
            try db.row("SELECT * FROM user WHERE folded_name = ?", [UserRules.folded(name)]).map(User.init(row:))
        }
    }

    /// The user with this identifier.
    public func findUserById(_ id: UserId) async throws -> User? {
        try await self.read { db in try db.user(id) }
    }

    /// A page of the users of a tenant, those with one authority if given.
    public func findUsers(of tenant: TenantId, authority: Authority?, page: PageLink) async throws -> Page<User> {
        var query = PageQuery(
            select: "SELECT *",
            from: "FROM user",
            conditions: ["tenant_id IS ?"],
            arguments: [tenant.column],
            searched: "name",
            sortable: [
                "createdTime": "created_time", "email": "folded_name", "name": "folded_name", "firstName": "first_name",
                "lastName": "last_name", "authority": "authority",
            ],
            tieBreaker: "id"
        )
        if let authority {
            query.conditions.append("authority = ?")
            query.arguments += [authority.rawValue]
        }
        return try await self.read { [query] db in try query.page(page, db, User.init(row:)) }
    }

    /// Creates a user that is not saved yet, or replaces one that is.
    public func saveUser(_ user: User) async throws -> User {
        try UserRules.check(user)
        return try await self.write { db, effects in
            effects.allHolders = true
            return try Self.save(user, db)
        }
    }

    /// Changes a user in one step.
    public func changeUser(
        _ id: UserId,
        _ change: @escaping @Sendable (inout User) throws -> Void
    ) async throws -> User {
        try await self.write { db, effects in
            effects.allHolders = true
            var user = try EntityRules.found(db.user(id), id)
            try change(&user)
            try UserRules.check(user)
            return try Self.save(user, db)
        }
    }

    /// Removes a user.
    public func deleteUser(_ id: UserId) async throws {
        try await self.remove { db, effects in
            effects.allHolders = true
            let user = try EntityRules.found(db.user(id), id)
            let administrators = try db.integer(
                "SELECT count(*) FROM user WHERE tenant_id = ? AND authority = 'TENANT_ADMIN'",
                [user.tenantId.uuid]
            )
            try UserRules.checkRemoval(of: user, administrators: administrators ?? 0)
            try db.run("DELETE FROM user WHERE id = ?", [id.uuid])
        }
    }

    private static func save(_ user: User, _ db: Database) throws -> User {
        let foldedName = UserRules.folded(user.name)
        try UserRules.check(
            user,
            tenant: db.tenant(user.tenantId),
            isNameTaken: db.exists("SELECT 1 FROM user WHERE folded_name = ? AND id <> ?", [foldedName, user.id.uuid])
        )
        let columns: [(any DatabaseValueConvertible)?] = [
            user.tenantId.column, user.name, foldedName, user.passwordHash, user.authority.rawValue,
            user.firstName, user.lastName, user.phone, user.additionalInfo?.description, user.isEnabled,
            user.tokenVersion, user.id.uuid,
        ]
        if user.isSaved {
            try db.run(
                """
                UPDATE user SET tenant_id = ?, name = ?, folded_name = ?, password_hash = ?, authority = ?, first_name = ?,
                    last_name = ?, phone = ?, additional_info = ?, is_enabled = ?, token_version = ?
                WHERE id = ?
                """,
                Arguments(columns)
            )
            guard db.changesCount == 1 else { throw EntityRules.missing(user.id) }
        } else {
            try db.run(
                """
                INSERT INTO user (tenant_id, name, folded_name, password_hash, authority, first_name, last_name, phone,
                    additional_info, is_enabled, token_version, id, created_time)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                Arguments(columns + [user.createdTime.rawValue])
            )
        }
        var saved = user
        saved.isSaved = true
        return saved
    }

    /// How many users there are.
    public func countUsers() async throws -> Int {
        try await self.read { db in Int(try db.integer("SELECT count(*) FROM user") ?? 0) }
    }

    /// Remembers that a login has ended, until all of its tokens have expired.
    public func endLogin(_ id: String, until: Timestamp) async throws {
        let now = self.believedTime()
        try await self.write { db, _ in
            try db.run("DELETE FROM ended_login WHERE until <= ?", [now.rawValue])
            try db.run("INSERT OR REPLACE INTO ended_login (id, until) VALUES (?, ?)", [id, until.rawValue])
            try db.run(
                """
                DELETE FROM ended_login WHERE id IN
                    (SELECT id FROM ended_login ORDER BY until DESC, id LIMIT -1 OFFSET ?)
                """,
                [UserRules.endedLoginsMax]
            )
        }
    }

    /// The logins that have ended: those whose tokens have not expired, and some that nobody forgot yet.
    ///
    /// By the clock none is left out: it may be ahead, and be set back.
    public func endedLogins() async throws -> [String: Timestamp] {
        try await self.read { db in
            var logins: [String: Timestamp] = [:]
            for row in try db.rows("SELECT id, until FROM ended_login") {
                logins[row["id"]] = row.time("until")
            }
            return logins
        }
    }

    /// A secret with this name, made of random bytes on first use and kept; see ``SigningKeys``.
    public func secret(named name: String, count: Int) async throws -> [UInt8] {
        guard !self.writer.isClosed else {
            throw NodeError(.unavailable, GroupCommitWriter.closed)
        }
        return try await offEventLoop { [keys] in try keys.key(named: name, count: count) }
    }
}

extension User {
    init(row: Row) throws {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            tenantId: row.idIfPresent("tenant_id") ?? .system,
            name: row["name"],
            passwordHash: row["password_hash"],
            authority: try row.choice("authority"),
            firstName: row["first_name"],
            lastName: row["last_name"],
            phone: row["phone"],
            additionalInfo: try row.json("additional_info"),
            isEnabled: row["is_enabled"],
            tokenVersion: row["token_version"]
        )
        self.isSaved = true
    }
}

extension TenantId {
    /// How a user's row refers to the tenant: not at all for the host's own users.
    fileprivate var column: UUID? { self == .system ? nil : self.uuid }
}

extension Database {
    func user(_ id: UserId) throws -> User? {
        try self.row("SELECT * FROM user WHERE id = ?", [id.uuid]).map(User.init(row:))
    }
}
