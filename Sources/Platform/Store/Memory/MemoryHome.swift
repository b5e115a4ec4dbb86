import GRDB
public import Logging
public import NodeKit
public import OTA

/// A store in memory: a copy of a database that has its tables, and the bytes of packages beside it.
struct MemoryHome: StoreHome {
    let keys = SigningKeys()
    let room: DiskRoom? = nil
    let files: any ByteStorage = MemoryPackages()
    let isInline = true

    /// Made once in a process: to make the tables takes longer than most tests, and to copy them a fraction of a millisecond.
    private static let template = Result {
        let database = try DatabaseQueue()
        try Schema.migrator.migrate(database)
        return database
    }

    func openJournal() -> ServedJournal? { nil }

    func openDatabase(_ functions: [DatabaseFunction], lockWait: LockWait) throws -> any DatabaseWriter {
        let database = try DatabaseQueue(configuration: Self.configuration(functions))
        try Self.template.get().backup(to: database)
        return database
    }

    func lookThrough(_ db: Database) {}

    /// Does nothing: the memory goes with the store, which answers nothing from here on.
    func close(_ database: any DatabaseWriter) {}
}

extension SQLiteStore {
    /// Makes an empty store in memory, for tests: with the tables, statements and rules of one in a folder.
    ///
    /// Whoever reads or writes does it on their own thread and goes on when it is done and committed, and the store knows no other
    /// time than those it is given. So what a test does comes out the same each time.
    ///
    /// - Parameters:
    ///   - sessions: Who is told of changes that concern connected devices.
    ///   - options: What an operator decides.
    ///   - logger: Hears of what an operator should know.
    ///   - clock: The clock for waiting.
    ///   - now: The time of day.
    /// - Returns: The store; it goes with the last reference.
    /// - Throws: ``NodeError`` if SQLite has no memory.
    public static func inMemory(
        sessions: DeviceSessions,
        options: Options = Options(),
        logger: Logger = SQLiteStore.silent,
        clock: any Clock<Duration>,
        now: @escaping @Sendable () -> Timestamp
    ) throws -> SQLiteStore {
        do {
            return try SQLiteStore(
                MemoryHome(),
                sessions: sessions,
                options: options,
                logger: logger,
                clock: clock,
                now: now
            )
        } catch {
            throw NodeError(storing: error)
        }
    }
}
