import FoundationEssentials
import GRDB
public import Logging
public import NodeKit
public import OTA
import Synchronization
import Waiting

/// All that the host keeps: an SQLite database and the bytes of packages beside it.
///
/// One process has the folder open at a time. What a method wrote is on the disk when it returns. For tests there is one in memory,
/// see ``inMemory(sessions:options:logger:clock:now:)``.
public final class SQLiteStore: StoreEngine {
    let database: any DatabaseWriter
    let writer: GroupCommitWriter
    let storages: PackageStorages
    let blobs: PackageBlobs
    let room: DiskRoom?
    let keys: SigningKeys
    let caches: StoreCaches
    let hotPages = HotPages()
    let numbers = DeviceNumbers()
    let massAssignments: MassAssignments
    let statements: DeviceStatements
    let sessions: DeviceSessions
    let progress: ProgressCounter
    let tableCounts = TableCounts()
    let assignmentsAdded: Signal
    let queues = QueueTable()
    let updateEventsAdded: Signal
    /// Devices with stored calls that nobody carries yet.
    let newCalls = DeviceArrivals(interests: .calls)
    let now: @Sendable () -> Timestamp
    let clock: any Clock<Duration>
    /// The time by a clock that is never set.
    let uptime: @Sendable () -> Duration
    let times: ServerTimes
    let timeOfDay: Mutex<TimeOfDay>
    let clockLeap: Mutex<ClockLeap>
    let latestSeen: LatestSeen
    let pointsAhead = PointsAhead()
    let housework: Housework
    let options: Options
    let logger: Logger
    private let home: any StoreHome
    private let isRecovered = Atomic(false)

    /// What an operator decides about a store.
    public struct Options: Sendable {
        /// Where the bytes of packages that are uploaded go.
        public var packageStorage = PackageStorage.files
        /// How long what grows by itself is kept.
        public var retention = Retention()
        /// How far the `ts` of a device's report may lie ahead of the host's clock; `nil` for any.
        public var timestampAheadMax: Duration? = .seconds(86_400)
        /// Whether the group of the data folder may read it, but for the signing keys; otherwise the host's own user alone may.
        public var isGroupReadable = false
        /// How many bytes of the disk uploads leave free, for reports and deletions.
        public var reserveBytes = DiskRoom.reserveBytes
        /// A file with the key that all signing keys are derived from; `nil` for random ones, which are kept in the data folder.
        public var signingKeyFile: String?
        /// How long a write waits for another program that has the database locked.
        var lockTimeMax = LockWait.timeMax

        /// Options as they are if nothing is said.
        public init() {}
    }

    /// The least time that a host takes to start: so far ahead the times of points may be and need not be stored.
    static let startTimeMin = Duration.milliseconds(20)
    /// How long progress that was counted may be in memory only.
    static let progressInterval = Duration.seconds(2)
    /// Opens or makes the store in a folder.
    ///
    /// Brings the tables up to date, closes the folder to other users, and removes what uploads left that were cut off. Nothing else
    /// is removed; the bytes of packages that the database does not know are for ``StoreDoctor``.
    ///
    /// - Parameters:
    ///   - directory: The folder; made if it does not exist.
    ///   - sessions: Who is told of changes that concern connected devices.
    ///   - options: What an operator decides.
    ///   - logger: Hears of what an operator should know about the folder.
    ///   - clock: The clock for waiting.
    ///   - now: The time of day.
    /// - Returns: The store; close it with ``close()``.
    /// - Throws: ``NodeError`` with a sentence for the operator: the folder cannot be written, the file is not a database, a
    ///   newer version made it, another process has it open, or it knows no package while the folder has the bytes of some.
    public static func open(
        directory: String,
        sessions: DeviceSessions,
        options: Options = Options(),
        logger: Logger = SQLiteStore.silent,
        clock: any Clock<Duration> = ContinuousClock(),
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) async throws -> SQLiteStore {
        try await Self.open(
            directory: directory,
            sessions: sessions,
            options: options,
            logger: logger,
            clock: clock,
            now: now,
            system: POSIXFileSystem()
        )
    }

    static func open(
        directory: String,
        sessions: DeviceSessions,
        options: Options = Options(),
        logger: Logger = SQLiteStore.silent,
        clock: any Clock<Duration> = ContinuousClock(),
        now: @escaping @Sendable () -> Timestamp = { .now },
        system: any FileSystem
    ) async throws -> SQLiteStore {
        let folder = DataFolder(path: directory, isGroupReadable: options.isGroupReadable)
        let store = try await offEventLoop {
            let home = try FolderHome(folder, options: options, system: system, logger: logger)
            return try SQLiteStore(home, sessions: sessions, options: options, logger: logger, clock: clock, now: now)
        }
        do {
            try await store.storages.removeUnfinished()
            await store.removeUnused()
            try await store.read { db in try store.home.lookThrough(db) }
        } catch {
            await store.close()
            throw NodeError(storing: error)
        }
        // What fails now, as on a disk that is still full, is tried again in `run()`.
        await store.recover()
        return store
    }

    /// Writes nothing.
    public static let silent = Logger(label: "windlass.store") { _ in SwiftLogNoOpLogHandler() }

    init(
        _ home: any StoreHome,
        sessions: DeviceSessions,
        options: Options,
        logger: Logger,
        clock: any Clock<Duration>,
        now: @escaping @Sendable () -> Timestamp
    ) throws {
        self.home = home
        self.sessions = sessions
        self.options = options
        self.logger = logger
        self.housework = Housework(logger)
        let seen = LatestSeen()
        self.latestSeen = seen
        self.now = { seen.note(now()) }
        self.clock = clock
        self.uptime = Self.uptime(by: clock)
        self.caches = StoreCaches()
        self.assignmentsAdded = Signal()
        self.updateEventsAdded = Signal()
        self.keys = home.keys
        self.room = home.room
        // On a full disk, what comes next needs it.
        _ = home.room?.deletion.give()
        defer { home.room?.deletion.take() }
        self.progress = ProgressCounter(journal: home.openJournal(), now: self.now)
        let lockWait = LockWait(options.lockTimeMax)
        let timeMax = Self.latestTimeMax(self.now, ahead: options.timestampAheadMax)
        self.database = try home.openDatabase([timeMax], lockWait: lockWait)
        let start = self.now()
        let known = try self.database.read { db in try db.timeOfDay() }
        self.times = ServerTimes(after: known?.latestGiven)
        self.massAssignments = MassAssignments(times: self.times)
        self.statements = DeviceStatements(self.massAssignments)
        self.clockLeap = Mutex(ClockLeap(start, uptime: self.uptime()))
        self.timeOfDay = Mutex(
            TimeOfDay(start, uptime: self.uptime(), believed: known?.believed, doubted: known?.doubted ?? 0)
        )
        self.writer = GroupCommitWriter(
            database: self.database,
            applier: EffectApplier(
                caches: self.caches,
                numbers: self.numbers,
                times: self.times,
                progress: self.progress,
                assignments: self.assignmentsAdded,
                queues: self.queues,
                updateEvents: self.updateEventsAdded,
                massAssignments: self.massAssignments,
                sessions: sessions
            ),
            room: home.room?.deletion,
            lockWait: lockWait,
            isInline: home.isInline,
            beforeCommit: { [times, now = self.now] db in
                // A host that starts needs not know those that are past by then.
                let now = now()
                guard let latest = times.note(ahead: now.adding(Self.startTimeMin)) else { return }
                try db.store(latestGiven: latest, at: now)
            },
            now: self.now
        )
        self.blobs = PackageBlobs(self.database, self.writer)
        self.storages = PackageStorages(files: home.files, blobs: self.blobs, choice: options.packageStorage)
        do {
            try Self.addDefaultProfile(to: self.database, at: start)
            self.noteBroughtBack(try self.database.write { db in try db.bringBackTimes(to: start) })
            try self.database.read { db in self.massAssignments.look(db) }
        } catch {
            throw NodeError(storing: error)
        }
    }

    /// Makes every service of the store known to nodes.
    public func register(in registry: inout ServiceRegistry) {
        registry.register(self, as: (any OtaPackageService).self)
        registry.register(self, as: (any DeviceService).self)
        registry.register(self, as: (any DeviceProfileService).self)
        registry.register(self, as: (any DeviceCredentialsService).self)
        registry.register(self, as: (any DeviceAuthenticator).self)
        registry.register(self, as: (any DeviceProvisioningService).self)
        registry.register(self, as: (any AttributesService).self)
        registry.register(self, as: (any TimeseriesService).self)
        registry.register(self, as: (any UpdateService).self)
        registry.register(self, as: (any TenantService).self)
        registry.register(self, as: (any UpdateControlService).self)
        registry.register(self, as: (any StalledUpdateService).self)
        registry.register(self, as: (any UpdateRetryService).self)
        registry.register(self, as: (any UpdateEventService).self)
        registry.register(self, as: (any EntityQueryService).self)
        registry.register(self, as: (any PersistentCallService).self)
        registry.register(self, as: (any UserService).self)
        registry.register(self, as: (any ApiKeyService).self)
        registry.register(self, as: (any AuditService).self)
        registry.register(self, as: (any MessageQueues).self)
        registry.register(self.sessions, as: DeviceSessions.self)
    }

    /// Stores counted progress now and then, until the task is cancelled; then once more.
    ///
    /// Removes what is old meanwhile.
    /// Run it beside everything that uses the store.
    public func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keepHouse() }
            group.addTask { await self.runMassAssignments() }
            repeat {
                try? await self.clock.sleep(for: Self.progressInterval)
                // What was served before comes first: storing what was served since empties the file that has both.
                if await self.recover() { await self.housework.attempt(.progress) { try await self.storeProgress() } }
            } while !Task.isCancelled
        }
    }

    /// Stores what a process before this one had counted, unless that is done.
    ///
    /// - Returns: Whether it is done.
    @discardableResult
    private func recover() async -> Bool {
        guard !self.isRecovered.load(ordering: .relaxed) else { return true }
        guard await self.housework.attempt(.recovery, { try await self.storeRecovered() }) != nil else { return false }
        self.isRecovered.store(true, ordering: .relaxed)
        return true
    }

    /// Follows the clock and removes what nobody uses any more, or what is old, until the task is cancelled.
    private func keepHouse() async {
        var due = Removal.all.map { _ in self.uptime() }
        var timeOfDayDue = self.uptime()
        while !Task.isCancelled {
            if let room = self.room { try? await offEventLoop { room.deletion.take() } }
            await self.housework.attempt(.clock) { try await self.followClock() }
            for (index, removal) in Removal.all.enumerated() where self.uptime() >= due[index] {
                await self.housework.attempt(removal.work) { try await removal.carryOut(self) }
                due[index] = self.uptime() + removal.interval
            }
            if self.uptime() >= timeOfDayDue {
                await self.housework.attempt(.timeOfDay) { try await self.storeTimeOfDay() }
                timeOfDayDue = self.uptime() + Self.retentionInterval
            }
            try? await self.clock.sleep(for: Self.progressInterval)
        }
    }

    /// Waits for writes under way, refuses others, and lets go of the folder.
    ///
    /// May be called more than once.
    public func close() async {
        if !self.writer.isClosed { try? await self.storeTimeOfDay() }
        await self.writer.close()
        await self.home.close(self.database)
    }

    /// Reads the database as of one commit.
    ///
    /// Goes on when the task is cancelled: a request under way at shutdown still gets its answer.
    func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        if self.home.isInline { return try self.readAtOnce(body) }
        return try await self.database.readToEnd(body)
    }

    private func readAtOnce<Value>(_ body: (Database) throws -> Value) throws(NodeError) -> Value {
        guard !self.writer.isClosed else { throw NodeError(.unavailable, GroupCommitWriter.closed) }
        do {
            return try self.database.read(body)
        } catch {
            throw NodeError(storing: error)
        }
    }

    /// Removes in a transaction, also on a full disk, and returns when that is committed; see ``GroupCommitWriter``.
    func remove<Value: Sendable>(
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Value
    ) async throws -> Value {
        try await self.writer.remove(body)
    }

    /// Writes in a transaction and returns when it is committed; see ``GroupCommitWriter``.
    func write<Value: Sendable>(
        repeatable: Bool = false,
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Value
    ) async throws -> Value {
        try await self.writer.write(repeatable: repeatable, body)
    }
}

extension SQLiteStore {
    private static func addDefaultProfile(to database: any DatabaseWriter, at now: Timestamp) throws {
        try database.write { db in
            let has = "SELECT 1 FROM device_profile WHERE tenant_id = ? AND is_default = 1"
            guard try !db.exists(has, [TenantId.main.uuid]) else { return }
            try db.insert(DeviceProfileRules.first(of: .main, at: now))
        }
    }
}
