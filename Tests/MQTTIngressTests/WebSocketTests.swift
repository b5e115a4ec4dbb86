import FoundationEssentials
import NIOCore
import NIOEmbedded
import NIOWebSocket
import NodeKit
import NodeTesting
import Testing

@testable import MQTTIngress

@Suite("WebSocket", .timeLimit(.minutes(5))) struct WebSocketTests {
    static func run(_ body: @escaping @Sendable (TestServer) async throws -> Void) async throws {
        try await TestServer.run(["websocket-port": "0"]) { server in try await body(server) }
    }

    static func request(path: String = "/mqtt", protocols: String? = "mqtt", version: Int = 13) -> String {
        "GET \(path) HTTP/1.1\r\nHost: localhost\r\nOrigin: http://elsewhere.example\r\nConnection: Upgrade\r\n"
            + "Upgrade: websocket\r\nSec-WebSocket-Version: \(version)\r\n"
            + (protocols.map { "Sec-WebSocket-Protocol: \($0)\r\n" } ?? "")
            + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    }

    static func opened(_ server: TestServer) async throws -> RawClient {
        let client = try await RawClient(port: try #require(server.ports["ws"]))
        client.send(Self.request())
        let head = try await client.head()
        #expect(head.first == "HTTP/1.1 101 Switching Protocols")
        // RFC 6455 §1.3 has this key and its answer.
        #expect(head.contains { $0.lowercased() == "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" })
        #expect(head.contains { $0.lowercased() == "sec-websocket-protocol: mqtt" })
        return client
    }

    /// A frame as a client sends it.
    static func frame(_ opcode: UInt8, _ data: ByteBuffer, isLast: Bool = true, isMasked: Bool = true) -> ByteBuffer {
        var frame = ByteBuffer()
        frame.writeInteger((isLast ? 0x80 : 0) | opcode)
        let mask: UInt8 = isMasked ? 0x80 : 0
        if data.readableBytes < 126 {
            frame.writeInteger(mask | UInt8(data.readableBytes))
        } else {
            frame.writeInteger(mask | 127)
            frame.writeInteger(UInt64(data.readableBytes))
        }
        let key: [UInt8] = [0x11, 0x22, 0x33, 0x44]
        if isMasked { frame.writeBytes(key) }
        for (index, byte) in data.readableBytesView.enumerated() {
            frame.writeInteger(isMasked ? byte ^ key[index % 4] : byte)
        }
        return frame
    }

    static func bytes(_ packets: Packet...) -> ByteBuffer {
        var bytes = ByteBuffer()
        for packet in packets { packet.write(into: &bytes, version: .v5) }
        return bytes
    }

    /// The next frame of the server, which is short.
    static func next(_ client: RawClient) async throws -> (opcode: UInt8, data: ByteBuffer) {
        var head = try await client.read(2)
        let first = head.readInteger(as: UInt8.self) ?? 0
        let length = head.readInteger(as: UInt8.self) ?? 0
        #expect(first & 0x80 != 0 && length < 126)
        return (first & 0x0F, try await client.read(Int(length)))
    }

    /// The next packet of the server, alone in its frame.
    static func packet(_ client: RawClient) async throws -> Packet? {
        let packets = try await Self.packets(1, client)
        return packets.count == 1 ? packets[0] : nil
    }

    /// The next packets of the server, until there are so many or more; a frame may hold several (MQTT 5 §6.0).
    static func packets(_ count: Int, _ client: RawClient) async throws -> [Packet] {
        var packets: [Packet] = []
        var decoder = PacketDecoder(packetBytesMax: .max, version: .v5)
        while packets.count < count {
            var (opcode, data) = try await Self.next(client)
            #expect(opcode == 2)
            while let packet = try decoder.next(in: &data) { packets.append(packet) }
            #expect(data.readableBytes == 0)
        }
        return packets
    }

    /// The code of the close frame that is the last of what the server sends.
    static func closeCode(_ client: RawClient) async throws -> UInt16 {
        let (opcode, data) = try await Self.next(client)
        #expect(opcode == 8)
        #expect(await client.rest().readableBytes == 0)
        return try #require(data.getInteger(at: data.readerIndex))
    }

    static let connect = Packet.connect(ConnectPacket(version: .v5, clientId: "c", userName: TestServer.token))

    @Test("packets may span frames and frames may hold several; pings are answered in between")
    func packets() async throws {
        try await Self.run { server in
            let client = try await Self.opened(server)
            let connect = Self.bytes(Self.connect)
            // One message of one frame for each byte.
            for index in 0..<connect.readableBytes {
                let byte = try #require(connect.getSlice(at: index, length: 1))
                client.send(Self.frame(index == 0 ? 2 : 0, byte, isLast: index == connect.readableBytes - 1))
            }
            guard case .connack(let connack) = try await Self.packet(client) else {
                throw NodeError(.internalError, "no CONNACK")
            }
            #expect(connack.code == 0)
            client.send(Self.frame(9, ByteBuffer(string: "are you there")))
            let pong = try await Self.next(client)
            #expect(pong.opcode == 10 && String(buffer: pong.data) == "are you there")
            client.send(Self.frame(10, ByteBuffer()))
            client.send(Self.frame(2, Self.bytes(.pingreq, SessionTests.publish(topic: "v2/t"), .pingreq)))
            let packets = try await Self.packets(3, client)
            #expect(packets.count == 3)
            #expect(packets.contains(.puback(AcknowledgementPacket(packetId: 1))))
            #expect(packets.count { $0 == .pingresp } == 2)
            #expect(server.sent.count == 1)
            client.send(Self.frame(8, ByteBuffer(bytes: [0x03, 0xE8])))
            #expect(try await Self.closeCode(client) == 1000)
        }
    }

    @Test("when the session ends, so does the WebSocket, after the packet that says why")
    func ended() async throws {
        try await Self.run { server in
            let client = try await Self.opened(server)
            client.send(Self.frame(2, Self.bytes(Self.connect)))
            _ = try await Self.packet(client)
            client.send(Self.frame(2, Self.bytes(Self.connect)))
            guard case .disconnect(let packet) = try await Self.packet(client) else {
                throw NodeError(.internalError, "no DISCONNECT")
            }
            #expect(packet.reason == .protocolError)
            #expect(try await Self.closeCode(client) == 1000)
        }
    }

    @Test(
        "what is no frame of MQTT ends the connection with its code",
        arguments: [
            ("text", frame(1, ByteBuffer(string: "hello")), 1003),
            ("no mask", frame(2, ByteBuffer(bytes: [0xC0, 0]), isMasked: false), 1002),
            ("a continuation of nothing", frame(0, ByteBuffer(bytes: [0xC0, 0])), 1002),
            ("a ping in fragments", frame(9, ByteBuffer(), isLast: false), 1002),
            ("a long ping", frame(9, ByteBuffer(repeating: 0, count: 126)), 1002),
            ("an opcode that means nothing", frame(3, ByteBuffer()), 1002),
            ("a reserved bit", frame(0x42, ByteBuffer()), 1002),
            ("a frame over the limit", frame(2, ByteBuffer(repeating: 0xC0, count: 65_537)), 1009),
        ] as [(String, ByteBuffer, UInt16)]
    )
    func badFrame(name: String, frame: ByteBuffer, code: UInt16) async throws {
        try await Self.run { server in
            let client = try await Self.opened(server)
            client.send(frame)
            #expect(try await Self.closeCode(client) == code)
        }
    }

    @Test("a second message in the middle of one ends the connection")
    func interleaved() async throws {
        try await Self.run { server in
            let client = try await Self.opened(server)
            client.send(Self.frame(2, ByteBuffer(bytes: [0x10]), isLast: false))
            client.send(Self.frame(2, ByteBuffer(bytes: [0x10])))
            #expect(try await Self.closeCode(client) == 1002)
        }
    }

    @Test(
        "requests that are none for a WebSocket of MQTT are answered, and the connection ends",
        arguments: [
            (request(path: "/"), "404"), (request(path: "/mqtt/x"), "404"), (request(protocols: nil), "426"),
            (request(protocols: "chat, wamp"), "426"), (request(version: 12), "426"),
            ("GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n", "426"),
            ("POST /mqtt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", "426"),
        ]
    )
    func refused(request: String, status: String) async throws {
        try await Self.run { server in
            let client = try await RawClient(port: try #require(server.ports["ws"]))
            client.send(request)
            #expect(try await client.head().first?.contains(" \(status) ") == true)
            _ = await client.rest()
        }
    }

    @Test("the path may have a query, and the subprotocol be one of several", arguments: ["mqtt", "chat, mqttv3.1"])
    func accepted(protocols: String) async throws {
        try await Self.run { server in
            let client = try await RawClient(port: try #require(server.ports["ws"]))
            client.send(Self.request(path: "/mqtt?token=x", protocols: protocols))
            #expect(try await client.head().first?.contains(" 101 ") == true)
        }
    }

    @Test("who does not open the WebSocket in time is let go")
    func timeout() async throws {
        let services = LimitTests.services(domain: try TestDomain())
        let channel = try await NIOAsyncTestingChannel { channel in
            try Endpoint(port: 0, webSocketPath: "/mqtt").configure(channel, services: services, tls: nil)
        }
        try await channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).get()
        try await channel.writeInbound(ByteBuffer(string: "GET /mqtt HTTP/1.1\r\n"))
        await channel.testingEventLoop.advanceTime(by: .milliseconds(9999))
        #expect(channel.isActive)
        await channel.testingEventLoop.advanceTime(by: .milliseconds(1))
        try await channel.closeFuture.get()
        #expect(services.connections.count == 0)
    }
}
