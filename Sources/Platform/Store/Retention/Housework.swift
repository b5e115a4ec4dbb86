import Logging
import NodeKit
import Synchronization

/// What the store does by itself, and what of it failed the last time.
final class Housework: Sendable {
    /// A task, in the words of the log.
    enum Work: String {
        case assignments = "assign the packages of profiles to their devices"
        case progress = "store what was served"
        case recovery = "store what was served before the last stop"
        case released = "remove the bytes of packages that are gone"
        case clock = "bring stored times back to where the clock is"
        case timeOfDay = "store the time of day"
        case timeseries = "remove old entries of time series"
        case history = "remove old lines of update histories"
        case audit = "remove old entries of the audit log"
    }

    private let failing = Mutex<Set<Work>>([])
    private let logger: Logger

    init(_ logger: Logger) { self.logger = logger }

    /// Does some work.
    ///
    /// What fails, as on a full disk, ends nothing and is tried again the next time. The log says it once until it works again.
    ///
    /// - Returns: What the work returned; `nil` if it failed.
    @discardableResult
    func attempt<Value>(_ work: Work, _ body: () async throws -> Value) async -> Value? {
        do {
            let value = try await body()
            if self.failing.withLock({ $0.remove(work) }) != nil {
                self.logger.notice("the store works again", metadata: ["store.work": "\(work.rawValue)"])
            }
            return value
        } catch is CancellationError {
            return nil
        } catch {
            if self.failing.withLock({ $0.insert(work).inserted }) {
                self.logger.error(
                    "the store could not do its own work and tries again",
                    metadata: ["store.work": "\(work.rawValue)", "error": "\(error)"]
                )
            }
            return nil
        }
    }
}
