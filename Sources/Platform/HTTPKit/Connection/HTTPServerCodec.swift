public import NIOCore
public import NIOHTTP1
import NIOSSL
public import NodeKit

/// The checks of HTTPKit for a server that speaks NIO's types, in place of NIO's own decoder and encoder.
///
/// Requests are taken apart as strictly as those of a node's server and refused with the same answers, which the server behind
/// it does not see. It hands on one request after another, once the one before is answered; answers end where their requests
/// want it (`HEAD`, HTTP/1.0, `Connection: close`), whatever the server says.
public final class HTTPServerCodec: ChannelDuplexHandler {
    /// What the client sends.
    public typealias InboundIn = ByteBuffer
    /// What the server gets.
    public typealias InboundOut = HTTPServerRequestPart
    /// What the server writes.
    public typealias OutboundIn = HTTPServerResponsePart
    /// What the client gets.
    public typealias OutboundOut = ByteBuffer

    /// A request that is not completely answered.
    private struct Exchange {
        /// How the end of the answer's body is told (RFC 9112 §6.3).
        enum Framing: Equatable {
            /// There is no head yet.
            case awaited
            /// Whatever body there is, it is left out.
            case none
            /// So many bytes are to come.
            case length(Int64)
            case chunks
            case close
            /// All of it is written.
            case done
        }

        var isHead: Bool
        var isOldVersion: Bool
        /// Whether the connection goes on after it.
        var isKeepAlive: Bool
        var isRead = false
        var framing = Framing.awaited
    }

    private enum Phase {
        case open
        /// The last answer is written; what comes is thrown away, and what the server writes, too.
        case ending
        case closed
    }

    private let now: @Sendable () -> Timestamp
    private var decoder: RequestDecoder
    private var encoder = ResponseEncoder()
    private var phase = Phase.open
    private var input = ByteBuffer()
    private var inputHasEnded = false
    private var exchange: Exchange?
    private var isStopping = false
    /// Whether the server wants to read on, once the requests that are here are answered.
    private var isReadHeld = false
    private var lingering: Scheduled<Void>?

    /// Makes the codec of one connection.
    ///
    /// - Parameters:
    ///   - headerBytesMax: How many bytes the target, the names and the values of a request may have together, at least 1.
    ///   - headerFieldsMax: How many fields a request may have, at least 1.
    ///   - now: The time of day, for answers that refuse a request.
    public init(headerBytesMax: Int, headerFieldsMax: Int, now: @escaping @Sendable () -> Timestamp) {
        self.decoder = RequestDecoder(bytesMax: headerBytesMax, fieldsMax: headerFieldsMax)
        self.now = now
    }

    // MARK: What the channel tells

    /// Takes in bytes.
    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard self.phase == .open else { return }
        self.input.discardReadBytes()
        self.input.writeImmutableBuffer(Self.unwrapInboundIn(data))
        self.takeInput(context)
    }

    /// Reads on where nobody else would ask for it.
    public func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        if self.phase == .ending { context.read() }
    }

    /// Reads unless a request that is already here waits for its turn.
    public func read(context: ChannelHandlerContext) {
        if self.phase == .open, self.exchange?.isRead == true, self.input.readableBytes > 0 {
            self.isReadHeld = true
        } else {
            context.read()
        }
    }

    /// Learns that no more comes, or that the server stops.
    public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .inputClosed? = event as? ChannelEvent {
            self.inputHasEnded = true
            // What came before is answered first.
            if self.phase == .ending { self.close(context) } else { self.takeInput(context) }
            return
        }
        if event is ChannelShouldQuiesceEvent { self.isStopping = true }
        context.fireUserInboundEventTriggered(event)
    }

    /// Hands errors on, but for a client that goes without a farewell, whose input ends next.
    public func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error as? NIOSSLError != .uncleanShutdown { context.fireErrorCaught(error) }
    }

    /// Ends.
    public func channelInactive(context: ChannelHandlerContext) {
        self.phase = .closed
        self.input = ByteBuffer()
        self.lingering?.cancel()
        context.fireChannelInactive()
    }

    // MARK: Requests

    /// Hands on what came in, up to the end of the request that is being answered.
    private func takeInput(_ context: ChannelHandlerContext) {
        while self.phase == .open, self.exchange?.isRead != true {
            guard let piece = self.decoder.next(from: &self.input) else {
                if self.inputHasEnded { self.endInput(context) }
                return
            }
            switch piece {
            case .head(let head): self.begin(head, context)
            case .body(let bytes): context.fireChannelRead(Self.wrapInboundOut(.body(bytes)))
            case .end:
                self.exchange?.isRead = true
                context.fireChannelRead(Self.wrapInboundOut(.end(nil)))
                self.next(context)
            case .refused(let rejection): self.refuse(rejection, context)
            }
        }
    }

    private func begin(_ head: RequestHead, _ context: ChannelHandlerContext) {
        self.exchange = Exchange(isHead: head.isHead, isOldVersion: head.isOldVersion, isKeepAlive: head.isKeepAlive)
        if let refusal = head.refusal { return self.refuse(refusal, context) }
        if head.expectsContinue, head.hasBody {
            context.writeAndFlush(
                Self.wrapOutboundOut(ByteBuffer(staticString: ResponseEncoder.proceed)),
                promise: nil
            )
        }
        let part = HTTPRequestHead(
            version: head.isOldVersion ? .http1_0 : .http1_1,
            method: HTTPMethod(rawValue: head.method.rawValue),
            uri: head.target,
            headers: HTTPHeaders(head.fields.map { ($0.name, $0.value) })
        )
        context.fireChannelRead(Self.wrapInboundOut(.head(part)))
    }

    /// Answers a request that is none, or is not served, and ends the connection.
    private func refuse(_ rejection: Rejection, _ context: ChannelHandlerContext) {
        // A second head would be taken for a part of the first answer's body.
        guard self.exchange.map({ $0.framing == .awaited }) ?? true else { return self.close(context) }
        var bytes = ByteBuffer()
        self.encoder.write(
            .rejection(rejection, at: self.now()),
            isHead: self.exchange?.isHead == true,
            connection: "Connection: close\r\n",
            at: self.now(),
            into: &bytes
        )
        self.end(writing: bytes, context)
        // The server may be waiting for the rest of the body.
        context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    }

    private func endInput(_ context: ChannelHandlerContext) {
        guard self.exchange == nil else {
            // The request is cut off.
            return context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        }
        self.close(context)
    }

    // MARK: Answers

    /// Writes a part of an answer as its request wants it.
    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard self.phase == .open, let exchange else {
            promise?.fail(ChannelError.alreadyClosed)
            return
        }
        switch Self.unwrapOutboundIn(data) {
        case .head(let head): self.write(head, exchange, context, promise)
        case .body(.byteBuffer(let bytes)): self.write(bytes, exchange, context, promise)
        case .body(.fileRegion):
            // Nothing here sends one, and what it holds cannot be counted as bytes are.
            promise?.fail(ChannelError.operationUnsupported)
        case .end:
            if case .length(1...) = exchange.framing {
                // Only a closed connection tells the client that bytes are missing.
                promise?.succeed()
                return self.close(context)
            }
            let last = exchange.framing == .chunks ? ByteBuffer(staticString: "0\r\n\r\n") : ByteBuffer()
            self.exchange?.framing = .done
            context.writeAndFlush(Self.wrapOutboundOut(last), promise: promise)
            self.next(context)
        }
    }

    private func write(
        _ head: HTTPResponseHead,
        _ exchange: Exchange,
        _ context: ChannelHandlerContext,
        _ promise: EventLoopPromise<Void>?
    ) {
        let status = head.status.code
        let length = head.headers.first(name: "Content-Length").flatMap { Int64($0) }
        var isKeepAlive = exchange.isKeepAlive && !self.isStopping
        if head.headers[canonicalForm: "Connection"].contains(where: { $0.lowercased() == "close" }) {
            isKeepAlive = false
        }
        let framing: Exchange.Framing
        if exchange.isHead || status == 204 || status == 304 {
            framing = .none
        } else if let length {
            framing = .length(length)
        } else if exchange.isOldVersion {
            framing = .close
            isKeepAlive = false
        } else {
            framing = .chunks
        }
        self.exchange?.framing = framing
        self.exchange?.isKeepAlive = isKeepAlive

        var bytes = context.channel.allocator.buffer(capacity: 512)
        bytes.writeString("HTTP/1.1 \(status) \(head.status.reasonPhrase)\r\n")
        for (name, value) in head.headers
        where !["connection", "transfer-encoding"].contains(name.lowercased()) {
            bytes.writeString("\(name): \(value)\r\n")
        }
        if framing == .chunks { bytes.writeStaticString("Transfer-Encoding: chunked\r\n") }
        if !isKeepAlive {
            bytes.writeStaticString("Connection: close\r\n")
        } else if exchange.isOldVersion {
            bytes.writeStaticString("Connection: keep-alive\r\n")
        }
        bytes.writeStaticString("\r\n")
        context.write(Self.wrapOutboundOut(bytes), promise: promise)
    }

    private func write(
        _ bytes: ByteBuffer,
        _ exchange: Exchange,
        _ context: ChannelHandlerContext,
        _ promise: EventLoopPromise<Void>?
    ) {
        switch exchange.framing {
        case .awaited, .none, .done: promise?.succeed()
        case .close: context.write(Self.wrapOutboundOut(bytes), promise: promise)
        case .length(let count):
            let rest = count - Int64(bytes.readableBytes)
            guard rest >= 0 else {
                // They would be taken for the next answer.
                promise?.fail(ChannelError.operationUnsupported)
                return self.close(context)
            }
            self.exchange?.framing = .length(rest)
            context.write(Self.wrapOutboundOut(bytes), promise: promise)
        case .chunks:
            // An empty one would be the last.
            guard bytes.readableBytes > 0 else { promise?.succeed(); return }
            let size = ByteBuffer(string: "\(String(bytes.readableBytes, radix: 16))\r\n")
            context.write(Self.wrapOutboundOut(size), promise: nil)
            context.write(Self.wrapOutboundOut(bytes), promise: nil)
            context.write(Self.wrapOutboundOut(ByteBuffer(staticString: "\r\n")), promise: promise)
        }
    }

    /// Goes on to the next request if this one is over, or ends the connection if it was the last.
    private func next(_ context: ChannelHandlerContext) {
        guard let exchange, exchange.framing == .done else { return }
        if !exchange.isKeepAlive { return self.end(writing: ByteBuffer(), context) }
        guard exchange.isRead else { return }
        self.exchange = nil
        guard self.input.readableBytes > 0 || self.inputHasEnded else { return }
        self.takeInput(context)
        context.fireChannelReadComplete()
        if self.isReadHeld {
            self.isReadHeld = false
            self.read(context: context)
        }
    }

    // MARK: The end

    private func end(writing bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        let hasInput = self.exchange?.isRead != true || self.input.readableBytes > 0
        self.phase = .ending
        self.input = ByteBuffer()
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in
            guard self.phase == .ending else { return }
            guard hasInput, !self.inputHasEnded else { return self.close(context) }
            // RFC 9112 §9.6: closing with unread input would reset the connection and with it the answer.
            context.close(mode: .output, promise: nil)
            self.lingering = context.eventLoop.assumeIsolated().scheduleTask(in: HTTPLimits.lingering) {
                self.close(context)
            }
            context.read()
        }
        context.writeAndFlush(Self.wrapOutboundOut(bytes), promise: written)
    }

    private func close(_ context: ChannelHandlerContext) {
        guard self.phase != .closed else { return }
        self.phase = .closed
        self.lingering?.cancel()
        context.close(promise: nil)
    }
}
