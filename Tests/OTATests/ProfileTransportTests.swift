import NIOCore
import NodeKit
import OTA
import Testing

@Suite struct ProfileTransportTests {
    private static func settings(_ text: String) throws -> JSON { try JSON(parsing: ByteBuffer(string: text)) }

    @Test(
        "a profile that says nothing of its own is as usual",
        arguments: [
            "{}", #"{"transportType":null}"#, #"{"transportType":"DEFAULT"}"#,
            #"{"transportType":"DEFAULT","profileData":{"transportConfiguration":{"deviceTelemetryTopic":"t"}}}"#,
        ]
    )
    func usual(text: String) throws {
        let settings = try Self.settings(text)
        #expect(ProfileTransport(settings: settings) == .any)
        #expect(ProfileTransport.fault(in: settings) == nil)
    }

    @Test("topics that are the usual ones count as none")
    func topics() throws {
        let settings = try Self.settings(
            #"""
            {"transportType":"MQTT","profileData":{"transportConfiguration":{"type":"MQTT",
            "deviceTelemetryTopic":"v1/devices/me/telemetry","deviceAttributesTopic":"site/+/attributes",
            "deviceAttributesSubscribeTopic":"site/down","sendAckOnValidationException":true,
            "transportPayloadTypeConfiguration":{"transportPayloadType":"PROTOBUF"}}}}
            """#
        )
        #expect(
            ProfileTransport(settings: settings)
                == ProfileTransport(
                    kind: .mqtt,
                    mqtt: ProfileTransport.MQTT(
                        attributesFilter: "site/+/attributes",
                        updatesTopic: "site/down",
                        isJSON: false,
                        acknowledgesBadPayloads: true
                    )
                )
        )
        #expect(ProfileTransport.fault(in: settings) == nil)
    }

    @Test(
        "a profile admits devices over its transport or, as the default, over any",
        arguments: ProfileTransport.Kind.allCases
    )
    func admission(kind: ProfileTransport.Kind) {
        let transport = ProfileTransport(kind: kind)
        #expect((transport.fault(for: .mqtt) == nil) == (kind == .default || kind == .mqtt))
        #expect((transport.fault(for: .coap) == nil) == (kind == .default || kind == .coap))
    }

    @Test(
        "what makes no sense is told",
        arguments: [
            (
                #"{"transportType":"ZIGBEE"}"#,
                "\"ZIGBEE\" is no transport type; known are DEFAULT, MQTT, COAP, LWM2M, SNMP"
            ),
            (#"{"transportType":1}"#, "1 is no transport type; known are DEFAULT, MQTT, COAP, LWM2M, SNMP"),
            (
                #"{"transportType":"MQTT","profileData":{"transportConfiguration":{"deviceTelemetryTopic":"a/#/b"}}}"#,
                "'deviceTelemetryTopic' is no filter of MQTT topics: in 'a/#/b', a wildcard is not alone in its level, "
                    + "or '#' not last"
            ),
            (
                #"{"transportType":"MQTT","profileData":{"transportConfiguration":{"deviceAttributesSubscribeTopic":"a/+"}}}"#,
                "'deviceAttributesSubscribeTopic' must be a topic without wildcards, not 'a/+'"
            ),
        ]
    )
    func faults(text: String, fault: String) throws {
        #expect(ProfileTransport.fault(in: try Self.settings(text)) == fault)
    }
}
