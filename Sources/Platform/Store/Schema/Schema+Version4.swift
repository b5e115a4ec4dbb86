extension Schema {
    /// Updates can be cancelled and begin again, time out, and are told of; calls of devices can be stored.
    ///
    /// `active_time` is by the host's clock, while the times of the states are what devices say. The index by it holds, within
    /// each state, those first that stand still the longest; it also counts the updates of a state.
    static let version4 = [
        "ALTER TABLE update_record ADD COLUMN active_time INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE update_record ADD COLUMN failure_cause TEXT CHECK (failure_cause IN ('CANCELLED', 'TIMED_OUT'))",
        "ALTER TABLE update_record ADD COLUMN retry_time INTEGER",
        "ALTER TABLE update_record ADD COLUMN push_missed INTEGER NOT NULL DEFAULT 0 CHECK (push_missed IN (0, 1))",
        // What stands still now is given its whole time from here on.
        "UPDATE update_record SET active_time = CAST(strftime('%s', 'now') AS INTEGER) * 1000",
        "CREATE INDEX update_record_active ON update_record (state, active_time)",
        "CREATE INDEX update_record_retry ON update_record (retry_time) WHERE retry_time IS NOT NULL",
        "CREATE INDEX update_record_package ON update_record (package_id)",
        """
        ALTER TABLE update_history ADD COLUMN cause TEXT
            CHECK (cause IN ('RETRIED', 'RESENT', 'CANCELLED', 'TIMED_OUT'))
        """,
        """
        ALTER TABLE assignment ADD COLUMN cause TEXT NOT NULL DEFAULT 'ASSIGNED'
            CHECK (cause IN ('ASSIGNED', 'RETRIED', 'RESENT', 'CANCELLED'))
        """,
        """
        CREATE TABLE event_reader (
            name TEXT NOT NULL PRIMARY KEY,
            last_read INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE rpc (
            no INTEGER PRIMARY KEY AUTOINCREMENT,
            id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            created_time INTEGER NOT NULL,
            expiration_time INTEGER NOT NULL,
            status TEXT NOT NULL CHECK (status IN
                ('QUEUED', 'SENT', 'DELIVERED', 'SUCCESSFUL', 'TIMEOUT', 'EXPIRED', 'FAILED')),
            is_over INTEGER NOT NULL AS (status IN ('DELIVERED', 'SUCCESSFUL', 'TIMEOUT', 'EXPIRED', 'FAILED')) STORED,
            one_way INTEGER NOT NULL CHECK (one_way IN (0, 1)),
            method TEXT NOT NULL,
            params TEXT NOT NULL,
            timeout INTEGER NOT NULL CHECK (timeout >= 0),
            retries_left INTEGER NOT NULL CHECK (retries_left >= 0),
            additional_info TEXT,
            response TEXT
        ) STRICT
        """,
        "CREATE INDEX rpc_of_device ON rpc (device, no)",
        "CREATE INDEX rpc_under_way ON rpc (expiration_time) WHERE is_over = 0",
    ]
}
