import NIOCore
import NIOPosix
import NIOSSL
import NodeKit

/// A connection of bytes, for what is spoken below MQTT.
final class RawClient {
    let channel: any Channel
    private var chunks: AsyncStream<ByteBuffer>.AsyncIterator
    private var received = ByteBuffer()

    init(port: Int, tls: NIOSSLContext? = nil) async throws {
        let (stream, continuation) = AsyncStream<ByteBuffer>.makeStream()
        self.chunks = stream.makeAsyncIterator()
        self.channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        let handler = try NIOSSLClientHandler(context: tls, serverHostname: "localhost")
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    try channel.pipeline.syncOperations.addHandler(Collector(continuation))
                }
            }
            .connect(host: "127.0.0.1", port: port)
            .get()
    }

    deinit { self.channel.close(promise: nil) }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let continuation: AsyncStream<ByteBuffer>.Continuation
        init(_ continuation: AsyncStream<ByteBuffer>.Continuation) { self.continuation = continuation }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            self.continuation.yield(Self.unwrapInboundIn(data))
        }
        func channelInactive(context: ChannelHandlerContext) { self.continuation.finish() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    func send(_ bytes: ByteBuffer) { self.channel.writeAndFlush(bytes, promise: nil) }

    func send(_ text: String) { self.send(ByteBuffer(string: text)) }

    /// Waits for so many bytes; an error if the server closes the connection before.
    func read(_ count: Int) async throws -> ByteBuffer {
        while self.received.readableBytes < count {
            guard var chunk = await self.chunks.next(isolation: #isolation) else {
                throw NodeError(.unavailable, "the server closed the connection")
            }
            self.received.writeBuffer(&chunk)
        }
        return self.received.readSlice(length: count) ?? ByteBuffer()
    }

    /// The lines up to the first empty one.
    func head() async throws -> [String] {
        var text = ""
        while !text.hasSuffix("\r\n\r\n") { text += String(buffer: try await self.read(1)) }
        return text.split(separator: "\r\n").map(String.init)
    }

    /// All bytes until the server closes the connection.
    func rest() async -> ByteBuffer {
        while var chunk = await self.chunks.next(isolation: #isolation) { self.received.writeBuffer(&chunk) }
        return self.received
    }
}
