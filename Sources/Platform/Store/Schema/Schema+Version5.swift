extension Schema {
    /// The bytes of packages whose host was told to keep them in the database.
    ///
    /// A row of 64 KiB goes over many pages, which a table without row numbers would not bear well
    /// (sqlite.org/withoutrowid.html).
    static let version5 = [
        """
        CREATE TABLE package_blob (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            state TEXT NOT NULL CHECK (state IN ('INCOMING', 'STORED', 'RELEASED')),
            chunk_bytes INTEGER NOT NULL CHECK (chunk_bytes BETWEEN 1 AND 1048576),
            sha256 TEXT UNIQUE CHECK (length(sha256) = 64),
            size INTEGER CHECK (size > 0),
            CHECK ((state = 'STORED') = (sha256 IS NOT NULL)),
            CHECK (state <> 'STORED' OR size IS NOT NULL)
        ) STRICT
        """,
        "CREATE INDEX package_blob_unused ON package_blob (state) WHERE state <> 'STORED'",
        """
        CREATE TABLE package_chunk (
            blob INTEGER NOT NULL REFERENCES package_blob (id) ON DELETE CASCADE,
            number INTEGER NOT NULL CHECK (number >= 0),
            bytes BLOB NOT NULL CHECK (length(bytes) BETWEEN 1 AND 1048576),
            PRIMARY KEY (blob, number)
        ) STRICT
        """,
    ]
}
