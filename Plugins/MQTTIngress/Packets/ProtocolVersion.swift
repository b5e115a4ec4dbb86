/// The versions of MQTT that are spoken, by their protocol level.
enum ProtocolVersion: UInt8, Sendable, CaseIterable {
    /// MQTT 3.1, which differs from 3.1.1 only in its name and in requiring a client identifier.
    case v3_1 = 3
    /// MQTT 3.1.1.
    case v3_1_1 = 4
    /// MQTT 5.
    case v5 = 5

    /// The protocol name that goes with the level (MQTT 3.1.1 §3.1.2.1).
    var name: String { self == .v3_1 ? "MQIsdp" : "MQTT" }
}

/// How hard delivery of a message is tried.
enum QoS: UInt8, Sendable, Comparable {
    /// At most once: not acknowledged.
    case atMostOnce = 0
    /// At least once: acknowledged by PUBACK.
    case atLeastOnce = 1
    /// Exactly once: PUBREC, PUBREL, PUBCOMP.
    case exactlyOnce = 2

    static func < (a: QoS, b: QoS) -> Bool { a.rawValue < b.rawValue }
}
