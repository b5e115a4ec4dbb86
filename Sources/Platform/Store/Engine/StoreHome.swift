import GRDB

/// Where a store lives, which is all that differs between one in a folder and one in memory.
protocol StoreHome: Sendable {
    /// The keys that logins and links are signed with.
    var keys: SigningKeys { get }
    /// How much of the disk is kept free; `nil` if there is no disk.
    var room: DiskRoom? { get }
    /// The bytes of packages that are not in the database.
    var files: any ByteStorage { get }
    /// Whether whoever reads or writes does it on their own thread and goes on when it is done.
    var isInline: Bool { get }
    /// The file that keeps what was served and is not in the database yet; `nil` to keep that in memory alone.
    func openJournal() -> ServedJournal?
    /// Opens the database and brings its tables up to date.
    ///
    /// - Parameters:
    ///   - functions: What statements of the store may call.
    ///   - lockWait: How connections wait for other programs.
    /// - Returns: The open database.
    /// - Throws: ``NodeError`` with a sentence for the operator, or an error of SQLite.
    func openDatabase(_ functions: [DatabaseFunction], lockWait: LockWait) throws -> any DatabaseWriter
    /// Looks at what is beside the open database and says in the log what an operator should know.
    func lookThrough(_ db: Database) throws
    /// Lets go of the database and all the rest; may be called more than once.
    func close(_ database: any DatabaseWriter) async
}

extension StoreHome {
    /// How every connection to the database is set up.
    static func configuration(_ functions: [DatabaseFunction]) -> GRDB.Configuration {
        var configuration = GRDB.Configuration()
        configuration.label = "windlass"
        configuration.prepareDatabase { db in
            // Undo logs of savepoints stay in memory.
            try db.execute(sql: "PRAGMA temp_store = MEMORY")
            for function in functions { db.add(function: function) }
        }
        return configuration
    }
}
