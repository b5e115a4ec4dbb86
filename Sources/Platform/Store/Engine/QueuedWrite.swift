import GRDB
import NodeKit
import Synchronization

/// A write that waits for its turn, and for whose end one caller may wait.
///
/// Not generic over what its caller gets, as for a hundred thousand a second the runtime would look for types that it knows; see
/// ``Returned``.
///
/// `@unchecked`: `effects` and `error` are touched only by the thread that drains the queue, until it has finished the write.
final class QueuedWrite: @unchecked Sendable {
    typealias Body = @Sendable (Database, inout Effects) throws -> Void

    private enum End {
        case pending
        case awaited(UnsafeContinuation<Void, Never>)
        case finished
    }

    /// How it may be run, and with which others.
    enum Kind: Sendable {
        /// Run once.
        case once
        /// May be run twice, since it changes nothing but the database and its effects.
        case repeatable
        /// The same, and it removes more than it adds: what is kept back for a full disk is there for it.
        case removing
    }

    let kind: Kind
    private let body: Body
    private var effects: Effects?
    /// What the last run threw, or why the transaction could not be committed.
    private(set) var error: NodeError?
    private let end = Mutex(End.pending)

    init(_ kind: Kind, body: @escaping Body) {
        self.kind = kind
        self.body = body
    }

    /// Runs it and tells whether its changes are to be kept.
    func run(_ db: Database) -> Bool {
        var effects = Effects()
        do {
            try self.body(db, &effects)
            self.error = nil
        } catch {
            self.error = NodeError(storing: error)
        }
        self.effects = effects.isEmpty ? nil : effects
        return self.error == nil
    }

    /// Adds what is to be done beside the database, now that the transaction has ended.
    func addEffects(to all: inout Effects, isCommitted: Bool) {
        guard isCommitted, self.error == nil, let effects = self.effects else { return }
        all.add(effects)
    }

    /// Lets the caller go on: with `failure`, else with what ``run(_:)`` came to.
    func finish(_ failure: NodeError?) {
        if let failure { self.error = failure }
        let waiter = self.end.withLock { end -> UnsafeContinuation<Void, Never>? in
            defer { end = .finished }
            guard case .awaited(let waiter) = end else { return nil }
            return waiter
        }
        waiter?.resume()
    }

    /// Returns when the transaction has ended; called at most once.
    ///
    /// - Throws: What the write threw, or why the transaction could not be committed.
    func stored() async throws(NodeError) {
        // What is stored with others is often over before anybody asks.
        if !self.isFinished {
            // Resumed once, as `finish(_:)` is called once and takes it under the lock.
            await withUnsafeContinuation { continuation in
                let isFinished = self.end.withLock { end in
                    if case .finished = end { return true }
                    end = .awaited(continuation)
                    return false
                }
                if isFinished { continuation.resume() }
            }
        }
        if let error = self.error { throw error }
    }

    private var isFinished: Bool {
        self.end.withLock { end in
            if case .finished = end { true } else { false }
        }
    }
}

/// What a write returns to its caller.
///
/// `@unchecked`: set by the thread that runs the write, and read after the write has finished.
final class Returned<Value: Sendable>: @unchecked Sendable {
    var value: Value?
}
