import GRDB

/// The tables, as a list of steps from one version to the next.
///
/// A step that was shipped is never edited. Identifiers of entities are UUIDs as 16 bytes; tables with many rows refer to a
/// device by its small row number. A value of any JSON type is stored as its `kind` (0 boolean, 1 integer, 2 decimal,
/// 3 string, 4 object or array as text) and its `value`. Times are milliseconds since 1970-01-01 UTC.
enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { db in
            for statement in Self.version1 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("2") { db in
            for statement in Self.version2 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("3") { db in
            for statement in Self.version3 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("4") { db in
            for statement in Self.version4 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("5") { db in
            for statement in Self.version5 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("7") { db in
            for statement in Self.version7 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("8") { db in
            for statement in Self.version8 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("9") { db in
            for statement in Self.version9 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("10") { db in
            for statement in Self.version10 { try db.execute(sql: statement) }
        }
        migrator.registerMigration("11") { db in
            for statement in Self.version11 { try db.execute(sql: statement) }
        }
        return migrator
    }
}
