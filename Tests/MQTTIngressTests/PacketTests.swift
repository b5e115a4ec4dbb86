import FoundationEssentials
import NIOCore
import NIOEmbedded
import NIOTestUtils
import NodeKit
import Testing

@testable import MQTTIngress

/// A packet as bytes, from a data file.
struct Vector: Sendable, CustomTestStringConvertible {
    var name: String
    var version: ProtocolVersion
    var bytes: ByteBuffer
    /// The packet's type, of a good one.
    var packet: String?
    /// The reason of the error, of a bad one.
    var reason: UInt8?

    var testDescription: String { self.name }

    static func read(_ file: String) throws -> [Vector] {
        let folder = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        let data = try Data(contentsOf: URL(filePath: "\(folder)/Vectors/\(file).json"))
        return try #require(try JSON(parsing: ByteBuffer(bytes: data)).array).map { json in
            Vector(
                name: try #require(json["name"]?.string),
                version: try #require(json["version"]?.integer.flatMap { ProtocolVersion(rawValue: UInt8($0)) }),
                bytes: try Self.bytes(try #require(json["bytes"]?.string)),
                packet: json["packet"]?.string,
                reason: json["reason"]?.string.flatMap { UInt8($0.dropFirst(2), radix: 16) }
            )
        }
    }

    private static func bytes(_ hexadecimal: String) throws -> ByteBuffer {
        var bytes = ByteBuffer()
        var rest = hexadecimal[...]
        while !rest.isEmpty {
            bytes.writeInteger(try #require(UInt8(rest.prefix(2), radix: 16)))
            rest = rest.dropFirst(2)
        }
        return bytes
    }
}

@Suite("Packets") struct PacketTests {
    static let packetBytesMax = 65_536

    @Test("bytes of a data file are read and written back as they were", arguments: try Vector.read("good"))
    func good(vector: Vector) throws {
        var decoder = PacketDecoder(packetBytesMax: Self.packetBytesMax, version: vector.version)
        var bytes = vector.bytes
        let packet = try #require(try decoder.next(in: &bytes))
        #expect(bytes.readableBytes == 0)
        #expect("\(packet)".hasPrefix(vector.packet ?? "none"))
        var written = ByteBuffer()
        packet.write(into: &written, version: vector.version)
        #expect(written == vector.bytes)
    }

    @Test("bytes that are no packet are refused for the right reason", arguments: try Vector.read("bad"))
    func bad(vector: Vector) throws {
        var decoder = PacketDecoder(packetBytesMax: Self.packetBytesMax, version: vector.version)
        var bytes = vector.bytes
        let error = #expect(throws: PacketError.self) { try decoder.next(in: &bytes) }
        #expect(error?.reason.rawValue == vector.reason)
    }

    @Test(
        "bytes that are no packet are refused for the same reason if they come one by one",
        arguments: try Vector.read("bad")
    )
    func badByteByByte(vector: Vector) throws {
        var decoder = PacketDecoder(packetBytesMax: Self.packetBytesMax, version: vector.version)
        var bytes = ByteBuffer()
        var reason: ReasonCode?
        for byte in vector.bytes.readableBytesView where reason == nil {
            bytes.writeInteger(byte)
            do throws(PacketError) {
                #expect(try decoder.next(in: &bytes) == nil)
            } catch {
                reason = error.reason
            }
        }
        #expect(reason?.rawValue == vector.reason)
    }

    @Test("no prefix of a packet is a packet or an error", arguments: try Vector.read("good"))
    func prefixes(vector: Vector) throws {
        for length in 0..<min(vector.bytes.readableBytes, 300) {
            var decoder = PacketDecoder(packetBytesMax: Self.packetBytesMax, version: vector.version)
            var bytes = try #require(vector.bytes.getSlice(at: 0, length: length))
            #expect(try decoder.next(in: &bytes) == nil)
            #expect(bytes.readableBytes == length)
        }
    }

    @Test("packets come out however their bytes arrive", arguments: [ProtocolVersion.v3_1_1, .v5])
    func dripFeed(version: ProtocolVersion) throws {
        let pairs = try Vector.read("good").filter { $0.version == version && $0.bytes.readableBytes < 1000 }.map {
            vector in
            var decoder = PacketDecoder(packetBytesMax: Self.packetBytesMax, version: version)
            var bytes = vector.bytes
            return (vector.bytes, [try #require(try decoder.next(in: &bytes))])
        }
        try ByteToMessageDecoderVerifier.verifyDecoder(inputOutputPairs: pairs) {
            PacketDecoder(packetBytesMax: Self.packetBytesMax, version: version)
        }
    }

    static let packets: [Packet] = [
        .connect(
            ConnectPacket(
                version: .v5,
                isClean: false,
                keepAlive: 65_535,
                clientId: "client é",
                will: .init(
                    topic: "gone",
                    payload: ByteBuffer(string: "x"),
                    qos: .exactlyOnce,
                    retain: true,
                    properties: [(.willDelayInterval, .fourBytes(1))]
                ),
                userName: "",
                password: ByteBuffer(),
                properties: [(.maximumPacketSize, .fourBytes(.max)), (.userProperty, .pair("", ""))]
            )
        ),
        .connack(ConnackPacket(isSessionPresent: true, code: 0x86, properties: [(.reasonString, .text("no"))])),
        .publish(PublishPacket(qos: .atMostOnce, topic: "t", payload: ByteBuffer())),
        .publish(
            PublishPacket(
                isDuplicate: true,
                retain: true,
                qos: .atLeastOnce,
                topic: "t/u",
                packetId: .max,
                properties: [(.correlationData, .binary(ByteBuffer(bytes: [0, 1])))],
                payload: ByteBuffer(repeating: 7, count: 16_384)
            )
        ),
        .puback(AcknowledgementPacket(packetId: 1, reason: .quotaExceeded)),
        .pubrec(AcknowledgementPacket(packetId: 2, properties: [(.reasonString, .text("r"))])),
        .pubrel(AcknowledgementPacket(packetId: 3, reason: .packetIdentifierNotFound)),
        .pubcomp(AcknowledgementPacket(packetId: 4)),
        .subscribe(
            SubscribePacket(
                packetId: 5,
                properties: [(.subscriptionIdentifier, .variable(268_435_455))],
                subscriptions: [.init(filter: "a/+", qos: .exactlyOnce, options: 0b1011)]
            )
        ),
        .suback(SubscriptionAnswerPacket(packetId: 6, codes: [0, 1, 0x8F])),
        .unsubscribe(UnsubscribePacket(packetId: 7, filters: ["a", "#"])),
        .unsuback(SubscriptionAnswerPacket(packetId: 8, codes: [0x11])),
        .pingreq,
        .pingresp,
        .disconnect(DisconnectPacket(reason: .serverShuttingDown, properties: [(.reasonString, .text("bye"))])),
        .auth(DisconnectPacket(reason: .success, properties: [(.authenticationMethod, .text("m"))])),
    ]

    @Test("what is written is read again", arguments: Self.packets)
    func roundTrip(packet: Packet) throws {
        var decoder = PacketDecoder(packetBytesMax: Self.packetBytesMax, version: .v5)
        var bytes = ByteBuffer()
        packet.write(into: &bytes, version: .v5)
        if case .publish(let publish) = packet {
            #expect(publish.size(version: .v5, payloadSize: publish.payload.readableBytes) == bytes.readableBytes)
        }
        #expect(try decoder.next(in: &bytes) == packet)
    }

    @Test("a packet of the largest size is read, one byte more is refused when its header is there")
    func packetBytesMax() throws {
        var decoder = PacketDecoder(packetBytesMax: 1000)
        for (size, isRead) in [(1000, true), (1001, false)] {
            let packet = PublishPacket(qos: .atMostOnce, topic: "t", payload: ByteBuffer(repeating: 0, count: size - 6))
            var bytes = ByteBuffer()
            packet.write(into: &bytes, version: .v3_1_1)
            #expect(bytes.readableBytes == size)
            if isRead {
                #expect(try decoder.next(in: &bytes) == .publish(packet))
            } else {
                var header = try #require(bytes.getSlice(at: 0, length: 3))
                let error = #expect(throws: PacketError.self) { try decoder.next(in: &header) }
                #expect(error?.reason == .packetTooLarge)
            }
        }
    }

    @Test(
        "a variable byte integer keeps its value at each change of length",
        arguments: [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455]
    )
    func variableByteInteger(value: Int) throws {
        var bytes = ByteBuffer()
        bytes.writeVariableByteInteger(value)
        #expect(bytes.readableBytes == ByteBuffer.variableByteIntegerSize(value))
        #expect(try bytes.readVariableByteInteger() == value)
    }

    @Test("a text keeps its characters", arguments: ["", "\u{1}", "a/b", "\u{7F}", "\u{80}", "a\u{7F}é", "\u{10FFFF}"])
    func text(text: String) throws {
        var bytes = ByteBuffer()
        bytes.writeText(text)
        bytes.writeText("next")
        #expect(try bytes.readText("text") == text)
        #expect(try bytes.readText("text") == "next")
    }

    @Test("an answer larger than MQTT can carry has no size")
    func publishSizeMax() {
        let packet = PublishPacket(qos: .atMostOnce, topic: "t", payload: ByteBuffer())
        #expect(packet.size(version: .v3_1_1, payloadSize: 268_435_455 - 3) == 268_435_460)
        #expect(packet.size(version: .v3_1_1, payloadSize: 268_435_455 - 2) == nil)
        #expect(packet.size(version: .v3_1_1, payloadSize: .max) == nil)
    }
}
