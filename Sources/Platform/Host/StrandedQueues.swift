import FoundationEssentials
import Logging
import NodeKit

/// Messages that wait where no running node lets them go on, as their node was renamed or taken out of its chain.
///
/// They stay: the node may be part of a chain file that is yet to come, or to come back.
struct StrandedQueues: Sendable {
    let queues: any MessageQueues
    /// The queues of the running nodes.
    let running: @Sendable () -> [QueueName]
    let logger: Logger

    /// Logs a warning for each such queue; called once for each time that chains were loaded.
    func warn() async {
        let waiting: [WaitingQueue]
        do {
            waiting = try await self.queues.waitingQueues()
        } catch {
            self.logger.warning("cannot look for messages without a node", metadata: ["error": "\(error)"])
            return
        }
        let running = Set(self.running().map(\.description))
        for queue in waiting where !running.contains(queue.name) {
            var metadata: Logger.Metadata = ["queue.name": "\(queue.name)", "queue.messages": "\(queue.count)"]
            if let oldest = queue.oldest {
                let date = Date(timeIntervalSince1970: Double(oldest.rawValue) / 1000)
                metadata["queue.oldest"] = "\(date.formatted(.iso8601))"
            }
            self.logger.warning(
                """
                messages wait in a queue whose node no running chain has; bring the node back, move them (windlass queue move) or \
                remove them (windlass queue drop)
                """,
                metadata: metadata
            )
        }
    }
}
