import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NodeTesting
import Synchronization

/// A server that remembers what it was asked and answers as a test says.
struct HTTPCallServer: Sendable {
    struct Request: Sendable {
        var method: HTTPMethod
        var uri: String
        var headers: HTTPHeaders
        var body: String
    }

    /// What is answered; no status means nothing, ever.
    struct Reply: Sendable {
        var status: Int?
        var body = ""
    }

    /// What all connections share.
    private final class Log: Sendable {
        private let state: Mutex<(requests: [Request], replies: [Reply])>

        init(_ replies: [Reply]) { self.state = Mutex(([], replies)) }

        var requests: [Request] { self.state.withLock { $0.requests } }

        /// Notes a request; of the replies the last one counts for ever.
        func answer(_ request: Request) -> Reply {
            self.state.withLock { state in
                state.requests.append(request)
                return state.replies.count > 1 ? state.replies.removeFirst() : state.replies[0]
            }
        }
    }

    let port: Int
    private let log: Log

    /// What it was asked so far.
    var requests: [Request] { self.log.requests }

    /// Runs a server that answers in turn with these, the last one for ever.
    static func run(
        _ replies: [Reply],
        isSecure: Bool = false,
        _ body: (HTTPCallServer) async throws -> Void
    ) async throws {
        let tls = isSecure ? try Self.tls() : nil
        let log = Log(replies)
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
                    try pipeline.configureHTTPServerPipeline()
                    try pipeline.addHandler(Handler(log))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let result: Result<Void, any Error>
        do {
            try await body(HTTPCallServer(port: channel.localAddress?.port ?? 0, log: log))
            result = .success(())
        } catch {
            result = .failure(error)
        }
        try await channel.close()
        try result.get()
    }

    private static func tls() throws -> NIOSSLContext {
        let certificate = try NIOSSLCertificate(bytes: Array(TestCertificate.server.certificate.utf8), format: .pem)
        let key = try NIOSSLPrivateKey(bytes: Array(TestCertificate.server.privateKey.utf8), format: .pem)
        return try NIOSSLContext(
            configuration: .makeServerConfiguration(
                certificateChain: [.certificate(certificate)],
                privateKey: .privateKey(key)
            )
        )
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private let log: Log
        private var head: HTTPRequestHead?
        private var body = ByteBuffer()

        init(_ log: Log) { self.log = log }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch self.unwrapInboundIn(data) {
            case .head(let head): self.head = head
            case .body(var part): self.body.writeBuffer(&part)
            case .end:
                guard let head else { return }
                let request = Request(
                    method: head.method,
                    uri: head.uri,
                    headers: head.headers,
                    body: String(buffer: self.body)
                )
                let reply = self.log.answer(request)
                guard let status = reply.status else { return }
                // Without a length, the answer comes in chunks.
                let response = HTTPResponseHead(version: .http1_1, status: .init(statusCode: status))
                context.write(self.wrapOutboundOut(.head(response)), promise: nil)
                context.write(
                    self.wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: reply.body)))),
                    promise: nil
                )
                context.writeAndFlush(self.wrapOutboundOut(.end(nil)), promise: nil)
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}
