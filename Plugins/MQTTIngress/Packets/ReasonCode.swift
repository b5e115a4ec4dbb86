/// What became of a request, as MQTT 5 §2.4 numbers it.
///
/// MQTT 3.1.1 has no such codes; where it has a code of its own, the session translates.
struct ReasonCode: RawRepresentable, Hashable, Sendable {
    let rawValue: UInt8

    /// All went well; of a DISCONNECT, a normal one.
    static let success = Self(rawValue: 0x00)
    /// Of a DISCONNECT of a client: its will is to be published all the same.
    static let disconnectWithWill = Self(rawValue: 0x04)
    static let noSubscriptionExisted = Self(rawValue: 0x11)
    static let unspecifiedError = Self(rawValue: 0x80)
    static let malformedPacket = Self(rawValue: 0x81)
    static let protocolError = Self(rawValue: 0x82)
    static let implementationSpecificError = Self(rawValue: 0x83)
    static let unsupportedProtocolVersion = Self(rawValue: 0x84)
    static let clientIdentifierNotValid = Self(rawValue: 0x85)
    static let badUserNameOrPassword = Self(rawValue: 0x86)
    static let notAuthorized = Self(rawValue: 0x87)
    static let serverUnavailable = Self(rawValue: 0x88)
    static let serverShuttingDown = Self(rawValue: 0x8B)
    static let badAuthenticationMethod = Self(rawValue: 0x8C)
    static let keepAliveTimeout = Self(rawValue: 0x8D)
    static let sessionTakenOver = Self(rawValue: 0x8E)
    static let topicFilterInvalid = Self(rawValue: 0x8F)
    static let topicNameInvalid = Self(rawValue: 0x90)
    static let packetIdentifierNotFound = Self(rawValue: 0x92)
    static let receiveMaximumExceeded = Self(rawValue: 0x93)
    static let topicAliasInvalid = Self(rawValue: 0x94)
    static let packetTooLarge = Self(rawValue: 0x95)
    static let quotaExceeded = Self(rawValue: 0x97)
    static let administrativeAction = Self(rawValue: 0x98)
    static let payloadFormatInvalid = Self(rawValue: 0x99)
    static let sharedSubscriptionsNotSupported = Self(rawValue: 0x9E)
    static let connectionRateExceeded = Self(rawValue: 0x9F)
    static let maximumConnectTime = Self(rawValue: 0xA0)
    static let subscriptionIdentifiersNotSupported = Self(rawValue: 0xA1)

    /// Whether it says that something failed (MQTT 5 §2.4: 0x80 and above).
    var isFailure: Bool { self.rawValue >= 0x80 }
}

/// Why bytes are not a packet that may be sent here.
struct PacketError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What MQTT 5 calls it.
    var reason: ReasonCode
    /// What is wrong, for the log.
    var explanation: String
    /// The version to answer in, where the error is that the version is not supported.
    var version: ProtocolVersion?

    init(_ reason: ReasonCode, _ explanation: String, version: ProtocolVersion? = nil) {
        self.reason = reason
        self.explanation = explanation
        self.version = version
    }

    static func malformed(_ explanation: String) -> Self { Self(.malformedPacket, explanation) }

    var description: String { self.explanation }
}
