extension Schema {
    /// Files of packages that may be there although no package uses them, so that a host that was cut off between a row and a file
    /// knows the file again; and no keys that sign, which are in a file of their own by the time that this runs.
    static let version9 = [
        """
        CREATE TABLE unused_file (
            sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64)
        ) STRICT, WITHOUT ROWID
        """,
        "DROP TABLE secret",
    ]
}
