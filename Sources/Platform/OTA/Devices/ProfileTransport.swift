public import NodeKit

/// How the devices of a profile may connect, as a profile's `transportType` and `profileData.transportConfiguration` say it.
public struct ProfileTransport: Sendable, Hashable {
    /// Kinds of transport, named as in ThingsBoard.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// HTTP, MQTT and CoAP, with the topics and paths that ThingsBoard documents.
        case `default` = "DEFAULT"
        /// MQTT, with topics of the profile's own if it likes.
        case mqtt = "MQTT"
        /// CoAP.
        case coap = "COAP"
        /// LwM2M, which is not spoken here.
        case lwm2m = "LWM2M"
        /// SNMP, which is not spoken here.
        case snmp = "SNMP"
    }

    /// What a profile of kind ``Kind/mqtt`` says about topics and payloads.
    public struct MQTT: Sendable, Hashable {
        /// Filter of the topics on which devices publish time series; `nil` for the usual ones.
        public var telemetryFilter: String?
        /// Filter of the topics on which devices publish attributes; `nil` for the usual ones.
        public var attributesFilter: String?
        /// The topic on which devices are told of shared attributes; `nil` for the usual ones.
        public var updatesTopic: String?
        /// Whether payloads on topics of the profile's own are JSON rather than protobuf.
        public var isJSON: Bool
        /// Whether a payload that makes no sense is acknowledged in MQTT 3.1.1, where it ends the connection otherwise.
        public var acknowledgesBadPayloads: Bool

        /// Describes topics and payloads.
        public init(
            telemetryFilter: String? = nil,
            attributesFilter: String? = nil,
            updatesTopic: String? = nil,
            isJSON: Bool = true,
            acknowledgesBadPayloads: Bool = false
        ) {
            self.telemetryFilter = telemetryFilter
            self.attributesFilter = attributesFilter
            self.updatesTopic = updatesTopic
            self.isJSON = isJSON
            self.acknowledgesBadPayloads = acknowledgesBadPayloads
        }

        /// Whether both say the same; topics are compared by their bytes.
        public static func == (a: Self, b: Self) -> Bool {
            a.topics == b.topics && a.isJSON == b.isJSON && a.acknowledgesBadPayloads == b.acknowledgesBadPayloads
        }

        /// Hashes the bytes of the topics.
        public func hash(into hasher: inout Hasher) { hasher.combine(self.topics) }

        private var topics: [ExactText?] {
            [self.telemetryFilter.exact, self.attributesFilter.exact, self.updatesTopic.exact]
        }
    }

    /// What kind of transport it is.
    public var kind: Kind
    /// Topics and payloads; only if the kind is ``Kind/mqtt``.
    public var mqtt: MQTT?

    /// Any transport, with the usual topics.
    public static let any = ProfileTransport(kind: .default)

    /// Describes a transport.
    public init(kind: Kind, mqtt: MQTT? = nil) {
        self.kind = kind
        self.mqtt = mqtt
    }

    /// Reads the members of a profile that say it, in ThingsBoard's form.
    ///
    /// What is not there is ThingsBoard's default, and what makes no sense counts as not there: that is refused when a profile
    /// is saved.
    public init(settings: JSON) {
        self.init(kind: settings.object?["transportType"]?.string.flatMap(Kind.init) ?? .default)
        let data = settings.object?["profileData"]?.object
        guard self.kind == .mqtt, let configuration = data?["transportConfiguration"]?.object else { return }
        func text(_ name: String, usual: String) -> String? {
            guard let text = configuration[name]?.string, !text.isEmpty, text != usual else { return nil }
            return text
        }
        let payload = configuration["transportPayloadTypeConfiguration"]?.object?["transportPayloadType"]?.string
        self.mqtt = MQTT(
            telemetryFilter: text("deviceTelemetryTopic", usual: "v1/devices/me/telemetry"),
            attributesFilter: text("deviceAttributesTopic", usual: "v1/devices/me/attributes"),
            updatesTopic: text("deviceAttributesSubscribeTopic", usual: "v1/devices/me/attributes"),
            isJSON: payload != "PROTOBUF",
            acknowledgesBadPayloads: configuration["sendAckOnValidationException"]?.bool ?? false
        )
    }

    /// Why a device may not connect over a transport that is `kind` where the profile names one; `nil` if it may.
    ///
    /// HTTP does not ask: in ThingsBoard, too, it is for devices of any profile.
    public func fault(for kind: Kind) -> String? {
        guard self.kind != .default, self.kind != kind else { return nil }
        return "the device's profile has the transport type \(self.kind.rawValue), not \(kind.rawValue) or DEFAULT"
    }

    /// What is wrong with the members of a profile that say how its devices may connect, in a sentence; `nil` if nothing is.
    public static func fault(in settings: JSON) -> String? {
        if let member = settings.object?["transportType"], !member.isNull {
            guard let text = member.string, Kind(rawValue: text) != nil else {
                let known = Kind.allCases.map(\.rawValue).joined(separator: ", ")
                return "\(member) is no transport type; known are \(known)"
            }
        }
        let mqtt = ProfileTransport(settings: settings).mqtt
        for (name, filter) in [
            ("deviceTelemetryTopic", mqtt?.telemetryFilter), ("deviceAttributesTopic", mqtt?.attributesFilter),
        ] {
            guard let filter, !Self.isFilter(filter) else { continue }
            return
                "'\(name)' is no filter of MQTT topics: in '\(filter)', a wildcard is not alone in its level, or '#' not last"
        }
        if let topic = mqtt?.updatesTopic, topic.utf8.contains(where: Self.isWildcard) {
            return "'deviceAttributesSubscribeTopic' must be a topic without wildcards, not '\(topic)'"
        }
        return nil
    }

    /// Whether wildcards stand where they may: alone in their level, and `#` last (MQTT 5 §4.7.1).
    private static func isFilter(_ text: String) -> Bool {
        let levels = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        return levels.enumerated().allSatisfy { index, level in
            guard level.contains(where: Self.isWildcard) else { return true }
            return level.count == 1 && (level.first == UInt8(ascii: "+") || index == levels.count - 1)
        }
    }

    private static func isWildcard(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "+") || byte == UInt8(ascii: "#") }
}
