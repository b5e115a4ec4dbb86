import GRDB

/// The tables, as a list of steps from one version to the next.
///
/// A step that was shipped is never edited. Identifiers of entities are UUIDs as 16 bytes; tables with many rows refer to a
/// device by its small row number. A value of any JSON type is stored as its `kind` (0 boolean, 1 integer, 2 decimal,
/// 3 string, 4 object or array as text) and its `value`. Times are milliseconds since 1970-01-01 UTC.
enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        for (name, statements) in Self.versions {
            migrator.registerMigration(name) { db in
                for statement in statements { try db.execute(sql: statement) }
                if name == "13" { try Self.fillQueues(db) }
            }
        }
        return migrator
    }

    private static let versions = [
        ("1", Self.version1), ("2", Self.version2), ("3", Self.version3), ("4", Self.version4), ("5", Self.version5),
        ("7", Self.version7), ("8", Self.version8), ("9", Self.version9), ("10", Self.version10),
        ("11", Self.version11), ("12", Self.version12), ("13", Self.version13),
    ]
}
