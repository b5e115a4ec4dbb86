extension Schema {
    /// Questions for a fleet by state, which are asked of a hundred thousand devices at once: the newest value of the series that
    /// tell it, in a table that is small enough to be walked, and the devices of a tenant and of a profile in the orders that are asked for.
    ///
    /// Whoever writes one of these series writes its newest value too, as that costs less than a trigger; whatever removes points,
    /// also those of a device that goes, is followed by the trigger.
    static let version7 = [
        """
        CREATE TABLE latest_state (
            key TEXT NOT NULL CHECK (key IN ('fw_state', 'sw_state')),
            device INTEGER NOT NULL REFERENCES device (no) ON DELETE CASCADE,
            ts INTEGER NOT NULL,
            kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 4),
            value ANY NOT NULL,
            PRIMARY KEY (key, device)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX latest_state_of_device ON latest_state (device)",
        """
        INSERT INTO latest_state (key, device, ts, kind, value)
        SELECT series.key, device.no, ts.ts, ts.kind, ts.value
        FROM (SELECT 'fw_state' AS key UNION ALL SELECT 'sw_state') series CROSS JOIN device
        JOIN ts ON ts.device = device.no AND ts.key = series.key
            AND ts.ts = (SELECT max(newest.ts) FROM ts newest WHERE newest.device = device.no AND newest.key = series.key)
        """,
        """
        CREATE TRIGGER latest_state_removed AFTER DELETE ON ts WHEN OLD.key IN ('fw_state', 'sw_state') BEGIN
            DELETE FROM latest_state WHERE key = OLD.key AND device = OLD.device AND ts = OLD.ts;
            INSERT INTO latest_state (key, device, ts, kind, value)
            SELECT ts.key, ts.device, ts.ts, ts.kind, ts.value FROM ts
            WHERE ts.device = OLD.device AND ts.key = OLD.key
                AND EXISTS (SELECT 1 FROM device WHERE no = OLD.device)
                AND NOT EXISTS (SELECT 1 FROM latest_state WHERE key = OLD.key AND device = OLD.device)
            ORDER BY ts.ts DESC LIMIT 1;
        END
        """,
        "DROP INDEX device_by_time",
        "CREATE INDEX device_by_time ON device (tenant_id, created_time)",
        "DROP INDEX device_of_profile",
        "CREATE INDEX device_of_profile ON device (device_profile_id, name)",
        "CREATE INDEX device_of_profile_by_time ON device (device_profile_id, created_time)",
    ]
}
