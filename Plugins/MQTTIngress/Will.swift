import NIOCore

/// What a device wants to be published if it goes without a word (MQTT 5 §3.1.2.5).
///
/// Nobody else subscribes to a device's topics here. A will means something where it is a report of the device: it passes the
/// chain as such a message.
struct Will: Hashable, Sendable {
    /// As if the device had sent it, with nobody left to acknowledge it to.
    var request: Session.Request
    /// How long it waits for the device to come back (MQTT 5 §3.1.3.2.2).
    var delaySeconds: UInt32

    /// Takes a will that means something; `nil` if it does not.
    init?(_ will: ConnectPacket.Will, _ profileTopics: ProfileTopics? = nil) {
        let topic = profileTopics?.meaning(of: will.topic) ?? DeviceTopic(will.topic)
        switch topic {
        case .telemetry, .attributes: break
        default: return nil
        }
        self.request = Session.Request(
            qos: .atMostOnce,
            packetId: nil,
            topic: topic,
            topicName: profileTopics == nil ? nil : will.topic,
            payload: will.payload
        )
        self.delaySeconds = UInt32(clamping: will.properties.number(.willDelayInterval) ?? 0)
    }
}

extension Session {
    /// Whether the will waits: it is sent when its time has come or the session ends, whichever is first.
    var isWillDelayed: Bool { (self.will?.delaySeconds ?? 0) > 0 && self.expirySeconds > 0 }
}
