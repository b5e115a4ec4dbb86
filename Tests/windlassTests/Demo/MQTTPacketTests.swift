import NIOCore
import NIOTestUtils
import Testing

@testable import windlass

@Suite("MQTT packets of the demo's device")
struct MQTTPacketTests {
    /// Packets and their bytes, written by hand from MQTT 3.1.1 §3.
    static let vectors: [(packet: MQTTPacket, bytes: [UInt8])] = [
        (
            .connect(clientID: "d", userName: "tok", keepAliveSeconds: 60),
            [0x10, 18, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0x82, 0, 60, 0, 1, 0x64, 0, 3, 0x74, 0x6F, 0x6B]
        ),
        (.connectAcknowledgement(code: 5), [0x20, 2, 0, 5]),
        (
            .publish(MQTTMessage(topic: "a/b", payload: ByteBuffer(string: "hi"), id: 10)),
            [0x32, 9, 0, 3, 0x61, 0x2F, 0x62, 0, 10, 0x68, 0x69]
        ),
        (
            .publish(MQTTMessage(topic: "a", payload: ByteBuffer(), id: nil)),
            [0x30, 3, 0, 1, 0x61]
        ),
        (.publishAcknowledgement(id: 0x1234), [0x40, 2, 0x12, 0x34]),
        (.subscribe(id: 1, filters: ["a", "+"]), [0x82, 10, 0, 1, 0, 1, 0x61, 1, 0, 1, 0x2B, 1]),
        (.subscribeAcknowledgement(id: 1, codes: [1, 0x80]), [0x90, 4, 0, 1, 1, 0x80]),
        (.pingRequest, [0xC0, 0]),
        (.pingResponse, [0xD0, 0]),
        (.disconnect, [0xE0, 0]),
    ]

    @Test("A packet is written as the standard says, and read back as it was", arguments: Self.vectors.indices)
    func roundTrip(index: Int) throws {
        let (packet, bytes) = Self.vectors[index]
        var buffer = ByteBuffer()
        packet.write(into: &buffer)
        #expect(Array(buffer.readableBytesView) == bytes)
        #expect(try MQTTPacket.read(from: &buffer) == packet)
        #expect(buffer.readableBytes == 0)
    }

    @Test("Packets are the same however the stream is cut")
    func dripFeed() throws {
        try ByteToMessageDecoderVerifier.verifyDecoder(
            inputOutputPairs: Self.vectors.map { (ByteBuffer(bytes: $0.bytes), [$0.packet]) },
            decoderFactory: MQTTCodec.init
        )
    }

    @Test("A length of two digits is read and written", arguments: [127, 128, 16_383, 16_384])
    func lengths(size: Int) throws {
        let message = MQTTMessage(topic: "", payload: ByteBuffer(repeating: 7, count: size - 2), id: nil)
        var buffer = ByteBuffer()
        MQTTPacket.publish(message).write(into: &buffer)
        #expect(try MQTTPacket.read(from: &buffer) == .publish(message))
    }

    @Test("A packet may have as many bytes as the limit says, and not one more")
    func limit() throws {
        var fits = ByteBuffer(bytes: [0x30, 0x80, 0x80, 0x40])
        #expect(try MQTTPacket.read(from: &fits) == nil)
        var tooLong = ByteBuffer(bytes: [0x30, 0x81, 0x80, 0x40])
        #expect(throws: DemoError.self) { try MQTTPacket.read(from: &tooLong) }
    }

    @Test(
        "Bytes that are no packet are refused",
        arguments: [
            [0x30, 0x80, 0x80, 0x80, 0x80, 1], [0x20, 1, 0], [0x30, 2, 0, 9], [0x32, 3, 0, 1, 0x61], [0x40, 1, 0],
            [0xF0, 0], [0x00, 0],
        ] as [[UInt8]]
    )
    func malformed(bytes: [UInt8]) {
        var buffer = ByteBuffer(bytes: bytes)
        #expect(throws: DemoError.self) { try MQTTPacket.read(from: &buffer) }
    }
}
