extension Schema {
    static let version1 = [
        """
        CREATE TABLE device_profile (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
            name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
            description TEXT,
            is_default INTEGER NOT NULL CHECK (is_default IN (0, 1)),
            firmware_id BLOB REFERENCES ota_package (id),
            software_id BLOB REFERENCES ota_package (id),
            settings TEXT NOT NULL,
            UNIQUE (tenant_id, name)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE UNIQUE INDEX device_profile_default ON device_profile (tenant_id) WHERE is_default = 1",
        """
        CREATE TABLE ota_package (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
            device_profile_id BLOB REFERENCES device_profile (id),
            type TEXT NOT NULL CHECK (type IN ('FIRMWARE', 'SOFTWARE')),
            title TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
            version TEXT NOT NULL CHECK (length(version) BETWEEN 1 AND 255),
            tag TEXT CHECK (length(tag) <= 255),
            url TEXT CHECK (length(url) BETWEEN 1 AND 255),
            file_name TEXT CHECK (length(file_name) <= 255),
            content_type TEXT CHECK (length(content_type) <= 255),
            checksum_algorithm TEXT CHECK (checksum_algorithm IN
                ('MD5', 'SHA256', 'SHA384', 'SHA512', 'CRC32', 'MURMUR3_32', 'MURMUR3_128')),
            checksum TEXT CHECK (length(checksum) <= 1020),
            sha256 TEXT CHECK (length(sha256) = 64),
            data_size INTEGER CHECK (data_size >= 0),
            additional_info TEXT,
            UNIQUE (tenant_id, title, version),
            CHECK (url IS NULL OR sha256 IS NULL),
            CHECK (sha256 IS NULL OR (data_size > 0 AND checksum IS NOT NULL AND checksum_algorithm IS NOT NULL
                AND file_name IS NOT NULL AND content_type IS NOT NULL))
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX ota_package_file ON ota_package (sha256)",
        "CREATE INDEX ota_package_profile ON ota_package (device_profile_id)",
        """
        CREATE TABLE device (
            no INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
            name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
            label TEXT CHECK (length(label) <= 255),
            device_profile_id BLOB NOT NULL REFERENCES device_profile (id),
            firmware_id BLOB REFERENCES ota_package (id),
            software_id BLOB REFERENCES ota_package (id),
            additional_info TEXT,
            device_data TEXT,
            UNIQUE (tenant_id, name)
        ) STRICT
        """,
        "CREATE INDEX device_of_profile ON device (device_profile_id)",
        "CREATE INDEX device_by_time ON device (created_time)",
        "CREATE INDEX device_firmware ON device (firmware_id) WHERE firmware_id IS NOT NULL",
        "CREATE INDEX device_software ON device (software_id) WHERE software_id IS NOT NULL",
        """
        CREATE TABLE device_credentials (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            device INTEGER NOT NULL UNIQUE REFERENCES device (no) ON DELETE CASCADE,
            kind TEXT NOT NULL CHECK (kind IN ('ACCESS_TOKEN', 'MQTT_BASIC', 'X509_CERTIFICATE')),
            credentials_id TEXT NOT NULL UNIQUE CHECK (length(credentials_id) > 0),
            credentials_value TEXT
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE attribute (
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            scope TEXT NOT NULL CHECK (scope IN ('CLIENT_SCOPE', 'SHARED_SCOPE', 'SERVER_SCOPE')),
            key TEXT NOT NULL,
            kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 4),
            value ANY NOT NULL,
            last_update INTEGER NOT NULL,
            PRIMARY KEY (device, scope, key)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE ts (
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            key TEXT NOT NULL,
            ts INTEGER NOT NULL,
            kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 4),
            value ANY NOT NULL,
            PRIMARY KEY (device, key, ts)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE update_record (
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            type TEXT NOT NULL CHECK (type IN ('FIRMWARE', 'SOFTWARE')),
            package_id BLOB REFERENCES ota_package (id) ON DELETE SET NULL,
            title TEXT NOT NULL,
            version TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN
                ('QUEUED', 'INITIATED', 'DOWNLOADING', 'DOWNLOADED', 'VERIFIED', 'UPDATING', 'UPDATED', 'FAILED')),
            progress INTEGER CHECK (progress BETWEEN 0 AND 100),
            attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
            error_class TEXT,
            error TEXT,
            queued_time INTEGER,
            initiated_time INTEGER,
            downloading_time INTEGER,
            downloaded_time INTEGER,
            verified_time INTEGER,
            updating_time INTEGER,
            updated_time INTEGER,
            failed_time INTEGER,
            PRIMARY KEY (device, type)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE update_history (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            type TEXT NOT NULL CHECK (type IN ('FIRMWARE', 'SOFTWARE')),
            title TEXT NOT NULL,
            version TEXT NOT NULL,
            state TEXT NOT NULL,
            timestamp INTEGER NOT NULL,
            accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)),
            error TEXT
        ) STRICT
        """,
        "CREATE INDEX update_history_of_device ON update_history (device, type)",
        """
        CREATE TABLE assignment (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            type TEXT NOT NULL CHECK (type IN ('FIRMWARE', 'SOFTWARE')),
            package_id BLOB REFERENCES ota_package (id) ON DELETE CASCADE,
            timestamp INTEGER NOT NULL,
            UNIQUE (device, type)
        ) STRICT
        """,
        """
        CREATE TABLE message_queue (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            queue TEXT NOT NULL,
            message TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX message_queue_by_name ON message_queue (queue)",
        """
        CREATE TABLE user (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            created_time INTEGER NOT NULL,
            name TEXT NOT NULL CHECK (length(name) > 0),
            folded_name TEXT NOT NULL UNIQUE,
            password_hash TEXT NOT NULL,
            authority TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE secret (
            name TEXT NOT NULL PRIMARY KEY,
            value BLOB NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
    ]
}
