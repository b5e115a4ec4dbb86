extension Schema {
    /// Tenants, of which there was one without a row; users belong to one, or to the host; logins that ended; keys; and what was changed
    /// by whom.
    ///
    /// All rows of before belong to the first tenant, and all users of before are its administrators. Users get a table that
    /// says more of what must hold. The log of changes outlives what it tells of, so it refers to nothing but its tenant's number.
    static let version3 = [
        """
        CREATE TABLE tenant (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            title TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
            details TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO tenant (id, created_time, title, details)
        SELECT x'F14A55D0000011EF8000000000000001',
            coalesce((SELECT min(created_time) FROM device_profile), unixepoch() * 1000), 'Tenant', '{}'
        """,
        "ALTER TABLE user RENAME TO user_of_version_2",
        """
        CREATE TABLE user (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            tenant_id BLOB REFERENCES tenant (id) ON DELETE CASCADE,
            name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
            folded_name TEXT NOT NULL UNIQUE,
            password_hash TEXT NOT NULL,
            authority TEXT NOT NULL CHECK (authority IN ('SYS_ADMIN', 'TENANT_ADMIN', 'CUSTOMER_USER')),
            first_name TEXT CHECK (length(first_name) <= 255),
            last_name TEXT CHECK (length(last_name) <= 255),
            phone TEXT CHECK (length(phone) <= 255),
            additional_info TEXT,
            is_enabled INTEGER NOT NULL CHECK (is_enabled IN (0, 1)),
            token_version INTEGER NOT NULL DEFAULT 0,
            CHECK ((authority = 'SYS_ADMIN') = (tenant_id IS NULL))
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO user (id, created_time, tenant_id, name, folded_name, password_hash, authority, is_enabled)
        SELECT id, created_time, x'F14A55D0000011EF8000000000000001', substr(name, 1, 255), folded_name, password_hash,
            'TENANT_ADMIN', 1
        FROM user_of_version_2
        """,
        "DROP TABLE user_of_version_2",
        "CREATE INDEX user_of_tenant ON user (tenant_id)",
        """
        CREATE TABLE ended_login (
            id TEXT NOT NULL PRIMARY KEY,
            until INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE api_key (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            user_id BLOB NOT NULL REFERENCES user (id) ON DELETE CASCADE,
            value_hash BLOB NOT NULL UNIQUE CHECK (length(value_hash) = 32),
            description TEXT CHECK (length(description) <= 255),
            is_enabled INTEGER NOT NULL CHECK (is_enabled IN (0, 1)),
            expiration_time INTEGER
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX api_key_of_user ON api_key (user_id)",
        """
        CREATE TABLE audit_log (
            no INTEGER PRIMARY KEY AUTOINCREMENT,
            id BLOB NOT NULL CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
            user_id BLOB CHECK (length(user_id) = 16),
            user_name TEXT,
            entity_type TEXT,
            entity_id BLOB CHECK (length(entity_id) = 16),
            entity_name TEXT,
            action TEXT NOT NULL,
            data TEXT NOT NULL,
            failure TEXT
        ) STRICT
        """,
        "CREATE INDEX audit_log_of_tenant ON audit_log (tenant_id, created_time)",
        "CREATE INDEX audit_log_of_user ON audit_log (user_id, created_time) WHERE user_id IS NOT NULL",
        "CREATE INDEX audit_log_of_entity ON audit_log (entity_id, created_time) WHERE entity_id IS NOT NULL",
        "CREATE INDEX audit_log_by_time ON audit_log (created_time)",
    ]
}
