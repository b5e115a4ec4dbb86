import NIOCore
import NIOSSL
import NodeKit

/// One connection: assembles a bounded request, has it answered, carries out the answer, and only then goes on to the next
/// (RFC 9112 §9.3.2).
///
/// All of it runs on the channel's event loop, the tasks that answer requests included.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let listener: SharedListener
    private let eventLoop: any EventLoop
    private let executor: EventLoopTaskExecutor
    private let isSecure: Bool
    private var context: ChannelHandlerContext?

    private var phase = ConnectionPhase.awaitingHead
    /// What came in and was not taken apart yet: at most a line that is not complete, and what one read brings, as while a
    /// request is answered nothing is read unless it is empty.
    private var input = ByteBuffer()
    private var decoder: RequestDecoder
    private var isTakingInput = false
    /// Whether the channel is handing over what it read, so that the next read is asked for at the end of that.
    private var isReading = false
    private var inputHasEnded = false
    private var isStopping = false

    private var head: RequestHead?
    private var body = IncomingBody(limit: 0)

    private let loop: LoopShare
    private var isWritable = true
    private var writableWaiter: CheckedContinuation<Void, Never>?
    /// What works on the answer of a long poll, and ends the wait.
    private var poll: (task: Task<Void, Never>, timer: Scheduled<Void>)?

    private var deadline = NIODeadline.distantFuture
    private var timer: Scheduled<Void>?
    private var writing = WriteWatch()

    init(_ listener: SharedListener, eventLoop: any EventLoop, isSecure: Bool) {
        self.listener = listener
        self.eventLoop = eventLoop
        self.isSecure = isSecure
        self.executor = EventLoopTaskExecutor(eventLoop)
        self.loop = listener.share(of: eventLoop)
        self.decoder = RequestDecoder(
            bytesMax: listener.settings.limits.headerBytes,
            fieldsMax: listener.settings.limits.headerFields,
            routes: self.loop.routes
        )
    }

    private var limits: HTTPLimits { self.listener.settings.limits }

    /// Whose request is being worked on.
    private var mount: Mount { self.head?.mount ?? self.listener.first }

    // MARK: What the channel tells

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        self.deadline = .now() + self.limits.headerTimeout
        self.schedule(in: self.limits.tick)
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.isReading = true
        switch self.phase {
        case .closing, .lingering, .closed: return
        case .awaitingHead, .receivingBody, .admitting, .responding, .flushing: break
        }
        self.add(HTTPConnection.unwrapInboundIn(data))
        self.takeInput()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.isReading = false
        self.readMore()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.isWritable = context.channel.isWritable
        guard self.isWritable else { return }
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
        // A client that goes without a farewell; that its input has ended is told next.
        if error as? NIOSSLError != .uncleanShutdown { self.close() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.phase = .closed
        self.timer?.cancel()
        self.timer = nil
        self.input = ByteBuffer()
        self.body.release(to: self.listener.connections)
        self.poll?.task.cancel()
        self.endPoll()
        self.writableWaiter?.resume()
        self.writableWaiter = nil
    }

    /// A site, or with `nil` all of them, is no longer served: a request of it that is being answered is the last here.
    ///
    /// - Returns: Whether the connection ends, now or with that request.
    func stop(_ mount: Mount?) -> Bool {
        if let mount, self.head?.mount !== mount { return false }
        self.isStopping = true
        self.poll?.task.cancel()
        if self.phase == .awaitingHead { self.close() }
        return true
    }

    // MARK: Requests

    private func add(_ bytes: ByteBuffer) {
        guard self.input.readableBytes > 0 else { return self.input = bytes }
        // What was taken apart goes; else a client that never sends an end together with its request made it grow for ever.
        self.input.discardReadBytes()
        self.input.writeImmutableBuffer(bytes)
    }

    /// Takes apart what came in, as far as the request that is being answered lets it.
    ///
    /// An answer that is ready at once ends within this, and calls it again; then the request after it is the next in the
    /// loop, as one within the other they could be as many as one read brings.
    private func takeInput() {
        guard !self.isTakingInput else { return }
        self.isTakingInput = true
        while self.phase == .awaitingHead || self.phase == .receivingBody {
            guard let piece = self.decoder.next(from: &self.input) else {
                if self.inputHasEnded { self.close() }
                break
            }
            switch piece {
            case .head(let head): self.begin(head)
            case .body(let bytes): self.receive(bytes)
            case .end: self.complete()
            case .refused(let rejection): self.refuse(rejection)
            }
        }
        self.isTakingInput = false
        // So that the channel can read into the same memory again.
        if self.input.readableBytes == 0 { self.input = ByteBuffer() }
    }

    private func endInput() {
        guard !self.inputHasEnded else { return }
        self.inputHasEnded = true
        if self.poll != nil || self.phase == .lingering {
            // A client that waits for news and closes its side has left.
            self.close()
        } else {
            self.takeInput()
        }
    }

    private func begin(_ head: RequestHead) {
        self.phase = .receivingBody
        self.head = head
        self.mount.metrics.requests.add()
        self.body = IncomingBody(limit: head.route?.bodyBytesMax ?? HTTPLimits.discardedBody)
        guard head.hasBody else { return }
        self.deadline = .now() + self.limits.bodyTimeout
        if let length = head.contentLength, length > self.body.limit {
            return self.refuse(.tooLarge(limit: self.body.limit))
        }
        if head.expectsContinue {
            if let refusal = head.refusal { return self.refuse(refusal) }
            self.admit()
        }
    }

    /// Finds out whether the client may send the rest of its body.
    ///
    /// Bodies that are being received take room, which a sender without a right to it could take from all others.
    private func admit() {
        guard let head, let route = head.route, route.bodyBytesMax != nil else { return self.goOn() }
        self.phase = .admitting
        let request = self.request(head, route)
        let responder = route.responder
        let connection = NIOLoopBound(self, eventLoop: self.eventLoop)
        // Not a child of the node's task, which may not touch the channel. It ends with the responder's answer.
        Task.immediate(executorPreference: self.executor) {
            let refusal = await responder.refusal(of: request)
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
            self.context?.writeAndFlush(HTTPConnection.wrapOutboundOut(proceed), promise: nil)
        }
        self.takeInput()
        if !self.isReading { self.readMore() }
    }

    /// Counts what there is of the body; `false` if that is too much.
    private func reserve() -> Bool {
        guard !self.body.isEmpty, let route = self.head?.route else { return true }
        return self.body.reserve(in: self.listener.connections, isKnown: route.isKnown)
    }

    private func request(_ head: RequestHead, _ route: HTTPRoute, _ body: ByteBuffer = ByteBuffer()) -> Request {
        Request(
            conditions: head.conditions,
            body: body,
            fields: head.fields,
            certificate: route.needsCertificate && self.isSecure ? self.certificate() : nil
        )
    }

    private func receive(_ bytes: ByteBuffer) {
        self.mount.metrics.receivedBytes.add(bytes.readableBytes)
        guard self.body.count(bytes) else { return self.refuse(.tooLarge(limit: self.body.limit)) }
        guard self.head?.route?.bodyBytesMax != nil else { return }
        self.body.append(bytes)
        if self.body.isAdmitted, !self.reserve() { self.refuse(.noRoom) }
    }

    private func complete() {
        guard self.reserve() else { return self.refuse(.noRoom) }
        self.phase = .responding
        self.deadline = .distantFuture
        guard let head else { return }
        if let route = head.route {
            self.answer(self.request(head, route, self.body.take()), by: route)
        } else if let refusal = head.refusal {
            self.send(.rejection(refusal, at: self.listener.now()))
        }
    }

    private func answer(_ request: Request, by route: HTTPRoute) {
        switch route.responder.begin(request) {
        case .now(let response) where self.carryOutAtOnce(response): break
        case .now(let response): self.finish(waitsAtMost: nil, Suspension { response })
        case .suspended(let rest): self.finish(waitsAtMost: route.waitsAtMost, rest)
        }
    }

    /// Waits for an answer and carries it out.
    private func finish(waitsAtMost: TimeAmount?, _ answer: Suspension<Response>) {
        let connection = NIOLoopBound(self, eventLoop: self.eventLoop)
        // Begun at once, as most answers wait for nothing; not a child, as in admit(). It ends with the responder's answer.
        let task = Task.immediate(executorPreference: self.executor) {
            await connection.value.carryOut(await answer())
        }
        // It may be over.
        guard let waitsAtMost, self.phase == .responding else { return }
        self.poll = (task, self.eventLoop.scheduleTask(in: waitsAtMost) { task.cancel() })
        if self.isStopping { task.cancel() }
        if self.inputHasEnded { self.close() }
    }

    private func endPoll() {
        self.poll?.timer.cancel()
        self.poll = nil
    }

    /// The client's certificate in DER form, if it has shown one.
    private func certificate() -> [UInt8]? {
        try? self.context?.pipeline.syncOperations.nioSSL_peerCertificate()?.toDERBytes()
    }

    /// Answers a request that is not completely here, or is none, and ends the connection.
    private func refuse(_ rejection: Rejection) {
        // A path or method that is refused anyway says more than a length.
        var rejection = rejection
        if case .tooLarge = rejection, let refusal = self.head?.refusal { rejection = refusal }
        self.end(with: .rejection(rejection, at: self.listener.now()))
    }

    private func end(with response: Response) {
        self.phase = .responding
        var response = response
        response.closes = true
        self.send(response, lingers: true)
    }

    // MARK: Answers

    /// Sends an answer if nothing has to be waited for.
    private func carryOutAtOnce(_ response: Response) -> Bool {
        switch response.body {
        case .none, .json, .text:
            self.send(response)
            return true
        case .content(let reply, let range):
            guard self.head?.isHead == false, !range.isEmpty, range.count <= HTTPLimits.piece,
                let bytes = reply.content.readAtOnce(range), bytes.readableBytes == range.count
            else { return false }
            self.send(response, bytes)
            return true
        case .parts:
            return false
        }
    }

    private func carryOut(_ response: Response) async {
        guard self.head?.isHead == false else { return self.send(response) }
        switch response.body {
        case .content(let reply, let range) where !range.isEmpty && range.count <= HTTPLimits.piece:
            await self.carryOut(response, reply.content, range)
        case .content(let reply, let range) where !range.isEmpty:
            await self.carryOut(response, reply.content, BodyPieces(range))
        case .parts(let reply, let multipart):
            await self.carryOut(response, reply.content, BodyPieces(multipart))
        case .none, .json, .text, .content:
            self.send(response)
        }
    }

    /// Sends an answer whose bytes are read in one go, as those of a chunk mostly are.
    private func carryOut(_ response: Response, _ content: any Content, _ range: Range<Int64>) async {
        let bytes: ByteBuffer
        do {
            bytes = try await content.readAll(range)
        } catch {
            return self.send(.failure(NodeError(wrapping: error), isDownload: true, at: self.listener.now()))
        }
        self.send(response, bytes)
    }

    /// Sends an answer with bytes of a package.
    private func send(_ response: Response, _ bytes: ByteBuffer) {
        guard self.phase == .responding, let context = self.context else { return }
        let closes = self.isLast(response)
        guard bytes.readableBytes > HTTPLimits.joinedBytes else {
            return self.finish(writing: self.encode(response, closes: closes, with: bytes), closes: closes)
        }
        context.write(HTTPConnection.wrapOutboundOut(self.encode(response, closes: closes)), promise: nil)
        self.finish(writing: bytes, closes: closes)
    }

    /// Sends an answer whose bytes are read piece by piece, no faster than the client takes them.
    private func carryOut(_ response: Response, _ content: any Content, _ pieces: BodyPieces) async {
        let closes = self.isLast(response)
        var pieces = pieces
        var hasBegun = false
        while let piece = pieces.next(HTTPLimits.piece) {
            var bytes: ByteBuffer
            do {
                bytes = try await content.readAll(piece.range)
            } catch {
                // Once the head is out, only a closed connection tells the client that bytes are missing.
                guard !hasBegun else { return self.close() }
                return self.send(.failure(NodeError(wrapping: error), isDownload: true, at: self.listener.now()))
            }
            guard self.phase == .responding, let context = self.context else { return }
            if !hasBegun {
                hasBegun = true
                context.write(HTTPConnection.wrapOutboundOut(self.encode(response, closes: closes)), promise: nil)
            }
            if let before = piece.before { context.write(HTTPConnection.wrapOutboundOut(before), promise: nil) }
            if let after = piece.after {
                context.write(HTTPConnection.wrapOutboundOut(bytes), promise: nil)
                bytes = after
            }
            guard !pieces.isEmpty else { return self.finish(writing: bytes, closes: closes) }
            context.writeAndFlush(HTTPConnection.wrapOutboundOut(bytes), promise: nil)
            await self.untilWritable()
            guard self.phase == .responding else { return }
        }
    }

    /// Sends an answer whose bytes are all here.
    private func send(_ response: Response, lingers: Bool = false) {
        guard self.phase == .responding else { return }
        let closes = self.isLast(response)
        self.finish(writing: self.encode(response, closes: closes), closes: closes, lingers: lingers)
    }

    private func encode(_ response: Response, closes: Bool, with content: ByteBuffer? = nil) -> ByteBuffer {
        if response.status >= 400 { self.mount.metrics.refusedRequests.add() }
        if self.head?.isHead != true { self.mount.metrics.sentBytes.add(Int(response.bodyLength)) }
        let keepsOld = self.head?.isOldVersion == true
        return self.loop.bytes(
            response,
            isHead: self.head?.isHead == true,
            connection: closes ? "Connection: close\r\n" : keepsOld ? "Connection: keep-alive\r\n" : nil,
            at: self.listener.now(),
            with: content
        )
    }

    private func isLast(_ response: Response) -> Bool {
        response.closes || self.isStopping || self.head?.isKeepAlive != true
    }

    /// Writes the last bytes of an answer and goes on to the next request, or closes.
    private func finish(writing bytes: ByteBuffer, closes: Bool, lingers: Bool = false) {
        guard let context = self.context else { return }
        self.body.release(to: self.listener.connections)
        self.head = nil
        self.endPoll()
        guard closes else {
            context.writeAndFlush(HTTPConnection.wrapOutboundOut(bytes), promise: nil)
            guard self.isWritable else {
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
            self.input = ByteBuffer()
            self.context?.close(mode: .output, promise: nil)
            self.deadline = .now() + HTTPLimits.lingering
            self.schedule(in: HTTPLimits.lingering)
            self.readMore()
        }
        context.writeAndFlush(HTTPConnection.wrapOutboundOut(bytes), promise: written)
        if self.phase == .closing { self.watchWriting() }
    }

    private func next() {
        self.phase = .awaitingHead
        self.deadline = .now() + self.limits.idleTimeout
        self.takeInput()
        // The answer was promised to keep the connection, but the node stopped while the client was reading it.
        if self.isStopping, self.phase == .awaitingHead { return self.close() }
        if !self.isReading { self.readMore() }
    }

    private func readMore() {
        guard !self.inputHasEnded else { return }
        switch self.phase {
        case .awaitingHead, .lingering: break
        case .receivingBody: if !self.body.isAdmitted { return self.admit() }
        case .responding, .flushing, .closing: guard self.input.readableBytes == 0 else { return }
        case .admitting, .closed: return
        }
        self.context?.read()
    }

    private func untilWritable() async {
        guard self.context != nil, !self.isWritable else { return }
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
        self.schedule(in: min(max(self.deadline - now, .milliseconds(1)), self.limits.tick))
    }

    private func expire(at now: NIODeadline) {
        switch self.phase {
        case .awaitingHead, .admitting, .lingering: self.close()
        case .receivingBody: self.refuse(.tooSlow)
        case .responding, .flushing, .closing:
            let timeout = self.limits.writeTimeout
            guard let next = self.writing.check(waiting: self.countWaiting(), at: now, timeout: timeout) else {
                return self.close()
            }
            self.deadline = next
        case .closed: break
        }
    }

    private func watchWriting() {
        let timeout = self.limits.writeTimeout
        self.deadline = self.writing.begin(waiting: self.countWaiting(), at: .now(), timeout: timeout)
    }

    private func countWaiting() -> Int { self.context.map { WriteWatch.waiting(in: $0.channel) } ?? 0 }
}
