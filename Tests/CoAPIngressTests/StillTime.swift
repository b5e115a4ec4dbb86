import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting
import OTA

@testable import CoAPIngress

/// A handler whose time stands still unless a test moves it, with one peer.
struct StillTime: Sendable {
    var channel: NIOAsyncTestingChannel
    var handler: NIOLoopBound<CoAPHandler>
    var outlet: TestOutlet
    var sessions: DeviceSessions

    private static func peer() throws -> SocketAddress { try SocketAddress(ipAddress: "192.0.2.1", port: 5000) }

    init(
        _ attributes: [String: String] = [:],
        answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) }
    ) async throws {
        try await self.init(attributes, TestOutlet(answer))
    }

    init(
        _ attributes: [String: String] = [:],
        _ outlet: TestOutlet,
        knowsDevices: Bool = false,
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) async throws {
        self.outlet = outlet
        let domain = try await TestDevices.domain(areKnown: knowsDevices)
        self.sessions = domain.sessions
        let node = try CoAPIngressNode.make(attributes, services: domain.live(now: now))
        self.channel = NIOAsyncTestingChannel()
        let eventLoop = self.channel.testingEventLoop
        // From the start of time nothing can be subtracted.
        await eventLoop.advanceTime(by: .hours(1))
        let handler = try await node.makeHandler(outlet, on: eventLoop) { 0.5 }
        let channel = self.channel
        self.handler = handler
        try await eventLoop.executeInContext { try channel.pipeline.syncOperations.addHandler(handler.value) }
    }

    func send(_ message: CoAPMessage) async throws {
        try await self.channel.writeInbound(AddressedEnvelope(remoteAddress: try Self.peer(), data: message.datagram))
        // Tasks that begin meanwhile are jobs of the event loop, which nobody else drives.
        await self.channel.testingEventLoop.run()
    }

    /// Waits for a message, without any time passing.
    func receive() async throws -> CoAPMessage {
        let envelope = try await self.channel.waitForOutboundWrite(as: AddressedEnvelope<ByteBuffer>.self)
        return try CoAPMessage(reading: envelope.data)
    }

    /// What has been sent and not looked at.
    func sent() async throws -> CoAPMessage? {
        try await self.channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self).map {
            try CoAPMessage(reading: $0.data)
        }
    }

    /// Sends messages that the handler reads at once.
    func send(_ messages: [CoAPMessage]) async throws {
        try await self.read(messages)
        await self.channel.testingEventLoop.run()
    }

    /// Has the handler read messages, and does nothing that it leaves for later.
    func read(_ messages: [CoAPMessage]) async throws {
        let peer = try Self.peer()
        let channel = self.channel
        try await channel.testingEventLoop.executeInContext {
            for message in messages {
                channel.pipeline.fireChannelRead(AddressedEnvelope(remoteAddress: peer, data: message.datagram))
            }
            channel.pipeline.fireChannelReadComplete()
        }
    }

    func ask(_ message: CoAPMessage) async throws -> CoAPMessage {
        try await self.send(message)
        return try await self.receive()
    }

    func pass(_ time: TimeAmount) async { await self.channel.testingEventLoop.advanceTime(by: time) }
}
