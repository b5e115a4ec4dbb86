import FuzzSupport
import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting

@testable import MQTTIngress

private let packetBytesMax = 2048

/// Cuts bytes into packets, as far as they are packets.
private func packets(_ pieces: [ByteBuffer], version: ProtocolVersion) -> ([Packet], PacketError?) {
    var decoder = PacketDecoder(packetBytesMax: packetBytesMax, version: version)
    var buffer = ByteBuffer()
    var packets: [Packet] = []
    do {
        for piece in pieces {
            buffer.writeImmutableBuffer(piece)
            while let packet = try decoder.next(in: &buffer) {
                check(packet, version: decoder.version)
                packets.append(packet)
            }
        }
    } catch {
        return (packets, error)
    }
    return (packets, nil)
}

/// What is written is read again as the same.
private func check(_ packet: Packet, version: ProtocolVersion) {
    var bytes = ByteBuffer()
    packet.write(into: &bytes, version: version)
    var decoder = PacketDecoder(packetBytesMax: .max, version: version)
    do {
        let again = try decoder.next(in: &bytes)
        precondition(
            again == packet && bytes.readableBytes == 0,
            "\(packet) was read again as \(String(describing: again))"
        )
    } catch {
        fatalError("\(packet) cannot be read again: \(error)")
    }
}

/// Has a connection work on the bytes: all that it sends are packets, and nothing of it is left behind.
private func converse(_ input: ByteBuffer, options: UInt8, connect: ConnectPacket?, pieceSize: Int) throws {
    let bench = Bench()
    weak var handler: ConnectionHandler?
    var sent = ByteBuffer()
    let services: ConnectionServices
    do {
        let attributes = ["packet-bytes-max": "2048", "requests-max": "4", "in-flight-max": "4"]
        let node = try MQTTIngressNode.make(attributes, services: bench.services)
        services = node.connectionServices(bench.outlet)
        let channel = EmbeddedChannel(loop: bench.eventLoop)
        try Endpoint(port: 0).configure(channel, services: services, tls: nil)
        handler = try channel.pipeline.syncOperations.handler(type: ConnectionHandler.self)
        channel.connect(to: try SocketAddress(unixDomainSocketPath: "/client"), promise: nil)
        func send(_ bytes: ByteBuffer) throws {
            _ = try? channel.writeInbound(bytes)
            bench.eventLoop.run()
            while let bytes = try channel.readOutbound(as: ByteBuffer.self) { sent.writeImmutableBuffer(bytes) }
        }
        if let connect {
            var bytes = ByteBuffer()
            Packet.connect(connect).write(into: &bytes, version: connect.version)
            try send(bytes)
        }
        for (index, piece) in input.pieces(of: pieceSize).enumerated() {
            try send(piece)
            if options & 0x80 != 0, index % 2 == 1 { bench.notify(UInt8(index / 2 % 3)) }
        }
        if options & 0x40 != 0 { bench.notify(3) }
        // Longer than any keep alive and time-out of the default.
        if options & 0x20 != 0 { bench.eventLoop.advanceTime(by: .hours(2)) }
        _ = try? channel.finish(acceptAlreadyClosed: true)
        bench.eventLoop.run()
        while let bytes = try channel.readOutbound(as: ByteBuffer.self) { sent.writeImmutableBuffer(bytes) }
    }
    // As when the node stops: a session may be kept for its client.
    services.kept.removeAll()
    precondition(services.connections.count == 0, "the connection is still counted")
    precondition(bench.listenersCount == 0, "someone still listens")
    precondition(handler == nil, "the connection is still in memory")
    guard let connect else { return }
    var decoder = PacketDecoder(packetBytesMax: .max, version: connect.version)
    do {
        while let packet = try decoder.next(in: &sent) { check(packet, version: connect.version) }
    } catch {
        fatalError("the server sent what is no packet: \(error)")
    }
    precondition(sent.readableBytes == 0, "the server sent half a packet")
}

/// Cuts a stream of bytes into packets and has a connection work on it.
///
/// The first byte says how the connection begins and what happens meanwhile, the second how the bytes are cut.
@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    var input = FuzzInput(start, count)
    let options = input.byte()
    let size = 1 + Int(input.byte() % 64)
    let version: ProtocolVersion? =
        switch options & 3 {
        case 1: .v3_1
        case 2: .v3_1_1
        case 3: .v5
        default: nil
        }
    let (whole, error) = packets([input.bytes], version: version ?? .v3_1_1)
    let (cut, errorOfCut) = packets(input.bytes.pieces(of: size), version: version ?? .v3_1_1)
    precondition(whole == cut && error == errorOfCut, "in pieces of \(size): \(cut) in place of \(whole)")
    let connect = version.map { ConnectPacket(version: $0, keepAlive: 60, clientId: "c", userName: "A") }
    do {
        try converse(input.bytes, options: options, connect: connect, pieceSize: size)
    } catch {
        fatalError("\(error)")
    }
    return 0
}
