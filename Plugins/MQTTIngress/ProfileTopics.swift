import NodeKit
import OTA
import Synchronization

/// The topics of a device whose profile has its own.
final class ProfileTopics: Sendable {
    private let telemetry: TopicFilter?
    private let attributes: TopicFilter?
    /// Where the device is told of shared attributes, before the usual topics; `nil` if only there.
    let updates: String?
    private let isJSON: Bool
    /// Whether a payload that makes no sense is acknowledged in MQTT 3.1.1.
    let acknowledgesBadPayloads: Bool

    /// Takes what a profile says.
    ///
    /// A filter that is not valid counts as none: the device goes on with the usual topics.
    fileprivate init(_ mqtt: ProfileTransport.MQTT) {
        self.telemetry = mqtt.telemetryFilter.flatMap { TopicFilter($0) }
        self.attributes = mqtt.attributesFilter.flatMap { TopicFilter($0) }
        self.updates = mqtt.updatesTopic.flatMap { TopicFilter.isTopicName($0) ? $0 : nil }
        self.isJSON = mqtt.isJSON
        self.acknowledgesBadPayloads = mqtt.acknowledgesBadPayloads
    }

    /// What a device wants that publishes to a topic, in ThingsBoard's order: its attributes before its telemetry, and both
    /// before all else.
    ///
    /// The topics of the profile replace `v1/devices/me/telemetry` and `…/attributes`; the short forms stay.
    func meaning(of topic: String) -> DeviceTopic {
        if self.matches(topic, self.attributes, usual: "v1/devices/me/attributes") {
            return self.isJSON ? .attributes : .protobuf
        }
        if self.matches(topic, self.telemetry, usual: "v1/devices/me/telemetry") {
            return self.isJSON ? .telemetry : .protobuf
        }
        switch topic {
        case "v1/devices/me/attributes", "v1/devices/me/telemetry": return .unknown
        default: return DeviceTopic(topic)
        }
    }

    private func matches(_ topic: String, _ filter: TopicFilter?, usual: String) -> Bool {
        filter?.matches(topic) ?? (topic.exact == usual.exact)
    }
}

/// The topics that profiles have of their own, one object for all sessions of the same.
final class ProfileTopicsTable: Sendable {
    /// How many are shared.
    private static let countMax = 1024
    private let known = Mutex<[ProfileTransport.MQTT: ProfileTopics]>([:])

    /// What a profile says, if it says anything that differs from the usual.
    func topics(_ transport: ProfileTransport) -> ProfileTopics? {
        guard let mqtt = transport.mqtt, mqtt != ProfileTransport.MQTT() else { return nil }
        return self.known.withLock { known in
            if let topics = known[mqtt] { return topics }
            // Profiles that were changed leave some behind; sessions keep their own.
            if known.count >= Self.countMax { known = [:] }
            let topics = ProfileTopics(mqtt)
            known[mqtt] = topics
            return topics
        }
    }
}
