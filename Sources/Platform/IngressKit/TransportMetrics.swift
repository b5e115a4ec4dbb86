public import NodeKit

/// What an ingress node counts about its transport.
public struct TransportMetrics: Sendable {
    /// Connections that are open now.
    public let openConnections: MetricNumber
    /// Connections that were taken in.
    public let connections: MetricNumber
    /// Connections that were turned away: too many, or too often.
    public let refusedConnections: MetricNumber
    /// Requests, or packets of a client.
    public let requests: MetricNumber
    /// Requests that were answered with an error, or clients that were not let in.
    public let refusedRequests: MetricNumber
    /// Messages that were acknowledged and dropped because of U+0000 in a text.
    public let droppedForNull: MetricNumber
    /// Bytes of bodies, packets or datagrams that came.
    public let receivedBytes: MetricNumber
    /// Bytes of bodies, packets or datagrams that were sent.
    public let sentBytes: MetricNumber

    /// Counts for one node of a chain.
    public init(_ transport: String, services: NodeServices) {
        let metrics = services.metrics
        let labels = [
            MetricSample.Label("transport", transport), MetricSample.Label("chain", services.chain),
            MetricSample.Label("node", services.node),
        ]
        func counter(_ name: String, _ summary: String) -> MetricNumber {
            metrics.counter("windlass_transport_\(name)_total", summary, labels: labels)
        }
        self.openConnections = metrics.gauge(
            "windlass_transport_open_connections",
            "Connections that are open now.",
            labels: labels
        )
        self.connections = counter("connections", "Connections that were taken in.")
        self.refusedConnections = counter("refused_connections", "Connections that were turned away.")
        self.requests = counter("requests", "Requests, or packets of clients.")
        self.refusedRequests = counter(
            "refused_requests",
            "Requests answered with an error, and clients that were not let in."
        )
        self.droppedForNull = metrics.counter(
            "windlass_transport_dropped_messages_total",
            "Messages of devices that were acknowledged and dropped, by reason.",
            labels: labels + [MetricSample.Label("reason", "null-character")]
        )
        self.receivedBytes = counter("received_bytes", "Bytes of bodies, packets or datagrams that came.")
        self.sentBytes = counter("sent_bytes", "Bytes of bodies, packets or datagrams that were sent.")
    }

    /// Counts for nobody.
    public init() {
        self.openConnections = MetricNumber()
        self.connections = MetricNumber()
        self.refusedConnections = MetricNumber()
        self.requests = MetricNumber()
        self.refusedRequests = MetricNumber()
        self.droppedForNull = MetricNumber()
        self.receivedBytes = MetricNumber()
        self.sentBytes = MetricNumber()
    }

    /// A connection was taken in.
    public func opened() {
        self.openConnections.add()
        self.connections.add()
    }

    /// A connection that was taken in has ended.
    public func closed() { self.openConnections.add(-1) }
}
