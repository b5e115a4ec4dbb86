import HTTPTypes
import NIOCore
import NIOEmbedded
import NIOHTTPTypes
import Testing

@testable import Management

@Suite struct ConnectionGuardTests {
    private func channel() async throws -> EmbeddedChannel {
        let channel = EmbeddedChannel(handler: ConnectionGuard(uploadBytesMax: 1000, bodyBytesMax: 100))
        try await channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).get()
        try channel.writeInbound(
            HTTPRequestPart.head(HTTPRequest(method: .post, scheme: "http", authority: "a", path: "/"))
        )
        return channel
    }

    private func send(_ count: Int, on channel: EmbeddedChannel) throws {
        try channel.writeInbound(HTTPRequestPart.body(ByteBuffer(repeating: 0, count: count)))
    }

    private func answer(_ status: HTTPResponse.Status, on channel: EmbeddedChannel) throws {
        try channel.writeOutbound(HTTPResponsePart.head(HTTPResponse(status: status)))
    }

    @Test func aPeerThatStopsReadingLosesItsConnection() async throws {
        let channel = try await self.channel()
        channel.pipeline.fireUserInboundEventTriggered(IdleStateHandler.IdleStateEvent.write)
        #expect(channel.isActive, "nothing waits to be written")
        channel.isWritable = false
        channel.pipeline.fireUserInboundEventTriggered(IdleStateHandler.IdleStateEvent.write)
        #expect(!channel.isActive)
    }

    @Test func aBodyThatGoesOnAfterItsLimitEndsTheConnection() async throws {
        let channel = try await self.channel()
        try self.send(1100, on: channel)
        #expect(channel.isActive)
        try self.send(1, on: channel)
        #expect(!channel.isActive)
    }

    @Test("After a refusal little more is read", arguments: [401, 413, 429])
    func refused(status: Int) async throws {
        let channel = try await self.channel()
        try self.send(10, on: channel)
        try self.answer(HTTPResponse.Status(code: status), on: channel)
        try self.send(100, on: channel)
        #expect(channel.isActive)
        try self.send(1, on: channel)
        #expect(!channel.isActive)
    }

    @Test func afterAnyOtherAnswerTheRestIsReadAndTheNextRequestStartsAnew() async throws {
        let channel = try await self.channel()
        try self.send(10, on: channel)
        try self.answer(HTTPResponse.Status(code: 507), on: channel)
        try self.send(990, on: channel)
        try channel.writeInbound(
            HTTPRequestPart.head(HTTPRequest(method: .post, scheme: "http", authority: "a", path: "/"))
        )
        try self.send(1000, on: channel)
        #expect(channel.isActive)
        _ = try? channel.finish(acceptAlreadyClosed: true)
    }
}
