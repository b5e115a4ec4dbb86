import NIOCore
import NIOPosix

/// A client of one CoAP server over UDP.
struct CoAPClient: Sendable {
    private let channel: any Channel

    /// Binds a socket that talks to the server only.
    ///
    /// - Parameters:
    ///   - endpoint: Where the server is.
    ///   - acknowledgementWait: How long a request waits before it is sent again for the first time; twice as long before
    ///     each next time.
    /// - Throws: Errors of the socket; that nobody listens shows only when a request is not answered.
    init(
        _ endpoint: DemoEndpoint,
        acknowledgementWait: TimeAmount = CoAPClientHandler.acknowledgementWait
    ) async throws {
        self.channel = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        CoAPClientHandler(acknowledgementWait: acknowledgementWait)
                    )
                }
            }
            .connect(host: endpoint.host, port: endpoint.port)
            .get()
    }

    /// Sends a confirmable request, again and again if it must be, and waits for the answer.
    func ask(_ request: CoAPMessage) async throws -> CoAPMessage {
        try await self.send(.ask(request, self.promise()))
    }

    /// Begins to observe a resource (RFC 7641), and waits for its first state; later ones come by ``receive(within:)``.
    func observe(_ request: CoAPMessage) async throws -> CoAPMessage {
        var request = request
        request.options.append((CoAPMessage.Option.observe, []))
        return try await self.send(.observe(request, self.promise()))
    }

    /// Stops observing: a later notification is answered with Reset.
    func stopObserving() { self.channel.write(CoAPClientHandler.Command.stopObserving, promise: nil) }

    /// The next state of the observed resource.
    func receive(within wait: TimeAmount) async throws -> CoAPMessage {
        try await self.send(.receive(self.promise(), within: wait))
    }

    /// Closes the socket.
    func close() async { try? await self.channel.close() }

    private func promise() -> EventLoopPromise<CoAPMessage> { self.channel.eventLoop.makePromise() }

    private func send(_ command: CoAPClientHandler.Command) async throws -> CoAPMessage {
        let promise = command.promise
        self.channel.writeAndFlush(command, promise: nil)
        self.channel.closeFuture.whenComplete { _ in promise?.fail(DemoError("the socket is closed")) }
        guard let promise else { throw DemoError("there is no answer to wait for") }
        return try await promise.futureResult.get()
    }
}

/// Matches answers to requests, repeats what is lost and acknowledges what comes (RFC 7252 §4, §5).
final class CoAPClientHandler: ChannelDuplexHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias InboundOut = Never
    typealias OutboundIn = Command
    typealias OutboundOut = ByteBuffer

    /// What the client asks of the handler.
    enum Command: Sendable {
        case ask(CoAPMessage, EventLoopPromise<CoAPMessage>)
        case observe(CoAPMessage, EventLoopPromise<CoAPMessage>)
        case receive(EventLoopPromise<CoAPMessage>, within: TimeAmount)
        case stopObserving

        /// What the command completes.
        var promise: EventLoopPromise<CoAPMessage>? {
            switch self {
            case .ask(_, let promise), .observe(_, let promise), .receive(let promise, _): promise
            case .stopObserving: nil
            }
        }
    }

    /// Wait for the first acknowledgement: ACK_TIMEOUT (RFC 7252 §4.8).
    static let acknowledgementWait = TimeAmount.milliseconds(2_000)
    /// How often a request is repeated: MAX_RETRANSMIT.
    static let repeatCountMax = 4

    private struct Exchange {
        let request: CoAPMessage
        let promise: EventLoopPromise<CoAPMessage>
        var repeatCount = 0
        var timer: Scheduled<Void>?
    }

    private let acknowledgementWait: TimeAmount
    private var exchanges: [[UInt8]: Exchange] = [:]
    private var lastID = UInt16.random(in: 0...UInt16.max)
    private var lastToken = UInt32.random(in: 0...UInt32.max)
    private var observed: [UInt8]?
    private var lastNotification: UInt16?
    private var mailbox = Mailbox<CoAPMessage>()

    init(acknowledgementWait: TimeAmount) { self.acknowledgementWait = acknowledgementWait }

    func handlerRemoved(context: ChannelHandlerContext) {
        for token in Array(self.exchanges.keys) { self.answer(token, .failure(DemoError("the socket is closed"))) }
        self.mailbox.fail(DemoError("the socket is closed"))
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch self.unwrapOutboundIn(data) {
        case .ask(let request, let answer):
            self.begin(request, answer, context)
        case .observe(let request, let answer):
            self.observed = self.begin(request, answer, context)
        case .receive(let message, let wait):
            self.mailbox.receive(message)
            let timer = context.eventLoop.scheduleTask(in: wait) {
                message.fail(DemoError("the server sent nothing within \(wait.nanoseconds / 1_000_000_000) s"))
            }
            message.futureResult.whenComplete { _ in timer.cancel() }
        case .stopObserving:
            self.observed = nil
        }
        promise?.succeed()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let message = CoAPMessage(self.unwrapInboundIn(data).data) else { return }
        switch message.kind {
        case .reset:
            let reset = self.exchanges.first { $0.value.request.id == message.id }
            if let token = reset?.key { self.answer(token, .failure(DemoError("the server reset the request"))) }
        case .acknowledgement where message.code == .empty:
            // The answer comes by itself (RFC 7252 §5.2.2): stop repeating, but not for ever.
            guard let token = self.exchanges.first(where: { $0.value.request.id == message.id })?.key else { return }
            self.exchanges[token]?.timer?.cancel()
            self.exchanges[token]?.timer = self.expire(token, in: DemoLimits.answer, context)
        case .acknowledgement, .confirmable, .nonConfirmable:
            self.received(message, context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // An unreachable port shows as an error of the socket; the request is repeated and gives up in time.
    }

    private func received(_ message: CoAPMessage, _ context: ChannelHandlerContext) {
        let isKnown = self.exchanges[message.token] != nil || self.observed == message.token
        if message.kind == .confirmable {
            let kind: CoAPMessage.Kind = isKnown ? .acknowledgement : .reset
            self.transmit(CoAPMessage(kind: kind, code: .empty, id: message.id), context)
        } else if message.kind == .nonConfirmable, !isKnown {
            self.transmit(CoAPMessage(kind: .reset, code: .empty, id: message.id), context)
        }
        if self.exchanges[message.token] != nil {
            self.answer(message.token, .success(message))
        } else if isKnown, message.id != self.lastNotification {
            self.lastNotification = message.id
            // A full box means that the device looks at none of them; the newest state is read when it does.
            _ = self.mailbox.deliver(message)
        }
    }

    @discardableResult
    private func begin(
        _ request: CoAPMessage,
        _ promise: EventLoopPromise<CoAPMessage>,
        _ context: ChannelHandlerContext
    ) -> [UInt8] {
        var request = request
        self.lastID &+= 1
        self.lastToken &+= 1
        request.id = self.lastID
        request.token = withUnsafeBytes(of: self.lastToken.bigEndian) { Array($0) }
        self.exchanges[request.token] = Exchange(request: request, promise: promise)
        self.transmit(request, context)
        self.scheduleRepeat(request.token, after: self.acknowledgementWait, context)
        return request.token
    }

    private func scheduleRepeat(_ token: [UInt8], after wait: TimeAmount, _ context: ChannelHandlerContext) {
        self.exchanges[token]?.timer = context.eventLoop.assumeIsolated().scheduleTask(in: wait) {
            guard var exchange = self.exchanges[token] else { return }
            guard exchange.repeatCount < Self.repeatCountMax else {
                self.answer(
                    token,
                    .failure(DemoError("the server did not answer \(exchange.repeatCount + 1) requests"))
                )
                return
            }
            exchange.repeatCount += 1
            self.exchanges[token] = exchange
            self.transmit(exchange.request, context)
            self.scheduleRepeat(token, after: wait * 2, context)
        }
    }

    private func expire(_ token: [UInt8], in wait: TimeAmount, _ context: ChannelHandlerContext) -> Scheduled<Void> {
        context.eventLoop.assumeIsolated().scheduleTask(in: wait) {
            self.answer(token, .failure(DemoError("the server acknowledged the request but did not answer it")))
        }
    }

    private func transmit(_ message: CoAPMessage, _ context: ChannelHandlerContext) {
        context.writeAndFlush(self.wrapOutboundOut(message.bytes), promise: nil)
    }

    private func answer(_ token: [UInt8], _ result: Result<CoAPMessage, any Error>) {
        guard let exchange = self.exchanges.removeValue(forKey: token) else { return }
        exchange.timer?.cancel()
        exchange.promise.completeWith(result)
    }
}
