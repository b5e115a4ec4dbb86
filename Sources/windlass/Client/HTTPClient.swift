import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NodeKit
import Synchronization

/// What an HTTP server answered.
struct HTTPReply: Sendable {
    /// The status.
    var status: HTTPResponseStatus
    /// The body, at most ``DemoLimits/httpBodyBytesMax`` bytes.
    var body: ByteBuffer

    /// The body as JSON.
    func json() throws -> JSON { try JSON(parsing: self.body) }
}

/// A client of one HTTP/1.1 server, with one connection and one request at a time.
final class HTTPClient: Sendable {
    private let endpoint: DemoEndpoint
    private let tls: NIOSSLContext?
    private let answerTimeout: TimeAmount
    private let connection = Mutex<(any Channel)?>(nil)

    /// Makes a client; it connects with the first request.
    ///
    /// - Parameters:
    ///   - endpoint: Where the server is.
    ///   - tls: What to shake hands with; `nil` for plain HTTP.
    ///   - answerTimeout: How long nothing may move.
    init(_ endpoint: DemoEndpoint, tls: NIOSSLContext? = nil, answerTimeout: TimeAmount = DemoLimits.answer) {
        self.endpoint = endpoint
        self.tls = tls
        self.answerTimeout = answerTimeout
    }

    /// Sends a request and waits for the whole answer, whatever its status.
    func send(
        _ method: HTTPMethod,
        _ target: String,
        headers: HTTPHeaders = [:],
        body: ByteBuffer? = nil
    ) async throws -> HTTPReply {
        try await self.send(method, target, headers: headers, size: body?.readableBytes) { write in
            if let body, body.readableBytes > 0 { try await write(body) }
        }
    }

    /// Sends a request whose body is written piece by piece, each when the one before has left, and waits for the answer.
    func send(
        _ method: HTTPMethod,
        _ target: String,
        headers: HTTPHeaders,
        size: Int?,
        body: (_ write: (ByteBuffer) async throws -> Void) async throws -> Void
    ) async throws -> HTTPReply {
        let channel = try await self.channel()
        var head = HTTPRequestHead(version: .http1_1, method: method, uri: target, headers: headers)
        let host = self.endpoint.host
        // RFC 3986 §3.2.2: an IPv6 address is in brackets.
        head.headers.replaceOrAdd(
            name: "Host",
            value: "\(host.contains(":") ? "[\(host)]" : host):\(self.endpoint.port)"
        )
        if let size { head.headers.replaceOrAdd(name: "Content-Length", value: "\(size)") }
        let reply = channel.eventLoop.makePromise(of: HTTPReply.self)
        do {
            try await channel.writeAndFlush(HTTPExchangeHandler.Command.head(head, reply))
            try await body { try await channel.writeAndFlush(HTTPExchangeHandler.Command.body($0)) }
            try await channel.writeAndFlush(HTTPExchangeHandler.Command.end)
        } catch {
            // A server that refuses a body answers before it closes: that answer says more than the broken pipe.
            channel.closeFuture.whenComplete { _ in reply.fail(error) }
            channel.close(promise: nil)
            return try await reply.futureResult.get()
        }
        return try await reply.futureResult.get()
    }

    /// Closes the connection, if there is one.
    func close() async {
        let channel = self.connection.withLock { connection in
            defer { connection = nil }
            return connection
        }
        try? await channel?.close()
    }

    private func channel() async throws -> any Channel {
        if let channel = self.connection.withLock({ $0 }), channel.isActive { return channel }
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(DemoLimits.connect)
            .channelInitializer { [tls, answerTimeout, host = self.endpoint.host] channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        // An address is no name to ask for (RFC 6066 §3); the certificate is compared with it all the same.
                        let isAddress = (try? SocketAddress(ipAddress: host, port: 0)) != nil
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: isAddress ? nil : host)
                        )
                    }
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(HTTPExchangeHandler(timeout: answerTimeout))
                }
            }
            .connect(host: self.endpoint.host, port: self.endpoint.port)
            .get()
        self.connection.withLock { $0 = channel }
        return channel
    }

    /// A text as part of a path or of a query (RFC 3986 §2.3).
    static func escape(_ text: String) -> String {
        var escaped = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                escaped.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                escaped += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }
        return escaped
    }
}

/// Joins the parts of one exchange after the other, and gives up when nothing moves for some time.
private final class HTTPExchangeHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias InboundOut = Never
    typealias OutboundIn = Command
    typealias OutboundOut = HTTPClientRequestPart

    /// What the client asks of the handler.
    enum Command: Sendable {
        case head(HTTPRequestHead, EventLoopPromise<HTTPReply>)
        case body(ByteBuffer)
        case end
    }

    private struct Exchange {
        let promise: EventLoopPromise<HTTPReply>
        var reply: HTTPReply?
        var isLast = false
        var timer: Scheduled<Void>?
    }

    private let timeout: TimeAmount
    private var exchange: Exchange?

    init(timeout: TimeAmount) { self.timeout = timeout }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch self.unwrapOutboundIn(data) {
        case .head(let head, let reply):
            guard self.exchange == nil else {
                let error = DemoError("a request is under way on this connection")
                reply.fail(error)
                promise?.fail(error)
                return
            }
            self.exchange = Exchange(promise: reply)
            context.write(self.wrapOutboundOut(.head(head)), promise: promise)
        case .body(let bytes):
            context.write(self.wrapOutboundOut(.body(.byteBuffer(bytes))), promise: promise)
        case .end:
            context.write(self.wrapOutboundOut(.end(nil)), promise: promise)
        }
        self.startTimer(context)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.startTimer(context)
        switch self.unwrapInboundIn(data) {
        case .head(let head):
            self.exchange?.reply = HTTPReply(status: head.status, body: ByteBuffer())
            self.exchange?.isLast = !head.isKeepAlive
        case .body(var bytes):
            self.exchange?.reply?.body.writeBuffer(&bytes)
            if let size = self.exchange?.reply?.body.readableBytes, size > DemoLimits.httpBodyBytesMax {
                self.fail(DemoError("the answer is longer than \(DemoLimits.httpBodyBytesMax) bytes"))
                context.close(promise: nil)
            }
        case .end:
            guard let exchange = self.exchange, let reply = exchange.reply else { return }
            self.exchange = nil
            exchange.timer?.cancel()
            if exchange.isLast { context.close(promise: nil) }
            exchange.promise.succeed(reply)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.fail(DemoError("the server closed the connection"))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.fail(error)
        context.close(promise: nil)
    }

    private func startTimer(_ context: ChannelHandlerContext) {
        self.exchange?.timer?.cancel()
        guard self.exchange != nil else { return }
        self.exchange?.timer = context.eventLoop.assumeIsolated().scheduleTask(in: self.timeout) {
            self.fail(DemoError("the server did not answer within \(self.timeout.nanoseconds / 1_000_000_000) s"))
            context.close(promise: nil)
        }
    }

    private func fail(_ error: any Error) {
        guard let exchange = self.exchange else { return }
        self.exchange = nil
        exchange.timer?.cancel()
        exchange.promise.fail(error)
    }
}
