import FuzzSupport
import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting

@testable import CoAPIngress

/// What is written is read again as the same.
private func check(_ bytes: ByteBuffer) {
    guard let message = try? CoAPMessage(reading: bytes) else { return }
    do {
        let again = try CoAPMessage(reading: message.datagram)
        precondition(again == message, "\(message) was read again as \(again)")
    } catch {
        fatalError("\(message) cannot be read again: \(error)")
    }
    if let request = try? CoAPRequest(message) { _ = CoAPResource.route(request.method, request.path) }
}

/// Has the node work on datagrams of three peers.
///
/// Before each datagram stands a byte that says whose it is and what happens after it, and one with its length.
@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    var input = FuzzInput(start, count)
    do {
        let peers = try (1...3).map { try SocketAddress(ipAddress: "127.0.0.\($0)", port: 5683) }
        let bench = Bench()
        let attributes = [
            "block-size-bytes": "64", "datagram-bytes-max": "1152", "body-bytes-max": "1024", "exchanges-max": "4",
            "observers-max": "2", "observers-per-device-max": "2",
        ]
        let node = try CoAPIngressNode.make(attributes, services: bench.services)
        let outlet = bench.outlet
        let eventLoop = NIOLoopBound(bench.eventLoop, eventLoop: bench.eventLoop)
        let handler = bench.wait { try await node.makeHandler(outlet, on: eventLoop.value) }.value
        let channel = EmbeddedChannel(handler: handler, loop: bench.eventLoop)
        channel.connect(to: peers[0], promise: nil)
        while !input.isEmpty {
            let control = input.byte()
            let datagram = input.take(Int(input.byte()))
            check(datagram)
            let peer = peers[Int(control & 3) % 3]
            channel.pipeline.fireChannelRead(AddressedEnvelope(remoteAddress: peer, data: datagram))
            // Without it, requests pile up as if more of them were read at once. That takes no time.
            if control & 0xCC != 4 {
                channel.pipeline.fireChannelReadComplete()
                bench.eventLoop.run()
            }
            if control & 8 != 0 { bench.notify(control >> 4) }
            // Time for a repetition, or for everything to be given up.
            if control & 0x40 != 0 { bench.eventLoop.advanceTime(by: .seconds(2)) }
            if control & 0x80 != 0 { bench.eventLoop.advanceTime(by: .minutes(5)) }
            try checkAnswers(channel)
        }
        channel.pipeline.fireChannelReadComplete()
        bench.eventLoop.run()
        handler.drain()
        bench.eventLoop.advanceTime(by: .minutes(5))
        handler.stop()
        _ = try? channel.finish(acceptAlreadyClosed: true)
        try checkAnswers(channel)
        precondition(bench.listenersCount == 0, "someone still listens")
    } catch {
        fatalError("\(error)")
    }
    return 0
}

/// All that the node sends are messages, none larger than a block and its options.
private func checkAnswers(_ channel: EmbeddedChannel) throws {
    while let envelope = try channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self) {
        do {
            let message = try CoAPMessage(reading: envelope.data)
            precondition(message.payload.readableBytes <= 1024, "a payload larger than any block")
        } catch {
            fatalError("the node sent what is no message: \(error)")
        }
    }
}
