import Dispatch
import GRDB
import NodeKit
import Synchronization

/// The one writer of the database: joins writes that come at the same time into one transaction.
///
/// A commit costs a sync of the disk, whatever is in it, so 64 devices that report at once share one. Each write is in a
/// savepoint of its own: one that throws undoes its own changes only. Every caller goes on after the commit, never before.
final class GroupCommitWriter: Sendable {
    /// The most writes in one transaction.
    static let batchMax = 4096
    /// The most writes that wait; more are refused as ``NodeError/Code/unavailable``, so that memory stays bounded.
    static let waitingMax = 100_000

    private struct State {
        var waiting: [any PendingWrite] = []
        var isDraining = false
        var isClosed = false
    }

    private let pool: DatabasePool
    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "windlass.store.writer", qos: .userInitiated)
    private let applier: EffectApplier

    init(pool: DatabasePool, applier: EffectApplier) {
        self.pool = pool
        self.applier = applier
    }

    /// Runs `body` in a transaction and returns when that is committed.
    ///
    /// Goes on when the task is cancelled: what was begun is done. `body` may be run on any thread, once.
    func write<Value: Sendable>(
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            self.enqueue(Write(body: body, continuation: continuation))
        }
    }

    /// Runs `body` in some transaction later; nobody waits for it.
    func writeLater(_ body: @escaping @Sendable (Database, inout Effects) throws -> Void) {
        self.enqueue(Write(body: body, continuation: nil))
    }

    /// Refuses writes from now on, and returns when those under way are committed.
    func close() async {
        self.state.withLock { $0.isClosed = true }
        // The queue is serial, so this comes after a drain that is under way.
        await withCheckedContinuation { continuation in
            self.queue.async { continuation.resume() }
        }
    }

    private func enqueue(_ write: any PendingWrite) {
        enum Decision { case drain, wait, refuse(String) }
        let decision: Decision = self.state.withLock { state in
            if state.isClosed { return .refuse("the store is closed; the host is shutting down") }
            if state.waiting.count >= Self.waitingMax {
                return .refuse(
                    "the store cannot take more: \(Self.waitingMax) writes wait for the disk; try again later"
                )
            }
            state.waiting.append(write)
            guard !state.isDraining else { return .wait }
            state.isDraining = true
            return .drain
        }
        switch decision {
        case .wait: break
        case .drain: self.queue.async { self.drain() }
        case .refuse(let reason): write.resume(failure: NodeError(.unavailable, reason))
        }
    }

    private func drain() {
        while true {
            let batch: [any PendingWrite] = self.state.withLock { state in
                guard state.waiting.count > Self.batchMax else {
                    defer { state.waiting = [] }
                    state.isDraining = !state.waiting.isEmpty
                    return state.waiting
                }
                defer { state.waiting.removeFirst(Self.batchMax) }
                return Array(state.waiting.prefix(Self.batchMax))
            }
            if batch.isEmpty { return }
            self.commit(batch)
        }
    }

    private func commit(_ batch: [any PendingWrite]) {
        self.pool.writeWithoutTransaction { db in
            var failure: (any Error)?
            do {
                try db.run("BEGIN IMMEDIATE")
                for write in batch { try self.runInSavepoint(write, db) }
                try db.run("COMMIT")
            } catch {
                failure = error
                if db.isInsideTransaction { try? db.execute(sql: "ROLLBACK") }
            }
            for write in batch { self.applier.apply(write.effects(committed: failure == nil), db) }
            for write in batch { write.resume(failure: failure.map(NodeError.init(storing:))) }
        }
    }

    /// Runs one write; throws only if the transaction as a whole cannot go on.
    private func runInSavepoint(_ write: any PendingWrite, _ db: Database) throws {
        try db.run("SAVEPOINT write")
        if !write.run(db) {
            // A full disk or a failing one may have ended the whole transaction already; then this throws.
            try db.run("ROLLBACK TO write")
        }
        try db.run("RELEASE write")
    }
}

/// A write that waits for its turn, whatever it returns.
private protocol PendingWrite: AnyObject, Sendable {
    /// Runs it and tells whether its changes are to be kept.
    func run(_ db: Database) -> Bool
    /// What is to be done beside the database now that the transaction has ended.
    func effects(committed: Bool) -> Effects
    /// Lets the caller go on: with `failure`, else with what ``run(_:)`` came to.
    func resume(failure: NodeError?)
}

/// `@unchecked`: `result` and `effects` are touched only by the thread that drains the queue, one at a time.
private final class Write<Value: Sendable>: PendingWrite, @unchecked Sendable {
    private let body: @Sendable (Database, inout Effects) throws -> Value
    private let continuation: CheckedContinuation<Value, any Error>?
    private var result: Result<Value, NodeError>?
    private var effects = Effects()

    init(
        body: @escaping @Sendable (Database, inout Effects) throws -> Value,
        continuation: CheckedContinuation<Value, any Error>?
    ) {
        self.body = body
        self.continuation = continuation
    }

    func run(_ db: Database) -> Bool {
        do {
            self.result = .success(try self.body(db, &self.effects))
            return true
        } catch {
            self.result = .failure(NodeError(storing: error))
            return false
        }
    }

    func effects(committed: Bool) -> Effects {
        if committed, case .success = self.result { return self.effects }
        return self.effects.ofFailure
    }

    func resume(failure: NodeError?) {
        if let failure {
            self.continuation?.resume(throwing: failure)
        } else if let result {
            self.continuation?.resume(with: result.mapError { $0 })
        } else {
            self.continuation?.resume(throwing: NodeError(.internalError, "a write ended without a result"))
        }
    }
}
