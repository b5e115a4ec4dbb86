public import NIOCore

/// Runs tasks on one event loop, so that a message's way through the chain never leaves the thread that received its bytes.
///
/// A task does not retain the executor that it prefers (SE-0417): keep it as long as the connections that use it.
public final class EventLoopTaskExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    /// Makes an executor of an event loop.
    public init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Runs a job on the event loop, after what is already waiting there.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        self.eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
