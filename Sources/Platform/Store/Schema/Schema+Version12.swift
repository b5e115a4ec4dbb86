extension Schema {
    /// Assignments of packages to the devices of profiles that go on in steps; and for each device the package that its updates
    /// follow, which is not its effective one before such an assignment has reached it.
    static let version12 = [
        "ALTER TABLE device ADD COLUMN followed_firmware BLOB CHECK (length(followed_firmware) = 16)",
        "ALTER TABLE device ADD COLUMN followed_software BLOB CHECK (length(followed_software) = 16)",
        """
        UPDATE device SET (followed_firmware, followed_software) = (
            SELECT coalesce(device.firmware_id, p.firmware_id), coalesce(device.software_id, p.software_id)
            FROM device_profile p WHERE p.id = device.device_profile_id)
        """,
        // In the order of the devices' row numbers, as an assignment goes through them.
        "CREATE INDEX device_of_profile_by_number ON device (device_profile_id)",
        """
        CREATE TABLE mass_assignment (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            device_profile_id BLOB NOT NULL REFERENCES device_profile (id) ON DELETE CASCADE,
            type TEXT NOT NULL CHECK (type IN ('FIRMWARE', 'SOFTWARE')),
            timestamp INTEGER NOT NULL,
            last_device INTEGER NOT NULL DEFAULT 0,
            UNIQUE (device_profile_id, type)
        ) STRICT
        """,
    ]
}
