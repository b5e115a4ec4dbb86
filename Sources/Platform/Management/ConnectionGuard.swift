import HTTPTypes
import Hummingbird
import NIOCore
import NIOHTTPTypes

/// Ends connections whose peer stops reading or sends a body without end.
///
/// An answer may be given before the request's body is read to its end. The rest is read and dropped, because closing a
/// socket with unread bytes makes many systems throw the answer away; how much of it depends on the answer.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let uploadBytesMax: Int64
    private let bodyBytesMax: Int64
    private var received: Int64 = 0
    private var limit: Int64

    init(uploadBytesMax: Int64, bodyBytesMax: Int64) {
        self.uploadBytesMax = uploadBytesMax
        self.bodyBytesMax = bodyBytesMax
        self.limit = uploadBytesMax
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.unwrapInboundIn(data) {
        case .head:
            self.received = 0
            self.limit = self.uploadBytesMax
        case .body(let bytes):
            self.received += Int64(bytes.readableBytes)
            // Once more than the limit has come in, whoever reads the body has refused it.
            if self.received > self.limit + self.bodyBytesMax {
                context.close(promise: nil)
                return
            }
        case .end: break
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if case .head(let head) = self.unwrapOutboundIn(data) {
            // A peer without a login, or over a limit, gets little more of our time.
            if [401, 413, 429].contains(head.status.code) { self.limit = min(self.limit, self.received) }
        }
        context.write(data, promise: promise)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? IdleStateHandler.IdleStateEvent, event == .write {
            if !context.channel.isWritable { context.close(promise: nil) }
            return
        }
        context.fireUserInboundEventTriggered(event)
    }
}
