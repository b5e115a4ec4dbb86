import FoundationEssentials
import Logging
import IngressKit
import NIOCore
import NodeKit
import OTA

/// Carries out on a socket what the message layer decides, and has requests answered.
///
/// All its state belongs to its event loop; a request that has to wait is handled in a task that runs there too, so nothing
/// hops. It outlives a socket that broke: the next one on the same event loop goes on with it.
final class CoAPHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    /// Whose a confirmable message of ours is.
    enum Owner: Hashable, Sendable {
        /// The answer to a request, which nobody waits for.
        case response
        /// Something that an observer is told.
        case observer(Observers.ID)
    }

    /// When a peer that we are too busy for may ask again, in seconds (RFC 7252 §5.9.3.4).
    static let busyMaxAge: UInt32 = 5
    /// When a peer that asked too often may ask again, in seconds (RFC 8516 §3).
    static let rateMaxAge: UInt32 = 1
    /// How long requests under way may take once the node is to stop.
    static let drainMax = TimeAmount.seconds(3)

    let settings: CoAPSettings
    let eventLoop: any EventLoop
    private let taskExecutor: EventLoopTaskExecutor
    private let responder: CoAPResponder
    let sessions: DeviceSessions
    private let metrics: TransportMetrics
    private let logger: Logger

    private var exchanges: Exchanges
    private var transmissions: Transmissions<Owner>
    private var messageIDs: MessageIDs
    private var endpoints: Endpoints
    private let verification: AddressVerification
    private let deviceRequests: RateLimiter<UUID>
    var assemblies: BodyAssemblies
    var observers: Observers
    var retained = RetainedBodies()

    /// The socket's place in its channel; `nil` while there is no socket.
    private(set) var context: ChannelHandlerContext?
    /// Whether the socket takes more; asked of the channel, it costs as much as to look for a repetition.
    private var isWritable = true
    /// Whose datagram was read last, as the socket takes it: to make that anew takes memory, and most answers go there.
    private var source: (peer: Endpoint, address: SocketAddress)?
    /// How many requests are remembered.
    var rememberedCount: Int { self.exchanges.count }
    private var timer: (task: Scheduled<Void>, deadline: NIODeadline)?
    /// What is left of requests that came, and that no task has taken yet; the exchange layer bounds their number.
    private var work = CircularBuffer<CoAPResponder.Rest>()
    /// When the datagrams that are being read began to come; `nil` when none are.
    private var readTime: NIODeadline?
    /// The same by the clock of the chain; `nil` also until it is asked for.
    private var readTimestamp: Timestamp?
    private var willFlush = false
    /// Memory for answers that are not kept.
    private var memory = DatagramMemory()
    private var isDraining = false
    private var hasWarnedOfBusy = false

    /// Prepares to serve; `random` gives numbers from 0 up to 1.
    init(
        settings: CoAPSettings,
        eventLoop: any EventLoop,
        responder: CoAPResponder,
        sessions: DeviceSessions,
        metrics: TransportMetrics = TransportMetrics(),
        logger: Logger,
        random: @escaping @Sendable () -> Double = { .random(in: 0..<1) }
    ) {
        self.settings = settings
        self.eventLoop = eventLoop
        self.taskExecutor = EventLoopTaskExecutor(eventLoop)
        self.responder = responder
        self.sessions = sessions
        self.metrics = metrics
        self.logger = logger
        self.exchanges = Exchanges(limits: settings.exchanges)
        self.transmissions = Transmissions(parameters: settings.transmissions, random: random)
        self.messageIDs = MessageIDs { UInt16(random() * 65535) }
        self.endpoints = Endpoints(failuresPerSecondMax: settings.rates.addressConnectionsPerSecondMax)
        self.verification = AddressVerification(limits: settings.verification)
        self.deviceRequests = RateLimiter(perSecond: settings.rates.deviceRequestsPerSecondMax)
        self.assemblies = BodyAssemblies(limits: settings.assemblies)
        self.observers = Observers(limits: settings.observers)
    }

    /// The time; the same for all that is read at once.
    var now: NIODeadline { self.readTime ?? self.eventLoop.now }
    /// The time by the clock of the chain; the same for all that is read at once.
    var timestamp: Timestamp {
        if let known = self.readTimestamp { return known }
        let timestamp = self.responder.now()
        if self.readTime != nil { self.readTimestamp = timestamp }
        return timestamp
    }

    // MARK: The socket

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        self.isWritable = true
        // A socket that breaks while it is read need not say that reading is over.
        self.endRead()
        self.willFlush = false
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        // The next socket may be there already.
        if self.context === context { self.context = nil }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let datagram = CoAPHandler.unwrapInboundIn(data)
        if self.readTime == nil { self.readTime = self.eventLoop.now }
        self.metrics.receivedBytes.add(datagram.data.readableBytes)
        // Nothing can be sent to port 0; to try would close the socket.
        guard let peer = Endpoint(datagram.remoteAddress), peer.port != 0, !self.isDraining else { return }
        self.source = (peer, datagram.remoteAddress)
        do {
            let message = try CoAPMessage(reading: datagram.data)
            self.received(message, from: peer, bytes: datagram.data.readableBytes)
        } catch .malformed(.confirmable, let messageID) {
            self.reset(messageID, peer)
        } catch {
            // RFC 7252 §3, §4.3: anything else that makes no sense is ignored.
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.carryOut()
        self.endRead()
        if self.willFlush { self.flush() }
        self.updateTimer()
        context.fireChannelReadComplete()
    }

    private func endRead() {
        self.readTime = nil
        self.readTimestamp = nil
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.isWritable = context.channel.isWritable
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.logger.debug("socket error", metadata: ["error": "\(error)"])
    }

    /// Sends a datagram, with others of the same turn of the event loop if more answers are to come.
    ///
    /// If the socket takes no more, the datagram is lost, as it may be anywhere on its way: peers repeat what matters.
    private func write(_ bytes: consuming ByteBuffer, to peer: Endpoint) {
        guard let context = self.context, self.isWritable else { return }
        self.metrics.sentBytes.add(bytes.readableBytes)
        let address = self.source.flatMap { $0.peer == peer ? $0.address : nil } ?? peer.socketAddress
        context.write(CoAPHandler.wrapOutboundOut(AddressedEnvelope(remoteAddress: address, data: bytes)), promise: nil)
        guard !self.willFlush else { return }
        self.willFlush = true
        // What is read at once is answered at once, as far as that needs no wait.
        guard self.readTime == nil else { return }
        if self.exchanges.activeCount == 0 {
            self.flush()
        } else {
            self.eventLoop.assumeIsolated().execute { self.flush() }
        }
    }

    private func flush() {
        self.willFlush = false
        self.context?.flush()
        self.memory.sent()
    }

    private func reset(_ messageID: UInt16, _ peer: Endpoint) {
        self.write(CoAPMessage(.reset, .empty, messageID: messageID).datagram, to: peer)
    }

    private func acknowledge(_ key: Exchanges.Key) {
        self.write(CoAPMessage(.acknowledgement, .empty, messageID: key.messageID).datagram, to: key.peer)
    }

    // MARK: Messages

    private func received(_ message: CoAPMessage, from peer: Endpoint, bytes: Int) {
        let key = Exchanges.Key(peer: peer, messageID: message.messageID)
        switch message.kind {
        case .acknowledgement:
            if case .observer(let id) = self.settled(key) {
                self.notify(self.observers.acknowledged(id, now: self.now))
            }
        case .reset:
            // RFC 7641 §3.6: who resets a notification wants no more of them.
            if case .observer(let id) = self.settled(key) { self.endObserver(id) }
        case .confirmable, .nonConfirmable:
            if message.code.isRequest {
                self.metrics.requests.add()
                self.requested(message, key, bytes: bytes)
            } else if message.kind == .confirmable {
                // A ping (RFC 7252 §4.3), or a response although we asked nothing (§4.2).
                self.reset(message.messageID, peer)
            }
        }
    }

    /// The peer says that it got a message of ours.
    ///
    /// - Returns: Whose it was.
    private func settled(_ key: Exchanges.Key) -> Owner? {
        guard let ended = self.transmissions.ended(key, now: self.now) else { return nil }
        // Only who received the message knows its message ID.
        self.verification.proved(key.peer, now: self.now)
        if let next = ended.next { self.write(next, to: key.peer) }
        return ended.owner
    }

    private func requested(_ message: CoAPMessage, _ key: Exchanges.Key, bytes: Int) {
        let now = self.now
        guard !self.endpoints.isRefused(key.peer, now: now) else {
            return self.refuse(message, key, .later(.tooManyRequests, seconds: Self.rateMaxAge))
        }
        let arrival = self.exchanges.arrived(
            key,
            isConfirmable: message.kind == .confirmable,
            isIdempotent: message.code == .get,
            isStranger: self.exchanges.isCrowded && !self.endpoints.isKnown(key.peer),
            now: now
        )
        switch arrival {
        case .replay(let bytes): self.write(bytes, to: key.peer)
        case .acknowledge: self.acknowledge(key)
        case .ignore: break
        case .busy:
            if !self.hasWarnedOfBusy {
                self.hasWarnedOfBusy = true
                self.logger.warning("too many requests at the same time; some are refused; raise 'exchanges-max'")
            }
            self.refuse(message, key, .later(.serviceUnavailable, seconds: Self.busyMaxAge))
        case .new(let id): self.handle(message, id, bytes: bytes)
        }
    }

    /// Answers a request that is not even looked at; it leaves no trace.
    private func refuse(_ message: CoAPMessage, _ key: Exchanges.Key, _ response: CoAPResponse) {
        self.metrics.refusedRequests.add()
        let isConfirmable = message.kind == .confirmable
        let answer = response.message(
            isConfirmable ? .acknowledgement : .nonConfirmable,
            messageID: isConfirmable ? key.messageID : self.messageIDs.next(for: key.peer),
            token: message.token
        )
        self.write(answer.datagram, to: key.peer)
    }

    private func handle(_ message: CoAPMessage, _ id: Exchanges.ID, bytes: Int) {
        var asked = Asked(id: id, method: message.code, token: message.token, bytes: bytes)
        guard message.token.length <= self.settings.tokenBytesMax else {
            // RFC 8974 §2.2.1: not a reset, which would say that long tokens are not known at all.
            let text = "a token may have \(self.settings.tokenBytesMax) bytes"
            return self.respond(CoAPResponse(.badRequest, diagnostic: text), to: asked, isRefusal: true)
        }
        let request: CoAPRequest
        do {
            request = try CoAPRequest(message)
        } catch {
            guard case .badOption = error, message.kind == .nonConfirmable else {
                return self.respond(CoAPResponse(error), to: asked, isRefusal: true)
            }
            // RFC 7252 §5.4.1: such a non-confirmable request is rejected rather than answered.
            _ = self.exchanges.answered(id, isRefused: true)
            return self.reset(message.messageID, id.key.peer)
        }
        asked.noResponse = request.noResponse
        if let echo = request.echo { self.verification.received(echo, from: id.key.peer, now: self.now) }
        guard bytes <= self.settings.datagramBytesMax else {
            // The end of the datagram is missing, so all that can be said is that it was too long, and what would fit.
            let block = Block(number: 0, more: false, exponent: self.settings.blockExponent)
            return self.respond(self.responder.tooLarge(hint: block), to: asked, isRefusal: true)
        }
        switch CoAPResource.route(request.method, request.path) {
        case .failure(let code, let text):
            self.respond(CoAPResponse(code, diagnostic: text), to: asked, isRefusal: true)
        case .discovery:
            self.respond(self.responder.discovery(request), to: asked, isRefusal: true)
        case .provision:
            let handler = NIOLoopBound(self, eventLoop: self.eventLoop)
            self.work.append { [responder, asked] in await responder.provision(request, asked, handler: handler) }
        case .resource(let resource):
            if let rest = self.responder.begin(request, resource, asked, handler: self) { self.work.append(rest) }
        }
    }

    /// Has the requests that were read and not yet answered carried out.
    ///
    /// A task carries out one after the other as long as none has to wait, and begins at once, on this event loop. When one
    /// waits, the next task goes on with the others, so none waits for another. The exchange layer bounds the number of
    /// tasks, each ends with its last answer, and the node waits for them when it stops.
    private func carryOut() {
        guard !self.work.isEmpty else { return }
        let handler = NIOLoopBound(self, eventLoop: self.eventLoop)
        while !self.work.isEmpty {
            Task.immediate(executorPreference: self.taskExecutor) {
                while let rest = handler.value.work.popFirst() { await rest() }
            }
        }
    }

    /// Sends the answer to a request, which may have registered an observer.
    ///
    /// - Parameters:
    ///   - response: The answer.
    ///   - asked: The request.
    ///   - observer: The observer that it has registered.
    ///   - isRefusal: Whether the request changed nothing and would get this answer again.
    ///   - isAtHand: Whether the request changed nothing and its answer took no wait.
    func respond(
        _ response: CoAPResponse,
        to asked: Asked,
        observer: Observers.ID? = nil,
        isRefusal: Bool = false,
        isAtHand: Bool = false
    ) {
        let peer = asked.id.key.peer
        guard self.mayAnswer(response, asked) else {
            if let observer { self.endObserver(observer) }
            return self.respond(self.challenge(peer), to: asked, isRefusal: true)
        }
        guard let form = self.exchanges.answered(asked.id, isRefused: isRefusal, isAtHand: isAtHand) else { return }
        if response.code.codeClass >= 4 { self.metrics.refusedRequests.add() }
        if asked.isUnwanted(response.code), observer == nil {
            // RFC 7967 §2: a confirmable request is acknowledged all the same.
            if form == .piggybacked { self.acknowledge(asked.id.key) }
            return self.settle()
        }
        switch form {
        case .piggybacked:
            func write(into bytes: inout ByteBuffer) {
                response.write(.acknowledgement, messageID: asked.id.key.messageID, token: asked.token, into: &bytes)
            }
            if isRefusal || isAtHand {
                self.write(self.memory.fill(write), to: peer)
            } else {
                var bytes = ByteBuffer()
                write(into: &bytes)
                self.exchanges.keep(bytes, for: asked.id, now: self.now)
                self.write(bytes, to: peer)
            }
        case .separate:
            let owner = observer.map(Owner.observer) ?? .response
            let isTracked = self.confirm(response, to: peer, asked.token, owner: owner, isAnswer: true)
            // The observer is told more once this has been acknowledged.
            if isTracked { return self.settle() }
        case .nonConfirmable:
            let messageID = self.messageIDs.next(for: peer)
            self.write(response.message(.nonConfirmable, messageID: messageID, token: asked.token).datagram, to: peer)
        }
        if let observer { self.notify(self.observers.started(observer, now: self.now)) }
        self.settle()
    }

    /// Sends a confirmable message and waits for its acknowledgement.
    ///
    /// - Returns: Whether there is room to wait; if not, the message is sent once, without asking for acknowledgement.
    @discardableResult
    func confirm(
        _ response: CoAPResponse,
        to peer: Endpoint,
        _ token: CoAPMessage.Token,
        owner: Owner,
        isAnswer: Bool = false
    ) -> Bool {
        var key = Exchanges.Key(peer: peer, messageID: self.messageIDs.next(for: peer))
        while self.transmissions.contains(key) { key.messageID = self.messageIDs.next(for: peer) }
        let bytes = response.message(.confirmable, messageID: key.messageID, token: token).datagram
        switch self.transmissions.started(key, bytes, owner: owner, isAnswer: isAnswer, now: self.now) {
        case .send:
            self.write(bytes, to: peer)
        case .wait:
            break
        case .noRoom:
            self.write(
                response.message(.nonConfirmable, messageID: key.messageID, token: token).datagram,
                to: peer
            )
            return false
        }
        return true
    }

    // MARK: Who asks

    /// A request had the access token of a device.
    ///
    /// - Returns: Whether the device may have it carried out now.
    func authenticated(_ device: Originator, _ asked: Asked) -> Bool {
        self.endpoints.authenticated(asked.id.key.peer)
        return self.deviceRequests.admit(device.id, at: self.now)
    }

    /// A request had an access token, or keys for an identity, that are nobody's.
    func failed(_ asked: Asked) { self.endpoints.failed(asked.id.key.peer, now: self.now) }

    /// Whether the answer to a GET may go where the request seems to come from.
    private func mayAnswer(_ response: CoAPResponse, _ asked: Asked) -> Bool {
        guard asked.method == .get, response.code == .content else { return true }
        return self.mayAnswer(bytes: response.sizeEstimate(asked.token), asked)
    }

    /// Whether an answer of so many bytes may go where the request seems to come from.
    func mayAnswer(bytes: Int, _ asked: Asked) -> Bool {
        self.verification.admits(bytes, requestBytes: asked.bytes, to: asked.id.key.peer, now: self.now)
    }

    /// Asks a peer to show that it receives what we send to its address.
    func challenge(_ peer: Endpoint) -> CoAPResponse {
        var response = CoAPResponse(.unauthorized)
        // The option is no part of a cache's key, so a cached answer would be given to the request that repeats it.
        response.add(CoAPOption(.maxAge, uint: 0))
        response.add(self.verification.echo(for: peer, now: self.now))
        return response
    }

    /// After each answer: the timer may have to be earlier, and a node that stops may be done.
    private func settle() {
        // Once for all that is read.
        if self.readTime == nil { self.updateTimer() }
        if self.isDraining, self.exchanges.activeCount == 0 { self.close() }
    }

    // MARK: Time

    func updateTimer() {
        let next = min(
            self.exchanges.nextDeadline ?? .distantFuture,
            self.transmissions.nextDeadline ?? .distantFuture,
            self.assemblies.nextDeadline ?? .distantFuture,
            self.observers.nextDeadline ?? .distantFuture
        )
        guard next < .distantFuture else { return }
        if let timer = self.timer {
            if timer.deadline <= next { return }
            timer.task.cancel()
        }
        let task = self.eventLoop.assumeIsolated().scheduleTask(deadline: next) { self.timePassed() }
        self.timer = (task, next)
    }

    private func timePassed() {
        self.timer = nil
        let now = self.now
        for key in self.exchanges.windowsEnded(now) { self.acknowledge(key) }
        for due in self.transmissions.due(now) {
            switch due {
            case .resend(let bytes, let peer):
                self.write(bytes, to: peer)
            case .gaveUp(.observer(let id)):
                // RFC 7641 §4.5: who does not acknowledge is taken to be gone.
                self.endObserver(id)
            case .gaveUp(.response):
                break
            }
        }
        self.assemblies.expire(now)
        for notification in self.observers.due(now) { self.notify(notification) }
        self.updateTimer()
    }

    // MARK: The end

    /// Takes no more requests, lets those under way finish, and closes the socket.
    func drain() {
        self.isDraining = true
        if self.exchanges.activeCount == 0 {
            self.close()
        } else {
            self.eventLoop.assumeIsolated().scheduleTask(in: Self.drainMax) { self.close() }
        }
    }

    private func close() {
        // The last answers may wait for others of this turn of the event loop.
        self.flush()
        self.context?.close(promise: nil)
    }

    /// Lets go of all that would outlive the node.
    func stop() {
        for observer in self.observers.removeAll() { self.end(observer) }
        self.timer?.task.cancel()
        self.timer = nil
    }
}
