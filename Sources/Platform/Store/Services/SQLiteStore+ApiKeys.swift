import FoundationEssentials
import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: ApiKeyService {
    /// The key with this identifier, if it exists.
    public func findApiKeyById(_ id: ApiKeyId) async throws -> ApiKey? {
        try await self.read { db in try db.apiKey(id) }
    }

    /// A page of a user's keys.
    public func findApiKeys(of user: UserId, page: PageLink) async throws -> Page<ApiKey> {
        let query = PageQuery(
            select: "SELECT *",
            from: "FROM api_key",
            conditions: ["user_id = ?"],
            arguments: [user.uuid],
            searched: "description",
            sortable: [
                "createdTime": "created_time", "description": "description", "enabled": "is_enabled",
                "expirationTime": "expiration_time",
            ],
            tieBreaker: "id"
        )
        return try await self.read { db in try query.page(page, db, ApiKey.init(row:)) }
    }

    /// Makes a key whose value has this digest.
    public func createApiKey(_ key: ApiKey, digest: [UInt8]) async throws -> ApiKey {
        try ApiKeyRules.check(key)
        return try await self.write { db, _ in
            let count = try db.integer("SELECT count(*) FROM api_key WHERE user_id = ?", [key.userId.uuid])
            try ApiKeyRules.checkNew(of: db.user(key.userId), count: count ?? 0)
            try db.run(
                """
                INSERT INTO api_key (id, created_time, user_id, value_hash, description, is_enabled, expiration_time)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    key.id.uuid, key.createdTime.rawValue, key.userId.uuid, Data(digest), key.description,
                    key.isEnabled, key.expirationTime?.rawValue,
                ]
            )
            return key
        }
    }

    /// Changes a key in one step.
    public func changeApiKey(
        _ id: ApiKeyId,
        _ change: @escaping @Sendable (inout ApiKey) throws -> Void
    ) async throws -> ApiKey {
        try await self.write { db, effects in
            var key = try EntityRules.found(db.apiKey(id), id)
            try change(&key)
            try ApiKeyRules.check(key)
            effects.allHolders = true
            try db.run(
                "UPDATE api_key SET description = ?, is_enabled = ?, expiration_time = ? WHERE id = ?",
                [key.description, key.isEnabled, key.expirationTime?.rawValue, id.uuid]
            )
            return key
        }
    }

    /// Removes a key.
    public func deleteApiKey(_ id: ApiKeyId) async throws {
        try await self.remove { db, effects in
            _ = try EntityRules.found(db.apiKey(id), id)
            effects.allHolders = true
            try db.run("DELETE FROM api_key WHERE id = ?", [id.uuid])
        }
    }

    /// The key whose value has this digest, if it is in memory.
    public func knownHolder(digest: [UInt8]) -> Cached<ApiKeyHolder> { Cached(self.caches.holder(digest)) }

    /// The key whose value has this digest, with its user.
    public func holder(digest: [UInt8]) async throws -> ApiKeyHolder? {
        if let known = self.caches.holder(digest) { return known }
        let version = self.caches.version
        let holder = try await self.read { db -> ApiKeyHolder? in
            guard let row = try db.row("SELECT * FROM api_key WHERE value_hash = ?", [Data(digest)]) else { return nil }
            let key = try ApiKey(row: row)
            return try db.user(key.userId).map { ApiKeyHolder(key: key, user: $0) }
        }
        if let holder { self.caches.keep(holder, for: digest, readAt: version) }
        return holder
    }
}

extension ApiKey {
    fileprivate init(row: Row) throws {
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            userId: row.id("user_id"),
            description: row["description"],
            isEnabled: row["is_enabled"],
            expirationTime: (row["expiration_time"] as Int64?).map(Timestamp.init(milliseconds:))
        )
    }
}

extension Database {
    fileprivate func apiKey(_ id: ApiKeyId) throws -> ApiKey? {
        try self.row("SELECT * FROM api_key WHERE id = ?", [id.uuid]).map(ApiKey.init(row:))
    }
}
