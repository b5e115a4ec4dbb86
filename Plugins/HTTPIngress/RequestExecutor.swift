import NIOCore

/// Runs the tasks that answer the requests of a connection on its event loop, and each at once until it first waits.
///
/// Most answers wait for nothing. These are complete when ``start(_:)`` returns, without a way through the event loop's queue.
///
/// A task does not retain the executor that it prefers (SE-0417): keep it as long as the connection.
///
/// `@unchecked`: what changes is only touched on the event loop, which is checked each time.
final class RequestExecutor: TaskExecutor, @unchecked Sendable {
    private let eventLoop: any EventLoop
    private var isStarting = false

    /// Makes an executor of an event loop.
    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Begins a task and runs it until it ends or waits; call it on the event loop.
    func start(_ operation: @escaping @Sendable () async -> Void) {
        self.eventLoop.preconditionInEventLoop()
        self.isStarting = true
        // Not a child of the node's task, which may not touch the channel. It ends with the chain's answer, or for a long poll
        // with its time-out, the channel, or the node.
        Task(executorPreference: self, operation: operation)
    }

    /// Runs a job: the first of a task that is being started at once, others after what waits for the event loop already.
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if self.eventLoop.inEventLoop, self.isStarting {
            self.isStarting = false
            job.runSynchronously(on: self.asUnownedTaskExecutor())
        } else {
            self.eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
        }
    }
}
