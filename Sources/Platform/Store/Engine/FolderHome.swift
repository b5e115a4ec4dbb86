import CSystemShims
import FoundationEssentials
import GRDB
import Logging
import NodeKit
import Synchronization

/// A store in a folder: an SQLite database in WAL mode, and files beside it.
final class FolderHome: StoreHome {
    let keys: SigningKeys
    let room: DiskRoom?
    let files: any ByteStorage
    let isInline = false
    private let packages: PackageFiles
    private let folder: DataFolder
    private let system: any FileSystem
    private let logger: Logger
    private let lock: Mutex<DirectoryLock?>

    /// Takes the lock of the folder, which is made if it does not exist.
    init(
        _ folder: DataFolder,
        options: SQLiteStore.Options,
        system: any FileSystem,
        logger: Logger
    ) throws {
        self.folder = folder
        self.system = system
        self.logger = logger
        self.lock = Mutex(try folder.open(logger))
        self.keys = try SigningKeys(in: folder, givenFile: options.signingKeyFile, system: system, logger: logger)
        self.room = DiskRoom(folder, reserve: options.reserveBytes, system: system)
        self.packages = PackageFiles(directory: folder.packages, system: system, fileMode: folder.fileMode)
        self.files = self.packages
    }

    /// The most connections for reading.
    private static let readersMax = 4
    /// After how many pages the write-ahead log is copied into the database and begins anew.
    ///
    /// Each copying syncs the disk twice, while a page that changes all the time is copied once. It is about as many as the first
    /// block of the log's index holds, where pages are found quickest (sqlite.org/walformat.html, "The WAL-Index File Format").
    private static let logPagesMax = 4000
    /// The most bytes that the write-ahead log keeps on the disk when it is idle.
    private static let logSizeMax = 64 * 1024 * 1024

    func openJournal() -> ServedJournal? {
        do {
            return try ServedJournal(path: self.folder.served, mode: self.folder.fileMode)
        } catch {
            self.logger.warning(
                "what is served to devices is not noted at once; after a crash a device may have to report its version",
                metadata: ["file": "\(self.folder.served)", "error": "\(error)"]
            )
            return nil
        }
    }

    /// Settings of SQLite itself, made once.
    private static let library: Void = windlass_sqlite_without_memory_counts()

    func openDatabase(_ functions: [DatabaseFunction], lockWait: LockWait) throws -> any DatabaseWriter {
        _ = Self.library
        let path = self.folder.database
        do {
            // Not even a new database is made beside files that it would not know.
            if try (self.system.size(path) ?? 0) == 0 { try self.check(self.packages.named(), hasPackages: false) }
            try self.folder.makeDatabase(self.system)
            var configuration = Self.configuration(functions)
            configuration.maximumReaderCount = Self.readersMax
            configuration.busyMode = .callback { lockWait.wait(tries: $0) }
            let pool = try DatabasePool(path: path, configuration: configuration)
            do {
                try self.prepare(pool)
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
    private func prepare(_ pool: DatabasePool) throws {
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
                "could not open the database '\(self.folder.database)': a newer version of Windlass made it; use that version or a copy from before"
            )
        }
        // Before anything is changed in what may be another's.
        let (unknown, hasPackages) = try pool.read { db in
            let hasPackages = try db.tableExists("ota_package") && db.exists("SELECT 1 FROM ota_package LIMIT 1")
            return (hasPackages ? [] : try db.unknown(self.packages.named()), hasPackages)
        }
        try self.check(unknown, hasPackages: hasPackages)
        try pool.writeWithoutTransaction { db in try self.moveKeys(db) }
        try migrator.migrate(pool)
    }

    /// Refuses a database that knows no package beside files that are packages': it is new, or another's, and theirs is missing.
    private func check(_ unknown: [String], hasPackages: Bool) throws(NodeError) {
        guard !hasPackages, !unknown.isEmpty else { return }
        throw Self.unknownPackages(unknown.count, in: self.folder, "open")
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
    private func moveKeys(_ db: Database) throws {
        guard try db.tableExists("secret") else { return }
        var old: [String: [UInt8]] = [:]
        for row in try db.rows("SELECT name, value FROM secret") { old[row["name"]] = Array(row["value"] as Data) }
        try self.keys.adding(old)
        // What is deleted is overwritten with zeros (sqlite.org/pragma.html#pragma_secure_delete), in the log first; copying the
        // log into the database and emptying it removes the pages from before.
        try db.execute(sql: "PRAGMA secure_delete = ON")
        defer { try? db.execute(sql: "PRAGMA secure_delete = OFF") }
        try db.run("DELETE FROM secret")
        try db.checkpoint(.truncate)
    }

    /// Says in the log which files of packages the database does not know.
    func lookThrough(_ db: Database) throws {
        let unknown = try db.unknown(self.packages.named())
        guard !unknown.isEmpty else { return }
        self.logger.warning(
            "files in the folder 'packages' belong to no package; see 'windlass doctor'",
            metadata: ["data.files": "\(unknown.count)", "data.file": "\(unknown[0])"]
        )
    }

    /// Closes the database and gives up the folder, once.
    func close(_ database: any DatabaseWriter) async {
        guard let lock = self.lock.withLock({ $0.take() }) else { return }
        // An error means that something still reads; the connections then close with the last reader.
        try? await offEventLoop { try Self.close(database) }
        // The folder is somebody else's from here on.
        withExtendedLifetime(lock) {}
    }

    /// Leaves all in one file, for whoever copies it, or puts another in its place: SQLite would take a log that stays beside it for
    /// that of the other.
    private static func close(_ pool: any DatabaseWriter) throws {
        _ = try? pool.writeWithoutTransaction { db in try db.checkpoint(.truncate) }
        try pool.close()
    }
}
