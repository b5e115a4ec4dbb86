import CSystemShims
import FoundationEssentials
import GRDB
import Logging
import NodeKit

extension SQLiteStore {
    static func openJournal(_ folder: DataFolder, _ logger: Logger) -> ServedJournal? {
        do {
            return try ServedJournal(path: folder.served, mode: folder.fileMode)
        } catch {
            logger.warning(
                "what is served to devices is not noted at once; after a crash a device may have to report its version",
                metadata: ["file": "\(folder.served)", "error": "\(error)"]
            )
            return nil
        }
    }

    /// Settings of SQLite itself, made once.
    private static let library: Void = windlass_sqlite_without_memory_counts()

    static func openDatabase(
        of folder: DataFolder,
        _ files: PackageFiles,
        keys: SigningKeys,
        lockWait: LockWait,
        system: any FileSystem,
        functions: [DatabaseFunction]
    ) throws -> DatabasePool {
        _ = Self.library
        let path = folder.database
        do {
            // Not even a new database is made beside files that it would not know.
            if try (system.size(path) ?? 0) == 0 { try Self.check(files.unknown(nil), in: folder, hasPackages: false) }
            try folder.makeDatabase(system)
            var configuration = GRDB.Configuration()
            configuration.label = "windlass"
            configuration.maximumReaderCount = Self.readersMax
            configuration.busyMode = .callback { lockWait.wait(tries: $0) }
            configuration.prepareDatabase { db in
                // Undo logs of savepoints stay in memory.
                try db.execute(sql: "PRAGMA temp_store = MEMORY")
                for function in functions { db.add(function: function) }
            }
            let pool = try DatabasePool(path: path, configuration: configuration)
            do {
                try Self.prepare(pool, of: folder, files, keys: keys)
            } catch {
                lockWait.end()
                try? Self.close(pool)
                throw error
            }
            return pool
        } catch let error as DatabaseError where error.resultCode == .SQLITE_NOTADB {
            throw NodeError(
                .conflict,
                "could not open the database '\(path)': the file is not a database; move it away or choose another folder with --data",
                cause: error
            )
        } catch let error as DatabaseError {
            throw NodeError(
                .unavailable,
                "could not open the database '\(path)': \(NodeError(storing: error).message)",
                cause: error
            )
        } catch let error as SystemError {
            throw NodeError(file: error, "could not open the database '\(path)'")
        }
    }

    /// Brings a database up to date, if it is one that this host may work on.
    private static func prepare(
        _ pool: DatabasePool,
        of folder: DataFolder,
        _ files: PackageFiles,
        keys: SigningKeys
    ) throws {
        try pool.writeWithoutTransaction { db in
            // GRDB sets NORMAL, which may lose the last commits when the power fails (sqlite.org/pragma.html#pragma_synchronous).
            try db.execute(sql: "PRAGMA synchronous = FULL")
            try db.execute(sql: "PRAGMA wal_autocheckpoint = \(Self.logPagesMax)")
            try db.execute(sql: "PRAGMA journal_size_limit = \(Self.logSizeMax)")
            try db.execute(sql: "PRAGMA cache_size = -16384")
        }
        let migrator = Schema.migrator
        if try pool.read(migrator.hasBeenSuperseded) {
            throw NodeError(
                .conflict,
                "could not open the database '\(folder.database)': a newer version of Windlass made it; use that version or a copy from before"
            )
        }
        // Before anything is changed in what may be another's.
        let (unknown, hasPackages) = try pool.read { db in
            let hasPackages = try db.tableExists("ota_package") && db.exists("SELECT 1 FROM ota_package LIMIT 1")
            return (hasPackages ? [] : try files.unknown(db), hasPackages)
        }
        try Self.check(unknown, in: folder, hasPackages: hasPackages)
        try pool.writeWithoutTransaction { db in try Self.moveKeys(to: keys, db) }
        try migrator.migrate(pool)
    }

    /// Refuses a database that knows no package beside files that are packages': it is new, or another's, and theirs is missing.
    private static func check(_ unknown: [String], in folder: DataFolder, hasPackages: Bool) throws(NodeError) {
        guard !hasPackages, !unknown.isEmpty else { return }
        throw Self.unknownPackages(unknown.count, in: folder, "open")
    }

    /// Says that the folder has the bytes of packages without their database, so it could not be opened, or what is named.
    static func unknownPackages(_ count: Int, in folder: DataFolder, _ what: String) -> NodeError {
        let count = count == 1 ? "a package" : "\(count) packages"
        return NodeError(
            .conflict,
            """
            could not \(what) the data folder '\(folder.path)': '\(folder.packages)' has the bytes of \(count), and the database \
            '\(folder.database)' is missing or knows no package; put the database back that belongs to them, or move \
            '\(folder.packages)' away to begin without them
            """
        )
    }

    /// Moves the keys that earlier versions kept in the database into their file, and wipes them out here.
    ///
    /// They are in the file before they go here, and here the table stays until they are gone from the log as well: cut off
    /// anywhere, this does the rest the next time.
    private static func moveKeys(to keys: SigningKeys, _ db: Database) throws {
        guard try db.tableExists("secret") else { return }
        var old: [String: [UInt8]] = [:]
        for row in try db.rows("SELECT name, value FROM secret") { old[row["name"]] = Array(row["value"] as Data) }
        try keys.adding(old)
        // What is deleted is overwritten with zeros (sqlite.org/pragma.html#pragma_secure_delete), in the log first; copying the
        // log into the database and emptying it removes the pages from before.
        try db.execute(sql: "PRAGMA secure_delete = ON")
        defer { try? db.execute(sql: "PRAGMA secure_delete = OFF") }
        try db.run("DELETE FROM secret")
        try db.checkpoint(.truncate)
    }

    /// Leaves all in one file, for whoever copies it, or puts another in its place: SQLite would take a log that stays beside it for
    /// that of the other.
    static func close(_ pool: DatabasePool) throws {
        _ = try? pool.writeWithoutTransaction { db in try db.checkpoint(.truncate) }
        try pool.close()
    }
}
