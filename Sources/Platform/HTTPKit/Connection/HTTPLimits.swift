import NIOCore
import NodeKit

/// What is bounded on a listener, as an operator may set it; what each means and its default is in the descriptor.
struct HTTPLimits: Sendable {
    /// How many bytes of a package are read and written at a time.
    static let piece: Int64 = 256 * 1024
    /// How long requests under way may take when the node stops.
    static let stopping = TimeAmount.seconds(3)
    /// How long a client that was refused in the middle of its request is listened to, so that it can read the answer.
    static let lingering = TimeAmount.seconds(2)
    /// The largest body that is read to its end only to be thrown away.
    static let discardedBody = 64 * 1024
    /// How many bytes are read from a connection at once.
    ///
    /// Also bounds what requests that are sent before the last one is answered take up.
    static let readBytes = 16 * 1024
    /// Up to how many bytes are copied behind the head of an answer, which costs less than to write them apart.
    static let joinedBytes = 16 * 1024
    /// How many bytes an event loop keeps for its next answer.
    static let keptBytes = 32 * 1024
    /// How many connections may wait to be accepted.
    static let backlog: Int32 = 4096

    var connections: Int
    var headerBytes: Int
    var headerFields: Int
    var bufferedBytes: Int
    var headerTimeout: TimeAmount
    var bodyTimeout: TimeAmount
    var idleTimeout: TimeAmount
    var writeTimeout: TimeAmount

    static let attributes: [AttributeDescriptor] = [
        .integer(
            "connections-max",
            // Also of devices that report over a connection each, 10,000 a second, while the store waits 5 s for another program.
            default: 60_000,
            in: 1...1_000_000,
            summary: "How many connections may be open, on both ports together; one more gets 503 and is closed."
        ),
        .integer(
            "header-bytes-max",
            default: 16_384,
            in: 256...1_048_576,
            unit: "bytes",
            summary: "The largest head of a request: target, names and values together; a larger one gets 431."
        ),
        .integer(
            "header-fields-max",
            default: 64,
            in: 1...1000,
            summary: "How many fields a header may have; one more gets 431."
        ),
        .integer(
            "buffered-bytes-max",
            default: 134_217_728,
            in: 1...17_179_869_184,
            unit: "bytes",
            summary: "How much all bodies that are being received or worked on may take; a request beyond it gets 503."
        ),
        .duration(
            "header-timeout-seconds",
            .seconds,
            default: 30,
            in: 1...3600,
            summary:
                "How long a new connection may take, its TLS handshake included, until its first request head is there."
        ),
        .duration(
            "body-timeout-seconds",
            .seconds,
            default: 60,
            in: 1...3600,
            summary: "How long the body of a request may take; a slower one gets 408."
        ),
        .duration(
            "idle-timeout-seconds",
            .seconds,
            default: 75,
            in: 1...86_400,
            summary: "How long a connection may take after an answer until the head of its next request is there."
        ),
        .duration(
            "write-timeout-seconds",
            .seconds,
            default: 120,
            in: 1...3600,
            summary: "How long a client may take none of the bytes that wait for it."
        ),
    ]

    init(_ configuration: Configuration) {
        self.connections = Int(configuration.integer("connections-max"))
        self.headerBytes = Int(configuration.integer("header-bytes-max"))
        self.headerFields = Int(configuration.integer("header-fields-max"))
        self.bufferedBytes = Int(configuration.integer("buffered-bytes-max"))
        self.headerTimeout = TimeAmount(configuration.duration("header-timeout-seconds"))
        self.bodyTimeout = TimeAmount(configuration.duration("body-timeout-seconds"))
        self.idleTimeout = TimeAmount(configuration.duration("idle-timeout-seconds"))
        self.writeTimeout = TimeAmount(configuration.duration("write-timeout-seconds"))
    }

    /// The shortest of the time-outs: how often a connection looks at its deadline.
    var tick: TimeAmount {
        min(self.headerTimeout, self.bodyTimeout, self.idleTimeout, self.writeTimeout)
    }
}
