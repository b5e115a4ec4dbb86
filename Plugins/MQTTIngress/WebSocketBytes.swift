import NIOCore
import NIOWebSocket

/// The bytes that WebSocket frames carry, in both directions (RFC 6455 §5, MQTT 5 §6).
///
/// Where frames and messages begin and end means nothing to MQTT: packets may span frames, and a frame may hold several.
final class WebSocketBytes: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = WebSocketFrame

    /// Whether a message has begun and more of its frames are to come.
    private var isInMessage = false
    /// Whether the farewell was sent, after which nothing is.
    private var isClosing = false

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !self.isClosing else { return }
        let frame = Self.unwrapInboundIn(data)
        // RFC 6455 §5.1 and §5.2: a client masks, and no extension was agreed on that gives the reserved bits a meaning.
        guard frame.maskKey != nil, !frame.rsv1, !frame.rsv2, !frame.rsv3 else {
            return self.close(context, .protocolError)
        }
        switch frame.opcode {
        case .binary, .continuation:
            guard (frame.opcode == .continuation) == self.isInMessage else {
                return self.close(context, .protocolError)
            }
            self.isInMessage = !frame.fin
            context.fireChannelRead(Self.wrapInboundOut(frame.unmaskedData))
        // MQTT 5 §6.0: other data than binary ends the connection.
        case .text: self.close(context, .unacceptableData)
        case .ping:
            let pong = WebSocketFrame(fin: true, opcode: .pong, data: frame.unmaskedData)
            context.writeAndFlush(Self.wrapOutboundOut(pong), promise: nil)
        case .pong: break
        case .connectionClose: self.close(context, .normalClosure)
        default: self.close(context, .protocolError)
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !self.isClosing else {
            promise?.fail(ChannelError.outputClosed)
            return
        }
        let frame = WebSocketFrame(fin: true, opcode: .binary, data: Self.unwrapOutboundIn(data))
        context.write(Self.wrapOutboundOut(frame), promise: promise)
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        self.sayFarewell(context, .normalClosure)
        context.close(mode: mode, promise: promise)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? NIOWebSocketError else { return context.fireErrorCaught(error) }
        self.close(context, WebSocketErrorCode(error))
    }

    private func close(_ context: ChannelHandlerContext, _ code: WebSocketErrorCode) {
        self.sayFarewell(context, code)
        context.close(promise: nil)
    }

    /// Sends the close frame, once (RFC 6455 §5.5.1); the connection is closed without waiting for the peer's.
    private func sayFarewell(_ context: ChannelHandlerContext, _ code: WebSocketErrorCode) {
        guard !self.isClosing else { return }
        self.isClosing = true
        guard context.channel.isActive else { return }
        var data = context.channel.allocator.buffer(capacity: 2)
        data.write(webSocketErrorCode: code)
        let frame = WebSocketFrame(fin: true, opcode: .connectionClose, data: data)
        context.writeAndFlush(Self.wrapOutboundOut(frame), promise: nil)
    }
}

extension WebSocketErrorCode {
    fileprivate init(_ error: NIOWebSocketError) {
        switch error {
        case .invalidFrameLength: self = .messageTooLarge
        case .fragmentedControlFrame, .multiByteControlFrameLength: self = .protocolError
        }
    }
}
