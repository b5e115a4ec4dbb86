import Dispatch
import GRDB
import GRDBSQLite
import NodeKit
import OTA
import Synchronization

/// The one writer of the database: joins writes that come at the same time into one transaction.
///
/// A commit costs a sync of the disk, whatever is in it, so 64 devices that report at once share one. A write that throws
/// undoes its own changes only. Every caller goes on after the commit, never before; writes are carried out in the order in
/// which they came.
///
/// To undo one write among others takes a savepoint around each, which costs two statements and a copy of every page that the
/// write changes. Writes that devices cause all the time, and which hardly ever fail once they have begun to change
/// something, are therefore declared *repeatable*: they share a transaction without savepoints, and should one of them fail
/// half, the transaction is undone and all of them are run once more, with savepoints. Writes that *remove* are repeatable and have
/// transactions of their own, so that they succeed on a full disk, with the room that is kept back for them.
///
/// While another program has the database locked, writes wait (``LockWait``). If that takes too long, those are refused that waited
/// all the time, so no write waits for a lock longer than twice as long, and what waits stays within ``waitingMax``.
final class GroupCommitWriter: Sendable {
    /// The most writes in one transaction.
    static let batchMax = 4096
    /// How long a transaction waits for those that wrote in the one before.
    static let gatherTime = Duration.milliseconds(2)
    /// The most writes that wait; more are refused as ``NodeError/Code/unavailable``, so that memory stays bounded.
    ///
    /// Twice as many as 10,000 reports a second are in the 5 s for which another program may lock the database.
    static let waitingMax = 100_000

    /// Why a closed store refuses to write.
    static let closed = "the store is closed; the host is shutting down"

    private struct State {
        var waiting: [QueuedWrite] = []
        var isDraining = false
        var isClosed = false
        /// How many writes the thread that drains the queue waits for, if it does.
        var wantedCount: Int?

        /// Takes the writes that come next and may share a transaction, at most so many; `nil` if there are none, and then the draining ends.
        mutating func takeBatch(_ countMax: Int) -> (writes: [QueuedWrite], behindCount: Int)? {
            guard let writes = self.takeWrites(countMax) else { return nil }
            return (writes, self.waiting.count)
        }

        private mutating func takeWrites(_ countMax: Int) -> [QueuedWrite]? {
            guard let first = self.waiting.first else {
                self.isDraining = false
                return nil
            }
            // Those that are not repeatable must not be run again because of others.
            let end = self.waiting.prefix(countMax).firstIndex { $0.kind != first.kind }
            let count = end ?? min(self.waiting.count, countMax)
            guard count < self.waiting.count else {
                defer { self.waiting = [] }
                return self.waiting
            }
            defer { self.waiting.removeFirst(count) }
            return Array(self.waiting.prefix(count))
        }
    }

    private let database: any DatabaseWriter
    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "windlass.store.writer", qos: .userInitiated)
    private let applier: EffectApplier
    private let room: DeletionRoom?
    private let lockWait: LockWait
    let counters = CommitCounters()
    private let gatherTime: Duration
    private let isInline: Bool
    private let beforeCommit: @Sendable (Database) throws -> Void
    private let now: @Sendable () -> Timestamp
    /// Raised when as many writes wait as are wanted.
    private let gathered = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - database: The database.
    ///   - applier: Who carries out the effects of writes.
    ///   - room: What is kept back for writes that remove; `nil` if nothing is.
    ///   - lockWait: How the connections of `database` wait for other programs.
    ///   - gatherTime: See ``gatherTime``.
    ///   - isInline: Whether writes are carried out one by one, each by the thread that asks for it, before it goes on; only those
    ///     that others ask for meanwhile come after it.
    ///   - beforeCommit: Writes what each transaction is to have besides.
    ///   - now: The time of day.
    init(
        database: any DatabaseWriter,
        applier: EffectApplier,
        room: DeletionRoom? = nil,
        lockWait: LockWait = LockWait(),
        gatherTime: Duration = GroupCommitWriter.gatherTime,
        isInline: Bool = false,
        beforeCommit: @escaping @Sendable (Database) throws -> Void = { _ in },
        now: @escaping @Sendable () -> Timestamp
    ) {
        self.database = database
        self.applier = applier
        self.room = room
        self.lockWait = lockWait
        self.gatherTime = gatherTime
        self.isInline = isInline
        self.beforeCommit = beforeCommit
        self.now = now
    }

    /// Runs `body` in a transaction and returns when that is committed.
    ///
    /// Goes on when the task is cancelled: what was begun is done.
    ///
    /// - Parameters:
    ///   - repeatable: Whether `body` may be run twice, since it changes nothing but the database and its effects. Otherwise
    ///     it is run once. Either way on any thread.
    ///   - body: What to write; what it throws undoes it and is thrown to the caller.
    /// - Returns: What `body` returned.
    /// - Throws: ``NodeError``: that of `body`, or why the transaction could not be committed.
    func write<Value: Sendable>(
        repeatable: Bool = false,
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Value
    ) async throws -> Value {
        try await self.write(repeatable ? .repeatable : .once, body)
    }

    /// Runs `body`, which removes more than it adds, as ``write(repeatable:_:)`` does what is repeatable, and also on a full disk.
    func remove<Value: Sendable>(
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Value
    ) async throws -> Value {
        try await self.write(.removing, body)
    }

    private func write<Value: Sendable>(
        _ kind: QueuedWrite.Kind,
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Value
    ) async throws -> Value {
        let returned = Returned<Value>()
        let write = QueuedWrite(kind) { db, effects in returned.value = try body(db, &effects) }
        self.enqueue(write)
        try await write.stored()
        guard let value = returned.value else {
            throw NodeError(.internalError, "a write ended without a result")
        }
        return value
    }

    /// Puts a repeatable `body` in line and returns at once; what comes of it is in the write that is returned.
    func begin(_ body: @escaping @Sendable (Database, inout Effects) throws -> Void) -> PendingWrite {
        let write = QueuedWrite(.repeatable, body: body)
        self.enqueue(write)
        return PendingWrite { try await write.stored() }
    }

    /// Runs `body` in some transaction later; nobody waits for it.
    func writeLater(
        repeatable: Bool = false,
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Void
    ) {
        self.enqueue(QueuedWrite(repeatable ? .repeatable : .once, body: body))
    }

    /// How many writes wait for their turn.
    var waitingCount: Int { self.state.withLock { $0.waiting.count } }

    /// Whether writes are refused because the store is closed.
    var isClosed: Bool { self.state.withLock { $0.isClosed } }

    /// Refuses writes from now on, and returns when those under way are committed.
    func close() async {
        let isGathering = self.state.withLock { state in
            state.isClosed = true
            defer { state.wantedCount = nil }
            return state.wantedCount != nil
        }
        if isGathering { self.gathered.signal() }
        self.lockWait.end()
        // The queue is serial, so this comes after a drain that is under way.
        await withCheckedContinuation { continuation in
            self.queue.async { continuation.resume() }
        }
    }

    private func enqueue(_ write: QueuedWrite) {
        enum Decision { case drain, wait, begin, refuse(String) }
        let decision: Decision = self.state.withLock { state in
            if state.isClosed { return .refuse(Self.closed) }
            if state.waiting.count >= Self.waitingMax {
                return .refuse(
                    "the store cannot take more: \(Self.waitingMax) writes wait for the disk; try again later"
                )
            }
            state.waiting.append(write)
            if let wanted = state.wantedCount, state.waiting.count >= wanted {
                state.wantedCount = nil
                return .begin
            }
            guard !state.isDraining else { return .wait }
            state.isDraining = true
            return .drain
        }
        switch decision {
        case .wait: break
        case .begin: self.gathered.signal()
        // A serial queue runs what is waited for on the thread that waits.
        case .drain where self.isInline: self.queue.sync { self.drain() }
        case .drain: self.queue.async { self.drain() }
        case .refuse(let reason): write.finish(NodeError(.unavailable, reason))
        }
    }

    private func drain() {
        while let batch = self.state.withLock({ $0.takeBatch(self.isInline ? 1 : Self.batchMax) }) {
            if let locked = self.commit(batch.writes) { self.refuse(batch.behindCount, locked) }
            if batch.writes.count > 1, !self.isInline { self.gather(batch.writes.count) }
        }
    }

    /// Refuses the writes that wait longest.
    private func refuse(_ count: Int, _ reason: NodeError) {
        let refused = self.state.withLock { state in
            defer { state.waiting.removeFirst(count) }
            return Array(state.waiting.prefix(count))
        }
        for write in refused { write.finish(reason) }
    }

    /// Waits until as many writes have come as there were in the transaction before.
    ///
    /// Most of those who go on after a commit soon write again. Without a pause the first of them would have the next
    /// transaction for itself, and a commit costs as much as many writes; whoever writes alone never waits.
    private func gather(_ count: Int) {
        let isComplete = self.state.withLock { state in
            if state.waiting.count < count, !state.isClosed { state.wantedCount = count }
            return state.wantedCount == nil
        }
        guard !isComplete, self.gathered.wait(timeout: .now() + self.gatherTime.dispatched) == .timedOut else { return }
        let cameLate = self.state.withLock { state in
            defer { state.wantedCount = nil }
            return state.wantedCount == nil
        }
        if cameLate { self.gathered.wait() }
    }

    /// Ends some writes; returns why, if another program has the database locked.
    private func commit(_ batch: [QueuedWrite]) -> NodeError? {
        self.database.writeWithoutTransaction { db in
            let start = DispatchTime.now()
            var failure = self.failure(of: batch, db)
            if batch[0].kind == .removing, failure.map(Self.isWithoutRoom) == true, self.room?.give() == true {
                failure = self.failure(of: batch, db)
            }
            self.counters.ended(since: start, writes: batch.count, isCommitted: failure == nil)
            if failure != nil { self.applier.undone() }
            var effects = Effects()
            for write in batch { write.addEffects(to: &effects, isCommitted: failure == nil) }
            for push in self.applier.apply(effects, db) {
                // Until then it counts as missed: a device is rather told twice than not at all.
                self.writeLater(repeatable: true) { [now] db, _ in try push.store(db, at: now()) }
            }
            // Of what was removed, before anything else is written.
            if batch[0].kind == .removing { self.room?.take() }
            let error = failure.map(NodeError.init(storing:))
            for write in batch { write.finish(error) }
            return (failure as? DatabaseError)?.resultCode == .SQLITE_BUSY ? error : nil
        }
    }

    /// Runs writes in a transaction; returns what failed, if it could not be committed.
    private func failure(of batch: [QueuedWrite], _ db: Database) -> (any Error)? {
        do {
            let isCommitted = try batch[0].kind != .once && self.commitTogether(batch, db)
            if !isCommitted { try self.commitApart(batch, db) }
            return nil
        } catch {
            if db.isInsideTransaction { try? db.execute(sql: "ROLLBACK") }
            return error
        }
    }

    /// Ends the transaction if a write that removes failed for want of room, so that all of it can be run again.
    private static func checkRoom(_ write: QueuedWrite) throws {
        if write.kind == .removing, let error = write.error, Self.isWithoutRoom(error) { throw error }
    }

    /// Whether a full disk may be the reason: the index beside the log, which is mapped into memory, has an error of its own
    /// (sqlite.org/rescode.html, SQLITE_IOERR_SHMSIZE).
    private static func isWithoutRoom(_ error: any Error) -> Bool {
        switch (error as? DatabaseError)?.resultCode ?? ((error as? NodeError)?.cause as? DatabaseError)?.resultCode {
        case .SQLITE_FULL?, .SQLITE_IOERR?: true
        default: false
        }
    }

    /// Commits repeatable writes without a savepoint around each.
    ///
    /// - Returns: `false` if one of them failed half, in which case nothing at all was changed.
    private func commitTogether(_ batch: [QueuedWrite], _ db: Database) throws -> Bool {
        try db.run("BEGIN IMMEDIATE")
        for write in batch {
            let changesCount = sqlite3_total_changes(db.sqliteConnection)
            guard !write.run(db) else { continue }
            try Self.checkRoom(write)
            // A full disk or a failing one may have ended the whole transaction already (sqlite.org/lang_transaction.html,
            // "Response To Errors Within A Transaction").
            guard db.isInsideTransaction else { throw write.error ?? Self.endedEarly }
            // Most of those that fail look before they change anything, such as for a device that is gone.
            guard sqlite3_total_changes(db.sqliteConnection) == changesCount else {
                try db.run("ROLLBACK")
                self.applier.undone()
                return false
            }
        }
        try self.beforeCommit(db)
        try db.run("COMMIT")
        return true
    }

    /// Commits writes of which each is undone by itself if it fails.
    private func commitApart(_ batch: [QueuedWrite], _ db: Database) throws {
        try db.run("BEGIN IMMEDIATE")
        for write in batch {
            try db.run("SAVEPOINT write")
            if !write.run(db) {
                try Self.checkRoom(write)
                // A full disk or a failing one may have ended the whole transaction already; then this throws.
                try db.run("ROLLBACK TO write")
                self.applier.progress.undone()
            }
            try db.run("RELEASE write")
        }
        try self.beforeCommit(db)
        try db.run("COMMIT")
    }

    private static let endedEarly = NodeError(.internalError, "the database ended a transaction by itself")
}

extension Duration {
    /// The same as Dispatch has it.
    fileprivate var dispatched: DispatchTimeInterval {
        let (seconds, attoseconds) = self.components
        return .nanoseconds(Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000))
    }
}
