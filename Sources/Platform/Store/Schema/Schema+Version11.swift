extension Schema {
    /// When the newest value of a state is removed, the next one is the newest that can be: not a point from when the clock was far
    /// ahead, unless there is no other.
    ///
    /// The bound is the default of `timeseries.ahead.seconds` by SQLite's own clock, so that any program may remove points.
    static let version11 = [
        "DROP TRIGGER latest_state_removed",
        """
        CREATE TRIGGER latest_state_removed AFTER DELETE ON ts WHEN OLD.key IN ('fw_state', 'sw_state') BEGIN
            DELETE FROM latest_state WHERE key = OLD.key AND device = OLD.device AND ts = OLD.ts;
            INSERT INTO latest_state (key, device, ts, kind, value)
            SELECT ts.key, ts.device, ts.ts, ts.kind, ts.value FROM ts
            WHERE ts.device = OLD.device AND ts.key = OLD.key
                AND EXISTS (SELECT 1 FROM device WHERE no = OLD.device)
                AND NOT EXISTS (SELECT 1 FROM latest_state WHERE key = OLD.key AND device = OLD.device)
            ORDER BY ts.ts <= unixepoch() * 1000 + 86400000 DESC, ts.ts DESC LIMIT 1;
        END
        """,
    ]
}
