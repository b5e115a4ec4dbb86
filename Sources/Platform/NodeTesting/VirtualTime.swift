import Dispatch
import Synchronization

/// Runs tasks one after the other on one thread, and knows when none of them can go on.
///
/// All of a chain's tasks run here in a test, so it is quiet when each of them waits: for the clock, for a message, or for the test.
public final class TestExecutor: TaskExecutor {
    private struct State {
        var jobs: [UnownedJob] = []
        var isRunning = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "windlass.test")

    /// Makes an executor without tasks.
    public init() {}

    /// Takes a part of a task.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let isFirst = self.state.withLock { state in
            state.jobs.append(job)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if isFirst { self.queue.async { self.run() } }
    }

    private func run() {
        while true {
            let jobs = self.state.withLock { state in
                defer { state.jobs = [] }
                return state.jobs
            }
            for job in jobs { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
            let (isOver, waiters) = self.state.withLock { state -> (Bool, [CheckedContinuation<Void, Never>]) in
                guard state.jobs.isEmpty else { return (false, []) }
                state.isRunning = false
                defer { state.waiters = [] }
                return (true, state.waiters)
            }
            for waiter in waiters { waiter.resume() }
            if isOver { return }
        }
    }

    /// Returns when no task can go on by itself.
    public func idle() async {
        await withCheckedContinuation { continuation in
            let isIdle = self.state.withLock { state in
                if state.isRunning { state.waiters.append(continuation) }
                return !state.isRunning
            }
            if isIdle { continuation.resume() }
        }
    }
}

// MARK: Time that passes when the test says so

extension TestDomain {
    /// Starts what works on its own, such as the run of an ingress node or of a chain; ``idle()`` and ``pass(_:)`` wait for it.
    ///
    /// - Parameter body: What runs; cancel the task to end it.
    /// - Returns: The task.
    public func start<Value: Sendable>(
        _ body: @escaping @Sendable () async throws -> Value
    ) -> Task<Value, any Error> {
        Task(executorPreference: self.executor) { try await body() }
    }

    /// Returns when nothing that was started can go on before time passes or the test does something.
    public func idle() async { await self.executor.idle() }

    /// Lets time pass: to each time in between that someone waits for, one after the other, and whatever wakes there does all that it
    /// can before time goes on.
    ///
    /// - Parameter duration: How far; the time of day moves as far.
    public func pass(_ duration: Duration) async {
        await self.idle()
        let end = self.clock.now.advanced(by: duration)
        while let next = self.clock.nextDeadline, next < end {
            self.clock.advance(to: next)
            await self.idle()
        }
        self.clock.advance(to: end)
        await self.idle()
    }

    /// Lets time pass to the next time that someone waits for.
    ///
    /// - Returns: By how much that is; `nil` if nobody waits, and then no time passes.
    @discardableResult
    public func passToNextDeadline() async -> Duration? {
        await self.idle()
        guard let next = self.clock.nextDeadline else { return nil }
        let duration = self.clock.now.duration(to: next)
        self.clock.advance(to: next)
        await self.idle()
        return duration
    }
}
