extension Schema {
    /// What a device says it runs and which bytes were served to it decide whether its reports are believed.
    ///
    /// `device_package` has, for each package type, the newest title and version that the device reported, since when and by which
    /// report, and the package whose bytes it was given last, until it reports how that update ended.
    ///
    /// `served_ranges` and `attempt_ranges` list bytes as `0-4096,8192-12288`: of the attempts before this one, and of this one.
    /// Progress that was counted before counts as served from the beginning on.
    ///
    /// The two tables are made anew because more causes are allowed in them.
    static let version8 = [
        """
        CREATE TABLE device_package (
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            type TEXT NOT NULL CHECK (type IN ('FIRMWARE', 'SOFTWARE')),
            title TEXT,
            version TEXT,
            since INTEGER,
            report TEXT,
            given_id BLOB CHECK (length(given_id) = 16),
            PRIMARY KEY (device, type),
            CHECK ((title IS NULL AND version IS NULL) = (since IS NULL) AND (since IS NULL) = (report IS NULL))
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX device_package_version ON device_package (type, version, title)",
        // The newest value of each key: of its series, else of the device's attributes. `since` is when that value came to be.
        """
        INSERT INTO device_package (device, type, title, version, since, report)
        WITH reported (device, type, part, isPlain, value, since) AS (
            SELECT v.device, k.type, k.part, 0, CAST(v.value AS TEXT),
                (SELECT min(s.ts) FROM ts s WHERE s.device = v.device AND s.key = v.key AND s.ts > coalesce(
                    (SELECT max(o.ts) FROM ts o WHERE o.device = v.device AND o.key = v.key AND o.value <> v.value), -1e18))
            FROM (SELECT 'FIRMWARE' AS type, 'title' AS part, 'current_fw_title' AS key
                UNION ALL SELECT 'FIRMWARE', 'version', 'current_fw_version'
                UNION ALL SELECT 'SOFTWARE', 'title', 'current_sw_title'
                UNION ALL SELECT 'SOFTWARE', 'version', 'current_sw_version') k
            CROSS JOIN device d
            JOIN ts v ON v.device = d.no AND v.key = k.key
                AND v.ts = (SELECT max(n.ts) FROM ts n WHERE n.device = d.no AND n.key = k.key)
            UNION ALL
            SELECT a.device, CASE WHEN a.key LIKE '%fw%' THEN 'FIRMWARE' ELSE 'SOFTWARE' END,
                CASE WHEN a.key LIKE '%title' THEN 'title' ELSE 'version' END,
                CASE WHEN a.key LIKE 'current%' THEN 1 ELSE 2 END, CAST(a.value AS TEXT), a.last_update
            FROM attribute a
            WHERE a.scope = 'CLIENT_SCOPE' AND a.key IN ('current_fw_title', 'current_fw_version', 'current_sw_title',
                'current_sw_version', 'fw_title', 'fw_version', 'sw_title', 'sw_version')
        ), best AS (
            SELECT device, type, part, value, since, min(isPlain) AS isPlain FROM reported GROUP BY device, type, part
        )
        SELECT device, type, max(CASE part WHEN 'title' THEN value END), max(CASE part WHEN 'version' THEN value END),
            max(CAST(since AS INTEGER)), 'before the upgrade'
        FROM best GROUP BY device, type
        """,
        "ALTER TABLE update_record RENAME TO update_record_of_version_7",
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
            failure_cause TEXT CHECK (failure_cause IN ('CANCELLED', 'TIMED_OUT', 'ROLLED_BACK', 'OTHER_VERSION')),
            retry_time INTEGER,
            assigned_time INTEGER NOT NULL DEFAULT 0,
            active_time INTEGER NOT NULL DEFAULT 0,
            push_missed INTEGER NOT NULL DEFAULT 0 CHECK (push_missed IN (0, 1)),
            interrupted INTEGER NOT NULL DEFAULT 0 CHECK (interrupted IN (0, 1)),
            served_time INTEGER,
            served_ranges TEXT,
            attempt_ranges TEXT,
            former_title TEXT,
            former_version TEXT,
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
        INSERT INTO update_record (device, type, package_id, title, version, state, progress, attempts, error_class, error,
            failure_cause, retry_time, assigned_time, active_time, push_missed, served_time, attempt_ranges, queued_time, initiated_time,
            downloading_time, downloaded_time, verified_time, updating_time, updated_time, failed_time)
        SELECT r.device, r.type, r.package_id, r.title, r.version, r.state, r.progress, r.attempts, r.error_class, r.error,
            r.failure_cause, r.retry_time, coalesce(r.queued_time, 0), r.active_time, r.push_missed,
            CASE WHEN r.state <> 'UPDATED' AND (r.progress = 100
                OR k.url IS NOT NULL AND r.push_missed = 0 AND r.state <> 'QUEUED') THEN r.active_time END,
            CASE WHEN r.progress > 0 AND r.state <> 'UPDATED' AND k.data_size > 1
                THEN '0-' || min(k.data_size - (r.progress < 100), (r.progress + 1) * k.data_size / 100) END,
            r.queued_time, r.initiated_time, r.downloading_time, r.downloaded_time, r.verified_time, r.updating_time,
            r.updated_time, r.failed_time
        FROM update_record_of_version_7 r LEFT JOIN ota_package k ON k.id = r.package_id
        """,
        "DROP TABLE update_record_of_version_7",
        "CREATE INDEX update_record_active ON update_record (state, active_time)",
        "CREATE INDEX update_record_retry ON update_record (retry_time) WHERE retry_time IS NOT NULL",
        "CREATE INDEX update_record_package ON update_record (package_id)",
        "ALTER TABLE update_history RENAME TO update_history_of_version_7",
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
            error TEXT,
            cause TEXT CHECK (cause IN ('RETRIED', 'RESENT', 'CANCELLED', 'TIMED_OUT', 'ALREADY_INSTALLED', 'ROLLED_BACK',
                'OTHER_VERSION')),
            flag TEXT
        ) STRICT
        """,
        """
        INSERT INTO update_history (id, device, type, title, version, state, timestamp, accepted, error, cause)
        SELECT id, device, type, title, version, state, timestamp, accepted, error, cause FROM update_history_of_version_7
        """,
        // Readers of events remember the highest identifier, which may be that of a line that is gone.
        "DELETE FROM sqlite_sequence WHERE name = 'update_history'",
        """
        INSERT INTO sqlite_sequence (name, seq)
        SELECT 'update_history', seq FROM sqlite_sequence WHERE name = 'update_history_of_version_7'
        """,
        "DROP TABLE update_history_of_version_7",
        "CREATE INDEX update_history_of_device ON update_history (device, type)",
    ]
}
