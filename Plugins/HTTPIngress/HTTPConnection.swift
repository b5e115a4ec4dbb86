import NIOCore
import NIOHTTP1
import NIOSSL
import NodeKit
import OTA

/// One connection: assembles a bounded request, has it answered, carries out the answer, and only then goes on to the next
/// (RFC 9112 §9.3.2).
///
/// All of it runs on the channel's event loop, the tasks that answer requests included.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        /// The next thing is the head of a request.
        case awaitingHead
        /// A head is there, its body not yet.
        case receivingBody
        /// A head is there, and before more of its body comes, it is found out whether the client may send it.
        case admitting
        /// A request is being answered; what comes in waits in the queue.
        case responding
        /// An answer is written, but too much of it waits for the client to go on.
        case flushing
        /// The last answer is written; the channel closes when its bytes are gone.
        case closing
        /// As `closing`, with all bytes gone and our side shut: the client may still be sending.
        case lingering
        /// Nothing happens any more.
        case closed
    }

    private enum Input {
        case part(HTTPServerRequestPart)
        case refused(Rejection)
        case ended
    }

    private let shared: HTTPShared
    private let eventLoop: any EventLoop
    private let executor: EventLoopTaskExecutor
    private let isSecure: Bool
    private var context: ChannelHandlerContext?

    private var phase = Phase.awaitingHead
    /// What came in while a request was answered: at most what one read brings, as reading stops until it is empty.
    private var queue = CircularBuffer<Input>()
    private var isEmptyingQueue = false
    private var inputHasEnded = false
    private var isStopping = false

    private var head: RequestHead?
    private var body = IncomingBody(limit: 0)

    private var encoder = ResponseEncoder()
    private var headBytes = ByteBuffer()
    private var writableWaiter: CheckedContinuation<Void, Never>?
    private var poll: LongPoll?

    private var deadline = NIODeadline.distantFuture
    private var timer: Scheduled<Void>?
    private var writing = WriteWatch()

    init(shared: HTTPShared, eventLoop: any EventLoop, isSecure: Bool) {
        self.shared = shared
        self.eventLoop = eventLoop
        self.isSecure = isSecure
        self.executor = EventLoopTaskExecutor(eventLoop)
    }

    // MARK: What the channel tells

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        self.deadline = .now() + self.shared.limits.headerTimeout
        self.schedule(in: self.shared.limits.tick)
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { self.take(.part(self.unwrapInboundIn(data))) }

    func channelReadComplete(context: ChannelHandlerContext) { self.readMore() }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        guard context.channel.isWritable else { return }
        if let waiter = self.writableWaiter {
            self.writableWaiter = nil
            self.deadline = .distantFuture
            waiter.resume()
        } else if self.phase == .flushing {
            self.next()
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .inputClosed? = event as? ChannelEvent {
            self.endInput()
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error as? HTTPParserError {
        case .invalidEOFState: self.endInput()
        case .headerOverflow: self.take(.refused(.headerTooLarge))
        case .invalidVersion: self.take(.refused(.versionNotSupported))
        case .some: self.take(.refused(.badRequest("the request is not well-formed HTTP")))
        // White space before a value counts for no field, so only here it is too much.
        case nil where error is ByteToMessageDecoderError.PayloadTooLargeError: self.take(.refused(.headerTooLarge))
        // A client that goes without a farewell; that its input has ended is told next.
        case nil where error as? NIOSSLError == .uncleanShutdown: break
        case nil: self.close()
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.phase = .closed
        self.timer?.cancel()
        self.timer = nil
        self.queue.removeAll()
        self.body.release(to: self.shared.connections)
        self.poll?.finish(.gone)
        self.writableWaiter?.resume()
        self.writableWaiter = nil
    }

    /// The node stops: what is being answered is finished, nothing else is begun.
    func stop() {
        self.isStopping = true
        self.poll?.finish(.stopping)
        if self.phase == .awaitingHead { self.close() }
    }

    // MARK: Requests

    private func take(_ input: Input) {
        switch self.phase {
        case .awaitingHead, .receivingBody: self.process(input)
        case .admitting, .responding, .flushing: self.queue.append(input)
        case .closing, .lingering, .closed: break
        }
    }

    private func endInput() {
        guard !self.inputHasEnded else { return }
        self.inputHasEnded = true
        if self.poll != nil || self.phase == .lingering {
            // Someone who waits for news and closes its side has left.
            self.close()
        } else {
            self.take(.ended)
        }
    }

    private func process(_ input: Input) {
        switch input {
        case .part(.head(let head)): self.begin(RequestHead(head))
        case .part(.body(let bytes)): if self.phase == .receivingBody { self.receive(bytes) }
        case .part(.end): if self.phase == .receivingBody { self.complete() }
        case .refused(let rejection): self.refuse(rejection)
        case .ended: self.close()
        }
    }

    private func begin(_ head: RequestHead) {
        self.phase = .receivingBody
        self.head = head
        self.shared.metrics.requests.add()
        switch head.route {
        case .success(let route): self.body = IncomingBody(limit: self.shared.limits.bodyBytes(for: route.call))
        case .failure: self.body = IncomingBody(limit: HTTPLimits.discardedBody)
        }
        guard head.hasBody else { return }
        self.deadline = .now() + self.shared.limits.bodyTimeout
        if let length = head.contentLength, length > self.body.limit {
            return self.refuse(.tooLarge(limit: self.body.limit))
        }
        if head.expectsContinue {
            if case .failure(let rejection) = head.route { return self.refuse(rejection) }
            self.admit()
        }
    }

    /// Finds out whether the client may send the rest of its body.
    ///
    /// Bodies that are being received take room, which somebody without a token could take from those who have one.
    private func admit() {
        guard let head, case .success(let route) = head.route, route.call.hasBody else { return self.goOn() }
        self.phase = .admitting
        let request = self.request(route, head, ByteBuffer())
        let connection = NIOLoopBound(self, eventLoop: self.eventLoop)
        let api = self.shared.api
        // Not a child of the node's task, as in complete(). It ends with the authenticator's answer.
        Task(executorPreference: self.executor) {
            let refusal = await api.refusal(of: request)
            connection.value.goOn(unless: refusal)
        }
    }

    private func goOn(unless refusal: Response? = nil) {
        switch self.phase {
        case .receivingBody, .admitting: break
        case .awaitingHead, .responding, .flushing, .closing, .lingering, .closed: return
        }
        if let refusal { return self.end(with: refusal) }
        self.body.isAdmitted = true
        self.phase = .receivingBody
        guard self.reserve() else { return self.refuse(.noRoom) }
        if self.head?.expectsContinue == true {
            let proceed = ByteBuffer(staticString: ResponseEncoder.proceed)
            self.context?.writeAndFlush(self.wrapOutboundOut(proceed), promise: nil)
        }
        self.emptyQueue()
    }

    /// Counts what there is of the body; `false` if that is too much.
    private func reserve() -> Bool {
        guard !self.body.isEmpty, case .success(let route)? = self.head?.route else { return true }
        return self.body.reserve(in: self.shared.connections, isKnown: route.token != nil)
    }

    private func request(_ route: Route, _ head: RequestHead, _ body: ByteBuffer) -> DeviceRequest {
        let showsCertificate = self.isSecure && route.token == Route.tokenOfCertificate
        return DeviceRequest(
            route: route,
            head: head,
            body: body,
            certificate: showsCertificate ? self.certificate() : nil
        )
    }

    private func receive(_ bytes: ByteBuffer) {
        self.shared.metrics.receivedBytes.add(bytes.readableBytes)
        guard self.body.count(bytes) else { return self.refuse(.tooLarge(limit: self.body.limit)) }
        guard case .success(let route)? = self.head?.route, route.call.hasBody else { return }
        self.body.append(bytes)
        if self.body.isAdmitted, !self.reserve() { self.refuse(.noRoom) }
    }

    private func complete() {
        guard let head = self.head else { return }
        guard self.reserve() else { return self.refuse(.noRoom) }
        self.phase = .responding
        self.deadline = .distantFuture
        switch head.route {
        case .failure(let rejection):
            self.send(.rejection(rejection, at: self.shared.now()))
        case .success(let route):
            let request = self.request(route, head, self.body.take())
            let connection = NIOLoopBound(self, eventLoop: self.eventLoop)
            let api = self.shared.api
            // Not a child of the node's task, which may not touch the channel. It ends with the chain's answer, or for a
            // long poll with its time-out, the channel, or the node.
            Task(executorPreference: self.executor) {
                switch await api.answer(request) {
                case .respond(let response): await connection.value.carryOut(response)
                case .wait(let waitingFor): await connection.value.wait(waitingFor)
                }
            }
        }
    }

    /// The client's certificate in DER form, if it has shown one.
    private func certificate() -> [UInt8]? {
        try? self.context?.pipeline.syncOperations.nioSSL_peerCertificate()?.toDERBytes()
    }

    /// Answers a request that is not completely here, or is none, and ends the connection.
    private func refuse(_ rejection: Rejection) {
        // A path or method that is refused anyway says more than a length.
        var rejection = rejection
        if case .tooLarge = rejection, case .failure(let reason)? = self.head?.route { rejection = reason }
        self.end(with: .rejection(rejection, at: self.shared.now()))
    }

    private func end(with response: Response) {
        self.phase = .responding
        var response = response
        response.closes = true
        self.send(response, lingers: true)
    }

    // MARK: Answers

    private func carryOut(_ response: Response) async {
        guard self.head?.isHead == false else { return self.send(response) }
        switch response.body {
        case .content(let reply, let range) where !range.isEmpty:
            await self.carryOut(response, reply.content, BodyPieces(range))
        case .parts(let reply, let multipart):
            await self.carryOut(response, reply.content, BodyPieces(multipart))
        case .none, .json, .text, .content:
            self.send(response)
        }
    }

    /// Sends an answer whose bytes are read piece by piece, no faster than the client takes them.
    private func carryOut(_ response: Response, _ content: any Content, _ pieces: BodyPieces) async {
        let closes = self.isLast(response)
        var pieces = pieces
        var hasBegun = false
        while let piece = pieces.next(HTTPLimits.piece) {
            var bytes: ByteBuffer
            do {
                bytes = try await content.read(piece.range)
                guard bytes.readableBytes == piece.range.count else {
                    throw NodeError(
                        .internalError,
                        "the content ended \(piece.range.count - bytes.readableBytes) bytes early"
                    )
                }
            } catch {
                // Once the head is out, only a closed connection tells the client that bytes are missing.
                guard !hasBegun else { return self.close() }
                return self.send(.failure(NodeError(wrapping: error), isDownload: true, at: self.shared.now()))
            }
            guard self.phase == .responding, let context = self.context else { return }
            if !hasBegun {
                hasBegun = true
                self.encode(response, closes: closes)
                context.write(self.wrapOutboundOut(self.headBytes), promise: nil)
            }
            if let before = piece.before { context.write(self.wrapOutboundOut(before), promise: nil) }
            if let after = piece.after {
                context.write(self.wrapOutboundOut(bytes), promise: nil)
                bytes = after
            }
            guard !pieces.isEmpty else { return self.finish(writing: bytes, closes: closes) }
            context.writeAndFlush(self.wrapOutboundOut(bytes), promise: nil)
            await self.untilWritable()
            guard self.phase == .responding else { return }
        }
    }

    private func wait(_ waitingFor: DeviceAPI.WaitingFor) async {
        guard self.phase == .responding else { return }
        let device = waitingFor.device.id
        guard self.shared.quota.enter(device) else {
            return self.send(.error(429, "Too many long polls", at: self.shared.now()))
        }
        let poll = LongPoll()
        self.poll = poll
        if self.isStopping { poll.finish(.stopping) }
        // What a poll does not take, because it waits for something else or has its answer, waits for another.
        let subscription = self.shared.sessions.subscribeSelectively(
            device,
            interests: waitingFor.isForCall ? .calls : .attributes
        ) { notification in
            waitingFor.accepts(notification) && poll.finish(.notified(notification))
        }
        let timer = self.eventLoop.scheduleTask(in: waitingFor.timeout) { poll.finish(.timedOut) }
        // The input may have ended between the request and here.
        if self.inputHasEnded { poll.finish(.gone) }
        let result = await poll.result()
        timer.cancel()
        self.shared.sessions.unsubscribe(subscription)
        self.shared.quota.leave(device)
        self.poll = nil
        guard self.phase == .responding else { return }
        guard let response = await self.shared.api.response(to: result, for: waitingFor) else { return self.close() }
        self.send(response)
    }

    /// Sends an answer whose bytes are all here.
    private func send(_ response: Response, lingers: Bool = false) {
        guard self.phase == .responding else { return }
        let closes = self.isLast(response)
        self.encode(response, closes: closes)
        self.finish(writing: self.headBytes, closes: closes, lingers: lingers)
    }

    private func encode(_ response: Response, closes: Bool) {
        let metrics = self.shared.metrics
        if response.status >= 400 { metrics.refusedRequests.add() }
        if self.head?.isHead != true { metrics.sentBytes.add(Int(response.bodyLength)) }
        let keepsOld = self.head?.isOldVersion == true
        // Used again for the next answer, unless a large one would be kept for as long as the connection lives.
        if self.headBytes.storageCapacity > HTTPLimits.keptBytes { self.headBytes = ByteBuffer() }
        self.headBytes.clear(minimumCapacity: 512)
        self.encoder.write(
            response,
            isHead: self.head?.isHead == true,
            connection: closes ? "Connection: close\r\n" : keepsOld ? "Connection: keep-alive\r\n" : nil,
            at: self.shared.now(),
            into: &self.headBytes
        )
    }

    private func isLast(_ response: Response) -> Bool {
        response.closes || self.isStopping || self.head?.isKeepAlive != true
    }

    /// Writes the last bytes of an answer and goes on to the next request, or closes.
    private func finish(writing bytes: ByteBuffer, closes: Bool, lingers: Bool = false) {
        guard let context = self.context else { return }
        self.body.release(to: self.shared.connections)
        self.head = nil
        guard closes else {
            context.writeAndFlush(self.wrapOutboundOut(bytes), promise: nil)
            guard context.channel.isWritable else {
                self.phase = .flushing
                return self.watchWriting()
            }
            return self.next()
        }
        self.phase = .closing
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in
            guard self.phase == .closing else { return }
            guard lingers, !self.inputHasEnded else { return self.close() }
            // RFC 9112 §9.6: closing with unread input would reset the connection and with it the answer.
            self.phase = .lingering
            self.queue.removeAll()
            self.context?.close(mode: .output, promise: nil)
            self.deadline = .now() + HTTPLimits.lingering
            self.schedule(in: HTTPLimits.lingering)
            self.readMore()
        }
        context.writeAndFlush(self.wrapOutboundOut(bytes), promise: written)
        if self.phase == .closing { self.watchWriting() }
    }

    private func next() {
        self.phase = .awaitingHead
        self.deadline = .now() + self.shared.limits.idleTimeout
        self.emptyQueue()
    }

    private func emptyQueue() {
        guard !self.isEmptyingQueue else { return }
        self.isEmptyingQueue = true
        while self.phase == .awaitingHead || self.phase == .receivingBody, let input = self.queue.popFirst() {
            self.process(input)
        }
        self.isEmptyingQueue = false
        // The answer was promised to keep the connection, but the node stopped while the client was reading it.
        if self.isStopping, self.phase == .awaitingHead { return self.close() }
        self.readMore()
    }

    private func readMore() {
        guard self.queue.isEmpty, !self.inputHasEnded, self.phase != .admitting, self.phase != .closed else { return }
        if self.phase == .receivingBody, !self.body.isAdmitted { return self.admit() }
        self.context?.read()
    }

    private func untilWritable() async {
        guard let context = self.context, !context.channel.isWritable else { return }
        self.watchWriting()
        await withCheckedContinuation { self.writableWaiter = $0 }
    }

    private func close() {
        guard self.phase != .closed else { return }
        self.phase = .closed
        self.context?.close(promise: nil)
    }

    // MARK: Time

    /// The deadline is only looked at now and then, which spares a request from scheduling and cancelling timers.
    private func schedule(in delay: TimeAmount) {
        self.timer?.cancel()
        self.timer = self.eventLoop.assumeIsolated().scheduleTask(in: delay) { self.tick() }
    }

    private func tick() {
        let now = NIODeadline.now()
        if now >= self.deadline { self.expire(at: now) }
        guard self.phase != .closed else { return }
        self.schedule(in: min(max(self.deadline - now, .milliseconds(1)), self.shared.limits.tick))
    }

    private func expire(at now: NIODeadline) {
        switch self.phase {
        case .awaitingHead, .admitting, .lingering: self.close()
        case .receivingBody: self.refuse(.tooSlow)
        case .responding, .flushing, .closing:
            let timeout = self.shared.limits.writeTimeout
            guard let next = self.writing.check(waiting: self.countWaiting(), at: now, timeout: timeout) else {
                return self.close()
            }
            self.deadline = next
        case .closed: break
        }
    }

    private func watchWriting() {
        let timeout = self.shared.limits.writeTimeout
        self.deadline = self.writing.begin(waiting: self.countWaiting(), at: .now(), timeout: timeout)
    }

    private func countWaiting() -> Int { self.context.map { WriteWatch.waiting(in: $0.channel) } ?? 0 }
}
