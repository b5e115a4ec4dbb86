import NIOCore
import NIOHTTP1
import NIOWebSocket

/// Turns an HTTP/1.1 connection into one whose bytes of MQTT come in WebSocket frames (RFC 6455 §4.2, MQTT 5 §6).
///
/// The handlers for frames are put before that of the connection, which from then on sees bytes as on a plain socket.
final class WebSocketUpgrader: HTTPServerProtocolUpgrader, Sendable {
    let supportedProtocol = "websocket"
    let requiredUpgradeHeaders: [String] = []

    private let handshake: NIOWebSocketServerUpgrader
    private let frameBytesMax: Int

    /// The subprotocols that are spoken, the best first: that of the standard, and what clients of MQTT 3.1 say.
    private static let subprotocols = ["mqtt", "mqttv3.1"]

    /// - Parameters:
    ///   - path: Where the WebSocket is; a query after it is ignored.
    ///   - frameBytesMax: The longest frame that is read.
    init(path: String, frameBytesMax: Int) {
        self.frameBytesMax = frameBytesMax
        self.handshake = NIOWebSocketServerUpgrader(
            maxFrameSize: frameBytesMax,
            automaticErrorHandling: false,
            shouldUpgrade: { channel, head in
                channel.eventLoop.makeSucceededFuture(Self.headers(for: head, path: path))
            },
            upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() }
        )
    }

    /// The headers of the answer; `nil` if this is no request for MQTT.
    ///
    /// The Origin is not looked at: it tells of a page in a browser, and what a page may do is up to the credentials that it has.
    static func headers(for head: HTTPRequestHead, path: String) -> HTTPHeaders? {
        guard head.method == .GET, head.uri.prefix(while: { $0 != "?" }) == path else { return nil }
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        // MQTT 5 §6.0: the server must choose a subprotocol that the client offered.
        guard let chosen = Self.subprotocols.first(where: { name in offered.contains { $0 == name } }) else {
            return nil
        }
        return ["Sec-WebSocket-Protocol": chosen]
    }

    func buildUpgradeResponse(
        channel: any Channel,
        upgradeRequest: HTTPRequestHead,
        initialResponseHeaders: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
        self.handshake.buildUpgradeResponse(
            channel: channel,
            upgradeRequest: upgradeRequest,
            initialResponseHeaders: initialResponseHeaders
        )
    }

    func upgrade(context: ChannelHandlerContext, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<Void> {
        context.eventLoop.makeCompletedFuture {
            let pipeline = context.pipeline.syncOperations
            let connection = try pipeline.handler(type: ConnectionHandler.self)
            try pipeline.addHandlers(
                [
                    WebSocketFrameEncoder(),
                    ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: self.frameBytesMax)),
                    WebSocketBytes(),
                ],
                position: .before(connection)
            )
        }
    }
}

/// Answers requests that are none for a WebSocket of MQTT, and ends their connection.
final class WebSocketRefusal: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let path: String
    private var hasAnswered = false

    init(path: String) { self.path = path }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = Self.unwrapInboundIn(data), !self.hasAnswered else { return }
        self.hasAnswered = true
        let isElsewhere = head.uri.prefix { $0 != "?" } != self.path
        let body = ByteBuffer(
            string: isElsewhere ? "nothing is here\n" : "this is a WebSocket of version 13 with the subprotocol mqtt\n"
        )
        var headers: HTTPHeaders = ["Connection": "close", "Content-Type": "text/plain; charset=utf-8"]
        headers.add(name: "Content-Length", value: "\(body.readableBytes)")
        if !isElsewhere {
            headers.add(name: "Upgrade", value: "websocket")
            headers.add(name: "Sec-WebSocket-Version", value: "13")
        }
        let answer = HTTPResponseHead(
            version: .http1_1,
            status: isElsewhere ? .notFound : .upgradeRequired,
            headers: headers
        )
        context.write(Self.wrapOutboundOut(.head(answer)), promise: nil)
        if head.method != .HEAD { context.write(Self.wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
        let channel = context.channel
        context.writeAndFlush(Self.wrapOutboundOut(.end(nil))).whenComplete { _ in channel.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // That the connection is not upgraded comes before the request itself, which is answered above.
        if error is NIOWebSocketUpgradeError || error is HTTPServerUpgradeErrors { return }
        context.close(promise: nil)
    }
}
