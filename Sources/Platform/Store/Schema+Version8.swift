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
        """
        INSERT INTO device_package (device, type, title, version, since, report)
        SELECT known.device, known.type, known.title, known.version, known.since,
            'telemetry current_' || known.prefix || '_*'
        FROM (
            SELECT d.no AS device, t.type, t.prefix,
                (SELECT CAST(v.value AS TEXT) FROM ts v WHERE v.device = d.no AND v.key = 'current_' || t.prefix || '_title'
                    ORDER BY v.ts DESC LIMIT 1) AS title,
                (SELECT CAST(v.value AS TEXT) FROM ts v WHERE v.device = d.no AND v.key = 'current_' || t.prefix || '_version'
                    ORDER BY v.ts DESC LIMIT 1) AS version,
                (SELECT max(v.ts) FROM ts v WHERE v.device = d.no
                    AND v.key IN ('current_' || t.prefix || '_title', 'current_' || t.prefix || '_version')) AS since
            FROM device d CROSS JOIN (
                SELECT 'FIRMWARE' AS type, 'fw' AS prefix UNION ALL SELECT 'SOFTWARE', 'sw') t
        ) known WHERE known.since IS NOT NULL
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
            failure_cause, retry_time, active_time, push_missed, served_time, attempt_ranges, queued_time, initiated_time,
            downloading_time, downloaded_time, verified_time, updating_time, updated_time, failed_time)
        SELECT r.device, r.type, r.package_id, r.title, r.version, r.state, r.progress, r.attempts, r.error_class, r.error,
            r.failure_cause, r.retry_time, r.active_time, r.push_missed,
            CASE WHEN r.progress = 100 AND r.state <> 'UPDATED' THEN r.active_time END,
            CASE WHEN r.progress > 0 AND r.state <> 'UPDATED' AND k.data_size > 0
                THEN '0-' || min(k.data_size, (r.progress + 1) * k.data_size / 100) END,
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
