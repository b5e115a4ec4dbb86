import FoundationEssentials
import GRDB
import NodeKit
public import OTA

extension SQLiteStore: UserService {
    /// The user with this name, compared without case.
    public func findUser(name: String) async throws -> User? {
        try await self.read { db in
            try db.row("SELECT * FROM user WHERE folded_name = ?", [name.lowercased()]).map(User.init(row:))
        }
    }

    /// The user with this identifier.
    public func findUserById(_ id: UserId) async throws -> User? {
        try await self.read { db in try db.row("SELECT * FROM user WHERE id = ?", [id.uuid]).map(User.init(row:)) }
    }

    /// Creates or replaces a user.
    public func saveUser(_ user: User) async throws -> User {
        guard !user.name.isEmpty else { throw NodeError(.badRequest, "User email should be specified!") }
        return try await self.write { db, _ in
            let taken = try db.exists(
                "SELECT 1 FROM user WHERE folded_name = ? AND id <> ?",
                [user.name.lowercased(), user.id.uuid]
            )
            guard !taken else {
                throw NodeError(.badRequest, "User with email '\(user.name)' already present in database!")
            }
            try db.run(
                """
                INSERT OR REPLACE INTO user (id, created_time, name, folded_name, password_hash, authority)
                VALUES (?, ?, ?, ?, ?, ?)
                """,
                [
                    user.id.uuid, user.createdTime.rawValue, user.name, user.name.lowercased(), user.passwordHash,
                    user.authority,
                ]
            )
            return user
        }
    }

    /// How many users there are.
    public func countUsers() async throws -> Int {
        try await self.read { db in Int(try db.integer("SELECT count(*) FROM user") ?? 0) }
    }

    /// A secret with this name, made of random bytes on first use and kept.
    public func secret(named name: String, count: Int) async throws -> [UInt8] {
        let fresh = (0..<max(0, count)).map { _ in UInt8.random(in: .min ... .max) }
        let bytes = try await self.write { db, _ in
            if let row = try db.row("SELECT value FROM secret WHERE name = ?", [name]) { return row["value"] as Data }
            try db.run("INSERT INTO secret (name, value) VALUES (?, ?)", [name, Data(fresh)])
            return Data(fresh)
        }
        return Array(bytes)
    }
}

extension User {
    fileprivate init(row: Row) {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            name: row["name"],
            passwordHash: row["password_hash"],
            authority: row["authority"]
        )
    }
}
