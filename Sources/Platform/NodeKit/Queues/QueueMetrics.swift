/// The numbers of queues, under names that an engine and the host agree on.
public enum QueueMetrics {
    private static let waiting = "windlass_waiting_messages"
    private static let oldest = "windlass_waiting_messages_oldest_seconds"

    /// The numbers of queues that hold messages.
    ///
    /// - Parameters:
    ///   - queues: What they hold.
    ///   - now: The time of day, for the age of the oldest message.
    /// - Returns: Three families, with the chain and the node of the queues as labels.
    public static func families(of queues: [WaitingQueue], at now: Timestamp) -> [MetricFamily] {
        let named = queues.map { (labels: Self.labels(QueueName($0.name)), queue: $0) }
        return [
            MetricFamily(
                Self.waiting,
                .gauge,
                "Messages that wait in a node, stored.",
                named.map { MetricSample(labels: $0.labels, value: Double($0.queue.count)) }
            ),
            MetricFamily(
                Self.oldest,
                .gauge,
                "How long the oldest message has waited in a node; 0 if none waits.",
                named.map { labels, queue in
                    let age = queue.oldest.map { max(0, now.rawValue - $0.rawValue) } ?? 0
                    return MetricSample(labels: labels, value: Double(age) / 1000)
                }
            ),
            MetricFamily(
                "windlass_later_messages",
                .gauge,
                "Messages that wait in a node because they could not go on when they were tried, by the code of the reason.",
                named.flatMap { labels, queue in
                    queue.held.sorted { $0.key < $1.key }.map { code, count in
                        MetricSample(labels: labels + [MetricSample.Label("code", code)], value: Double(count))
                    }
                }
            ),
        ]
    }

    /// Adds zeros for the queues of running nodes in which nothing waits, so that graphs have no gaps.
    public static func adding(_ running: [QueueName], to families: [MetricFamily]) -> [MetricFamily] {
        families.map { family in
            guard [Self.waiting, Self.oldest].contains(family.name) else { return family }
            var family = family
            let known = Set(family.samples.map(\.labels))
            let missing = running.map(Self.labels).filter { !known.contains($0) }
            family.samples += missing.map { MetricSample(labels: $0, value: 0) }
            return family
        }
    }

    private static func labels(_ name: QueueName) -> [MetricSample.Label] {
        [MetricSample.Label("chain", name.chain), MetricSample.Label("node", name.node)]
    }
}
