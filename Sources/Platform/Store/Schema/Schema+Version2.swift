extension Schema {
    /// How devices are provisioned was kept among a profile's settings before, where nothing made a key unique: of several
    /// profiles with the same key the oldest one keeps it.
    static let version2 = [
        """
        ALTER TABLE device_profile ADD COLUMN provision_type TEXT NOT NULL DEFAULT 'DISABLED' CHECK (provision_type IN
            ('DISABLED', 'ALLOW_CREATE_NEW_DEVICES', 'CHECK_PRE_PROVISIONED_DEVICES', 'X509_CERTIFICATE_CHAIN'))
        """,
        """
        ALTER TABLE device_profile ADD COLUMN provision_device_key TEXT
            CHECK (length(provision_device_key) BETWEEN 1 AND 255)
        """,
        """
        ALTER TABLE device_profile ADD COLUMN provision_device_secret TEXT
            CHECK (length(provision_device_secret) BETWEEN 1 AND 255)
        """,
        """
        UPDATE device_profile SET provision_type = settings ->> '$.provisionType'
        WHERE settings ->> '$.provisionType' IN
            ('ALLOW_CREATE_NEW_DEVICES', 'CHECK_PRE_PROVISIONED_DEVICES', 'X509_CERTIFICATE_CHAIN')
        """,
        """
        UPDATE device_profile SET provision_device_key = settings ->> '$.provisionDeviceKey'
        WHERE json_type(settings, '$.provisionDeviceKey') = 'text'
            AND length(settings ->> '$.provisionDeviceKey') BETWEEN 1 AND 255
            AND NOT EXISTS (
                SELECT 1 FROM device_profile older
                WHERE older.settings ->> '$.provisionDeviceKey' = device_profile.settings ->> '$.provisionDeviceKey'
                    AND (older.created_time, older.id) < (device_profile.created_time, device_profile.id))
        """,
        """
        UPDATE device_profile
        SET provision_device_secret = settings ->> '$.profileData.provisionConfiguration.provisionDeviceSecret'
        WHERE json_type(settings, '$.profileData.provisionConfiguration.provisionDeviceSecret') = 'text'
            AND length(settings ->> '$.profileData.provisionConfiguration.provisionDeviceSecret') BETWEEN 1 AND 255
        """,
        """
        UPDATE device_profile SET settings = json_remove(settings, '$.provisionType', '$.provisionDeviceKey',
            '$.profileData.provisionConfiguration.type', '$.profileData.provisionConfiguration.provisionDeviceSecret')
        """,
        """
        CREATE UNIQUE INDEX device_profile_provision_key ON device_profile (provision_device_key)
            WHERE provision_device_key IS NOT NULL
        """,
    ]
}
