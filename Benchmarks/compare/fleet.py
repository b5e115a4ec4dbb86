"""Puts devices into a stopped host's database: a hundred thousand by the API would take longer than what is measured.

The statements keep to the schema of Sources/Platform/Store/Schema/Schema.swift, whose checks and foreign keys are on: a device
with a name and a profile, and an access token. Device `i` has the token `T` and seven digits, as the load generator expects.
"""
import sqlite3
import time


def database(data):
    connection = sqlite3.connect(f"{data}/windlass.sqlite", timeout=60, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def add_devices(data, count):
    """Makes devices of the default profile, beside those there are."""
    connection = database(data)
    present = connection.execute("SELECT count(*) FROM device").fetchone()[0]
    connection.execute("PRAGMA cache_size = -262144")
    connection.execute("BEGIN")
    connection.execute(
        """
        WITH RECURSIVE number (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM number WHERE i + 1 < ?2)
        INSERT INTO device (id, created_time, tenant_id, name, device_profile_id)
        SELECT randomblob(16), ?3, profile.tenant_id, printf('device %07d', i), profile.id
        FROM number, (SELECT id, tenant_id FROM device_profile WHERE is_default = 1) profile
        WHERE ?1 < ?2
        """,
        (present, count, int(time.time() * 1000)),
    )
    connection.execute(
        """
        INSERT INTO device_credentials (id, created_time, device, kind, credentials_id)
        SELECT randomblob(16), created_time, no, 'ACCESS_TOKEN', 'T' || substr(name, -7) FROM device
        WHERE no NOT IN (SELECT device FROM device_credentials)
        """
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def count(data, query):
    connection = database(data)
    try:
        return connection.execute(query).fetchone()[0]
    finally:
        connection.close()
