import NIOCore
import NodeKit

/// A device that talks MQTT 3.1.1: it subscribes to its attributes, asks for them once, and fetches chunk by chunk.
struct MQTTDevice: DemoDevice {
    let name: String
    let transport = "mqtt"
    /// The host's MQTT listener.
    let endpoint: DemoEndpoint
    /// The device's access token.
    let token: String

    func connect() async throws -> any DeviceLink {
        let client = try await MQTTClient(self.endpoint, clientID: self.name, userName: self.token)
        return MQTTLink(client: client)
    }
}

private struct MQTTLink: DeviceLink {
    /// Bytes in each chunk; a packet of a device may have 64 KiB.
    static let chunkBytes = 32 << 10
    static let telemetry = "v1/devices/me/telemetry"
    static let attributes = "v1/devices/me/attributes"
    static let errors = "v2/fw/error"

    let client: MQTTClient

    func report(_ telemetry: JSON.Object) async throws {
        try await self.client.publish(JSON.object(telemetry).bytes, to: Self.telemetry)
    }

    func offer() async throws -> FirmwareOffer {
        try await self.client.subscribe(to: [
            Self.attributes, "\(Self.attributes)/response/+", "v2/fw/response/+/chunk/+", Self.errors,
        ])
        let keys = JSON.object(["sharedKeys": .string(FirmwareOffer.keys)])
        try await self.client.publish(keys.bytes, to: "\(Self.attributes)/request/1")
        var attributes = SharedAttributes()
        let clock = ContinuousClock()
        let deadline = clock.now + DemoLimits.offerWait
        while clock.now < deadline {
            let message = try await self.client.receive(within: TimeAmount(deadline - clock.now))
            if message.topic == Self.attributes {
                attributes.merge(try JSON(parsing: message.payload))
            } else if message.topic.hasPrefix("\(Self.attributes)/response/") {
                attributes.merge(try JSON(parsing: message.payload)["shared"] ?? .null)
            }
            if let offer = attributes.offer { return offer }
        }
        throw DemoError("no firmware was offered within \(DemoLimits.offerWait)")
    }

    func download(_ offer: FirmwareOffer, receive: (ByteBuffer) throws -> Void) async throws {
        let count = (offer.size + Self.chunkBytes - 1) / Self.chunkBytes
        for index in 0..<count {
            try await self.client.publish(
                ByteBuffer(string: "\(Self.chunkBytes)"),
                to: "v2/fw/request/1/chunk/\(index)"
            )
            try receive(try await self.chunk(index))
        }
    }

    func close() async { await self.client.close() }

    private func chunk(_ index: Int) async throws -> ByteBuffer {
        while true {
            let message = try await self.client.receive(within: DemoLimits.answer)
            if message.topic == "v2/fw/response/1/chunk/\(index)" { return message.payload }
            if message.topic == Self.errors {
                throw DemoError("chunk \(index) was answered with \(String(buffer: message.payload))")
            }
        }
    }
}
