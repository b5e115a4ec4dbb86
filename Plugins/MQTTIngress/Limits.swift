import NIOCore
import NodeKit

/// The limits of a listener and its connections.
///
/// Those that an operator may care about are attributes of the node; a default is written once, in the attribute.
struct Limits: Hashable, Sendable {
    /// The largest packet that is read, header included, in bytes.
    var packetBytesMax: Int
    /// Connections at once.
    var connectionsMax: Int
    /// From a connection's start until it is accepted as a device's.
    var connectTimeout: TimeAmount
    /// The longest keep alive of a client of MQTT 5, in seconds; also for one that asks for none.
    var keepAliveSecondsMax: UInt16
    /// Requests of one connection that wait for their turn.
    ///
    /// The client is told (Receive Maximum in MQTT 5, `maxInflightMessages` of `getSessionLimits`), and reading stops
    /// when they are reached.
    var requestsMax: Int
    /// Messages to one client that wait for its PUBACK.
    var inFlightMax: Int
    /// Bytes to one client that wait for it to read; one more chunk may be on its way.
    var outboundBytesMax: Int
    /// How long a client may leave the bytes sent to it unread.
    var writeTimeout: TimeAmount
    /// The largest chunk that a device may ask for, in bytes.
    ///
    /// The whole package is not limited.
    var chunkBytesMax: Int64

    /// Sessions of one device at once.
    var sessionsPerDeviceMax: Int
    /// How long a session may outlive its connection.
    var sessionExpirySecondsMax: UInt32
    /// Sessions without a connection.
    var keptSessionsMax: Int
    /// Messages that wait for the client of one such session.
    var keptMessagesMax: Int
    /// Bytes of the messages that wait for the client of one session.
    var keptBytesMax: Int

    /// Topics of one connection that a number may stand for.
    static let topicAliasesMax: UInt16 = 16
    /// How long a client that wants to be made a device may be connected.
    static let provisionTimeout = TimeAmount.seconds(60)
    /// Filters that one connection subscribes to.
    static let subscriptionsMax = 100
    /// Attribute updates and calls for one client that wait for its PUBACK of earlier ones.
    static let waitingMax = 100
    /// Bytes of a package that are read and written at a time.
    static let pieceBytes = 65_536
    /// How long requests under way may take when the node stops.
    static let shutdownGrace = TimeAmount.seconds(3)

    static let attributes: [AttributeDescriptor] = [
        .integer(
            "packet-bytes-max",
            default: 65_536,
            in: 1024...16_777_216,
            unit: "bytes",
            summary: "The largest packet that a client may send; a larger one ends its connection."
        ),
        .integer(
            "connections-max",
            default: 50_000,
            in: 1...1_000_000,
            summary: "How many clients may be connected at once; further ones are turned away."
        ),
        .duration(
            "connect-timeout-seconds",
            .seconds,
            default: 10,
            in: 1...600,
            summary: "How long a client may take from connecting to being accepted."
        ),
        .duration(
            "keep-alive-max-seconds",
            .seconds,
            default: 3600,
            in: 1...65_535,
            summary: "The longest keep alive granted to a client of MQTT 5, which is told."
        ),
        .integer(
            "requests-max",
            default: 100,
            in: 1...65_535,
            summary: "How many requests of one client may wait for their turn; then its connection is not read."
        ),
        .integer(
            "in-flight-max",
            default: 1000,
            in: 1...65_000,
            summary: "How many messages to one client may wait for its acknowledgement."
        ),
        .integer(
            "outbound-bytes-max",
            default: 262_144,
            in: 1024...67_108_864,
            unit: "bytes",
            summary: "How much may wait for a client that does not read; more ends its connection."
        ),
        .duration(
            "write-timeout-seconds",
            .seconds,
            default: 60,
            in: 1...3600,
            summary: "How long a client may leave what is sent to it unread; longer ends its connection."
        ),
        .integer(
            "chunk-bytes-max",
            default: 16_777_216,
            in: 1...268_000_000,
            unit: "bytes",
            summary: "The largest chunk that a device may ask for."
        ),
        .integer(
            "sessions-per-device-max",
            default: 1,
            in: 1...1000,
            summary: "How many sessions of a device there may be at once; one more ends the oldest."
        ),
        .duration(
            "session-expiry-max-seconds",
            .seconds,
            default: 86_400,
            in: 0...4_294_967_294,
            summary: "How long a session outlives its connection at most; 0 means that none does."
        ),
        .integer(
            "kept-sessions-max",
            default: 10_000,
            in: 1...1_000_000,
            summary: "How many sessions without a connection are kept; one more ends the one that left first."
        ),
        .integer(
            "kept-messages-max",
            default: 100,
            in: 1...65_000,
            summary: "How many messages wait for the client of a session that is kept; the oldest make room."
        ),
        .integer(
            "kept-bytes-max",
            default: 65_536,
            in: 1024...16_777_216,
            unit: "bytes",
            summary: "How much may wait for the client of a session that is kept; the oldest messages make room."
        ),
    ]

    init(_ configuration: Configuration) {
        self.packetBytesMax = Int(configuration.integer("packet-bytes-max"))
        self.connectionsMax = Int(configuration.integer("connections-max"))
        self.connectTimeout = TimeAmount(configuration.duration("connect-timeout-seconds"))
        self.keepAliveSecondsMax = UInt16(configuration.duration("keep-alive-max-seconds").components.seconds)
        self.requestsMax = Int(configuration.integer("requests-max"))
        self.inFlightMax = Int(configuration.integer("in-flight-max"))
        self.outboundBytesMax = Int(configuration.integer("outbound-bytes-max"))
        self.writeTimeout = TimeAmount(configuration.duration("write-timeout-seconds"))
        self.chunkBytesMax = configuration.integer("chunk-bytes-max")
        self.sessionsPerDeviceMax = Int(configuration.integer("sessions-per-device-max"))
        self.sessionExpirySecondsMax = UInt32(configuration.duration("session-expiry-max-seconds").components.seconds)
        self.keptSessionsMax = Int(configuration.integer("kept-sessions-max"))
        self.keptMessagesMax = Int(configuration.integer("kept-messages-max"))
        self.keptBytesMax = Int(configuration.integer("kept-bytes-max"))
    }
}
