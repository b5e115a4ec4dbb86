import Synchronization

/// Tasks that outlive the call that begins them: counted, bounded, and ended with the host.
///
/// Work with a parent belongs in a task group. This is for work whose result nobody waits for, such as a message that no peer is
/// left for; and for the last step of something that must not stay half done, see ``withoutCancellation(_:)``.
public final class BackgroundTasks: Sendable {
    /// How many may be under way unless told otherwise.
    public static let countMax = 10_000

    private struct State {
        var nextID: UInt64 = 0
        var tasks: [UInt64: Task<Void, Never>] = [:]
        var isClosed = false
    }

    private let state = Mutex(State())
    private let countMax: Int
    private let executor: (any TaskExecutor)?

    /// Makes a set without tasks.
    ///
    /// - Parameters:
    ///   - countMax: How many may be under way.
    ///   - executor: Where tasks run that name no executor; that of all others if `nil`. A test in virtual time passes its own.
    public init(countMax: Int = BackgroundTasks.countMax, executor: (any TaskExecutor)? = nil) {
        self.countMax = countMax
        self.executor = executor
    }

    /// How many are under way.
    public var count: Int { self.state.withLock { $0.tasks.count } }

    /// Starts a task.
    ///
    /// - Parameters:
    ///   - executor: Where it runs; must live as long as the task.
    ///   - body: What it does. It should end soon after it is cancelled.
    /// - Returns: `false` if it was not started: as many are under way as may be, or the host stops.
    @discardableResult
    public func spawn(on executor: (any TaskExecutor)? = nil, _ body: @escaping @Sendable () async -> Void) -> Bool {
        self.state.withLock { state in
            guard !state.isClosed, state.tasks.count < self.countMax else { return false }
            let id = state.nextID
            state.nextID += 1
            // Its end waits for the lock, so the task is in the table by then.
            state.tasks[id] = Task(executorPreference: executor ?? self.executor) {
                await body()
                self.state.withLock { $0.tasks[id] = nil }
            }
            return true
        }
    }

    /// Runs `body` to its end, also when the task that calls this is cancelled.
    ///
    /// For what has to be noted although the host is stopping, such as that the chain is done with a message.
    public func withoutCancellation<Value: Sendable>(
        _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        try await NodeKit.withoutCancellation(on: self.executor, body)
    }

    /// Returns when none is under way.
    public func finished() async {
        while let task = self.state.withLock({ $0.tasks.first?.value }) { await task.value }
    }

    /// Starts none from now on, cancels those under way, and returns when all have ended.
    public func close() async {
        let tasks = self.state.withLock { state in
            state.isClosed = true
            return Array(state.tasks.values)
        }
        for task in tasks { task.cancel() }
        await self.finished()
    }
}

/// Runs `body` to its end, also when the task that calls this is cancelled, and returns what it returns.
///
/// - Parameters:
///   - executor: Where it runs; that of all others if `nil`.
///   - body: What must not be cut off; the caller waits for it.
/// - Returns: What `body` returned.
/// - Throws: What `body` threw.
public func withoutCancellation<Value: Sendable>(
    on executor: (any TaskExecutor)? = nil,
    _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await Task(executorPreference: executor) { try await body() }.value
}
