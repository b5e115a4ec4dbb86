import FoundationEssentials
import Logging
import NIOCore
import NodeKit
import OTA

/// Carries out on a socket what the message layer decides, and has requests answered.
///
/// All its state belongs to its event loop; a request is handled in a task that runs there too, so nothing hops. It outlives
/// a socket that broke: the next one on the same event loop goes on with it.
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
    /// How long requests under way may take once the node is to stop.
    static let drainMax = TimeAmount.seconds(3)

    private let settings: CoAPSettings
    private let eventLoop: any EventLoop
    private let taskExecutor: EventLoopTaskExecutor
    private let responder: CoAPResponder
    private let sessions: DeviceSessions
    private let logger: Logger

    private var exchanges: Exchanges
    private var transmissions: Transmissions<Owner>
    private var messageIDs: MessageIDs
    private var assemblies: BodyAssemblies
    private var observers: Observers
    private var retained = RetainedBodies()

    /// The socket's place in its channel; `nil` while there is no socket.
    private(set) var context: ChannelHandlerContext?
    private var timer: (task: Scheduled<Void>, deadline: NIODeadline)?
    private var isFlushScheduled = false
    private var isDraining = false
    private var hasWarnedOfBusy = false

    /// Prepares to serve; `random` gives numbers from 0 up to 1.
    init(
        settings: CoAPSettings,
        eventLoop: any EventLoop,
        responder: CoAPResponder,
        sessions: DeviceSessions,
        logger: Logger,
        random: @escaping @Sendable () -> Double = { .random(in: 0..<1) }
    ) {
        self.settings = settings
        self.eventLoop = eventLoop
        self.taskExecutor = EventLoopTaskExecutor(eventLoop)
        self.responder = responder
        self.sessions = sessions
        self.logger = logger
        self.exchanges = Exchanges(limits: settings.exchanges)
        self.transmissions = Transmissions(parameters: settings.transmissions, random: random)
        self.messageIDs = MessageIDs { UInt16(random() * 65535) }
        self.assemblies = BodyAssemblies(limits: settings.assemblies)
        self.observers = Observers(limits: settings.observers)
    }

    private var now: NIODeadline { self.eventLoop.now }

    // MARK: The socket

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        // The next socket may be there already.
        if self.context === context { self.context = nil }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let datagram = self.unwrapInboundIn(data)
        // Nothing can be sent to port 0; to try would close the socket.
        guard let port = datagram.remoteAddress.port, port != 0, !self.isDraining else { return }
        do {
            let message = try CoAPMessage(reading: datagram.data)
            let isTooLarge = datagram.data.readableBytes > self.settings.datagramBytesMax
            self.received(message, from: datagram.remoteAddress, isTooLarge: isTooLarge)
        } catch .malformed(.confirmable, let messageID) {
            self.reset(messageID, datagram.remoteAddress)
        } catch {
            // RFC 7252 §3, §4.3: anything else that makes no sense is ignored.
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.updateTimer()
        context.fireChannelReadComplete()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.logger.debug("socket error", metadata: ["error": "\(error)"])
    }

    /// Sends a datagram, with others of the same turn of the event loop if more answers are to come.
    ///
    /// If the socket takes no more, the datagram is lost, as it may be anywhere on its way: peers repeat what matters.
    private func write(_ bytes: ByteBuffer, to peer: SocketAddress) {
        guard let context = self.context, context.channel.isWritable else { return }
        context.write(self.wrapOutboundOut(AddressedEnvelope(remoteAddress: peer, data: bytes)), promise: nil)
        guard !self.isFlushScheduled else { return }
        if self.exchanges.activeCount == 0 {
            context.flush()
        } else {
            self.isFlushScheduled = true
            self.eventLoop.assumeIsolated().execute {
                self.isFlushScheduled = false
                self.context?.flush()
            }
        }
    }

    private func reset(_ messageID: UInt16, _ peer: SocketAddress) {
        self.write(CoAPMessage(.reset, .empty, messageID: messageID).datagram, to: peer)
    }

    private func acknowledge(_ key: Exchanges.Key) {
        self.write(CoAPMessage(.acknowledgement, .empty, messageID: key.messageID).datagram, to: key.peer)
    }

    // MARK: Messages

    private func received(_ message: CoAPMessage, from peer: SocketAddress, isTooLarge: Bool) {
        let key = Exchanges.Key(peer: peer, messageID: message.messageID)
        switch message.kind {
        case .acknowledgement:
            if case .observer(let id) = self.transmissions.ended(key) {
                self.notify(self.observers.acknowledged(id, now: self.now))
            }
        case .reset:
            // RFC 7641 §3.6: who resets a notification wants no more of them.
            if case .observer(let id) = self.transmissions.ended(key) { self.end(self.observers.remove(id)) }
        case .confirmable, .nonConfirmable:
            if message.code.isRequest {
                self.requested(message, key, isTooLarge: isTooLarge)
            } else if message.kind == .confirmable {
                // A ping (RFC 7252 §4.3), or a response although we asked nothing (§4.2).
                self.reset(message.messageID, peer)
            }
        }
    }

    private func requested(_ message: CoAPMessage, _ key: Exchanges.Key, isTooLarge: Bool) {
        let arrival = self.exchanges.arrived(
            key,
            isConfirmable: message.kind == .confirmable,
            isIdempotent: message.code == .get,
            now: self.now
        )
        switch arrival {
        case .replay(let bytes): self.write(bytes, to: key.peer)
        case .acknowledge: self.acknowledge(key)
        case .ignore: break
        case .busy: self.refuse(message, key)
        case .new(let id): self.handle(message, id, isTooLarge: isTooLarge)
        }
    }

    /// Answers a request that is not carried out because too many others are; it leaves no trace.
    private func refuse(_ message: CoAPMessage, _ key: Exchanges.Key) {
        if !self.hasWarnedOfBusy {
            self.hasWarnedOfBusy = true
            self.logger.warning("too many requests at the same time; some are refused; raise 'exchanges-max'")
        }
        let response = CoAPResponse(.serviceUnavailable, options: [CoAPOption(.maxAge, uint: Self.busyMaxAge)])
        let isConfirmable = message.kind == .confirmable
        let answer = response.message(
            isConfirmable ? .acknowledgement : .nonConfirmable,
            messageID: isConfirmable ? key.messageID : self.messageIDs.next(for: key.peer),
            token: message.token
        )
        self.write(answer.datagram, to: key.peer)
    }

    private func handle(_ message: CoAPMessage, _ id: Exchanges.ID, isTooLarge: Bool) {
        let request: CoAPRequest
        do {
            request = try CoAPRequest(message)
        } catch {
            if case .badOption = error, message.kind == .nonConfirmable {
                // RFC 7252 §5.4.1: such a non-confirmable request is rejected rather than answered.
                _ = self.exchanges.answered(id)
                self.reset(message.messageID, id.key.peer)
            } else {
                self.respond(CoAPResponse(error), to: id, message.token)
            }
            return
        }
        if isTooLarge {
            // The end of the datagram is missing, so all that can be said is that it was too long.
            self.respond(CoAPResponse(.requestEntityTooLarge), to: id, message.token)
            return
        }
        switch CoAPResource.route(request.method, request.path) {
        case .failure(let code, let text):
            self.respond(CoAPResponse(code, diagnostic: text), to: id, message.token)
        case .discovery:
            let body = ByteBuffer(string: CoAPResource.links)
            let response = CoAPResponse(
                .content,
                body: body,
                format: ContentFormat.link,
                etag: EntityTag.of(body),
                block2: request.block2,
                exponentMax: self.settings.blockExponent
            )
            self.respond(response, to: id, message.token)
        case .resource(let resource):
            let handler = NIOLoopBound(self, eventLoop: self.eventLoop)
            let responder = self.responder
            // A task of its own for each request: the exchange layer bounds their number, each ends with its answer, and
            // the node waits for them when it stops.
            Task(executorPreference: self.taskExecutor) {
                await responder.respond(to: request, resource, exchange: id, handler: handler)
            }
        }
    }

    /// Sends the answer to a request, which may have registered an observer.
    func respond(
        _ response: CoAPResponse,
        to id: Exchanges.ID,
        _ token: CoAPMessage.Token,
        observer: Observers.ID? = nil
    ) {
        guard let form = self.exchanges.answered(id) else { return }
        let peer = id.key.peer
        switch form {
        case .piggybacked:
            let bytes = response.message(.acknowledgement, messageID: id.key.messageID, token: token).datagram
            self.exchanges.keep(bytes, for: id, now: self.now)
            self.write(bytes, to: peer)
        case .separate:
            let isTracked = self.confirm(response, to: peer, token, owner: observer.map(Owner.observer) ?? .response)
            // The observer is told more once this has been acknowledged.
            if isTracked { return self.settle() }
        case .nonConfirmable:
            let messageID = self.messageIDs.next(for: peer)
            self.write(response.message(.nonConfirmable, messageID: messageID, token: token).datagram, to: peer)
        }
        if let observer { self.notify(self.observers.started(observer, now: self.now)) }
        self.settle()
    }

    /// Sends a confirmable message and waits for its acknowledgement.
    ///
    /// - Returns: Whether there is room to wait; if not, the message is sent once, without asking for acknowledgement.
    @discardableResult
    private func confirm(
        _ response: CoAPResponse,
        to peer: SocketAddress,
        _ token: CoAPMessage.Token,
        owner: Owner
    ) -> Bool {
        var key = Exchanges.Key(peer: peer, messageID: self.messageIDs.next(for: peer))
        while self.transmissions.contains(key) { key.messageID = self.messageIDs.next(for: peer) }
        let bytes = response.message(.confirmable, messageID: key.messageID, token: token).datagram
        guard self.transmissions.started(key, bytes, owner: owner, now: self.now) else {
            self.write(
                response.message(.nonConfirmable, messageID: key.messageID, token: token).datagram,
                to: peer
            )
            return false
        }
        self.write(bytes, to: peer)
        return true
    }

    /// After each answer: the timer may have to be earlier, and a node that stops may be done.
    private func settle() {
        self.updateTimer()
        if self.isDraining, self.exchanges.activeCount == 0 { self.context?.close(promise: nil) }
    }

    // MARK: Block1

    /// Takes in a block of a request's body.
    func assemble(_ request: CoAPRequest, _ block: Block, from peer: SocketAddress) -> BodyAssemblies.Result {
        defer { self.updateTimer() }
        return self.assemblies.add(
            request.payload,
            block,
            announced: request.size1,
            to: BodyAssemblies.Key(peer: peer, path: request.path),
            now: self.now
        )
    }

    // MARK: Observe

    /// Registers an observer; it is told nothing before its request is answered.
    ///
    /// - Returns: `nil` if there are too many.
    func observe(
        _ request: CoAPRequest,
        _ resource: Observers.Resource,
        of device: Originator,
        from peer: SocketAddress
    ) -> Observers.ID? {
        let registration = self.observers.register(
            Observers.Key(peer: peer, token: request.token),
            device: device.id,
            resource: resource,
            exponent: request.block2?.exponent,
            now: self.now
        )
        guard let registration else { return nil }
        self.end(registration.replaced)
        for ended in registration.ended {
            self.end(ended)
            // ThingsBoard ends an observation that another takes the place of with 2.02.
            self.confirm(CoAPResponse(.deleted), to: ended.key.peer, ended.key.token, owner: .response)
        }
        let id = registration.id
        let handler = NIOLoopBound(self, eventLoop: self.eventLoop)
        let subscription = self.sessions.subscribe(device.id) { [eventLoop = self.eventLoop] event in
            eventLoop.execute { handler.value.happened(id, event) }
        }
        self.observers.subscribed(id, subscription)
        return id
    }

    /// Takes an observer's sequence number for the answer to its request; `nil` if it has ended meanwhile.
    func firstSequence(_ id: Observers.ID) -> UInt32? { self.observers.firstSequence(id) }

    /// Ends an observer, if it is there.
    func endObserver(_ id: Observers.ID) { self.end(self.observers.remove(id)) }

    /// Ends the observation of a peer with a token, if there is one.
    func endObservation(from peer: SocketAddress, _ token: CoAPMessage.Token) {
        self.end(self.observers.remove(Observers.Key(peer: peer, token: token)))
    }

    /// The body of the last notification to a peer, if it took more than one block.
    func retainedBody(for peer: SocketAddress, _ device: Originator, _ resource: Observers.Resource) -> ByteBuffer? {
        self.retained[RetainedBodies.Key(peer: peer, device: device.id, resource: resource)]
    }

    /// Keeps the body of a notification if it takes more than one block; forgets the one before in any case.
    func retain(
        _ body: ByteBuffer?,
        exponent: UInt8?,
        for peer: SocketAddress,
        _ device: UUID,
        _ resource: Observers.Resource
    ) {
        let blockBytes = 1 << (Int(min(exponent ?? .max, self.settings.blockExponent)) + 4)
        let isLarge = body.map { $0.readableBytes > blockBytes } ?? false
        self.retained.keep(
            isLarge ? body : nil,
            for: RetainedBodies.Key(peer: peer, device: device, resource: resource)
        )
    }

    private func end(_ observer: Observers.Observer?) {
        guard let observer else { return }
        if let subscription = observer.subscription { self.sessions.unsubscribe(subscription) }
        self.retain(nil, exponent: nil, for: observer.key.peer, observer.device, observer.resource)
    }

    private func happened(_ id: Observers.ID, _ event: DeviceNotification) {
        if event == .credentialsRevoked {
            guard let observer = self.observers.remove(id) else { return }
            self.end(observer)
            // RFC 7641 §4.2: an error ends the observation.
            self.confirm(CoAPResponse(.unauthorized), to: observer.key.peer, observer.key.token, owner: .response)
        } else {
            self.notify(self.observers.happened(id, event, now: self.now))
        }
        self.updateTimer()
    }

    private func notify(_ notification: Observers.Notification?) {
        guard let notification else { return }
        let body: ByteBuffer?
        switch notification.content {
        case .updated(let values): body = JSON.object(values).bytes
        case .deleted(let names): body = (["deleted": .array(names.map(JSON.string))] as JSON).bytes
        case .call(let call): body = call.bytes
        case .refresh: body = notification.resource == .attributes ? ByteBuffer(string: "{}") : nil
        }
        var response = CoAPResponse(.valid)
        if let body {
            response = CoAPResponse(
                .content,
                body: body,
                format: ContentFormat.json,
                etag: EntityTag.of(body),
                block2: notification.exponent.map { Block(number: 0, more: false, exponent: $0) },
                exponentMax: self.settings.blockExponent
            )
        }
        response.observing(notification.sequence, maxAge: self.settings.observers.maxAge)
        let key = notification.key
        self.retain(
            body,
            exponent: notification.exponent,
            for: key.peer,
            notification.device,
            notification.resource
        )
        let isTracked = self.confirm(response, to: key.peer, key.token, owner: .observer(notification.id))
        if !isTracked { self.notify(self.observers.acknowledged(notification.id, now: self.now)) }
    }

    // MARK: Time

    private func updateTimer() {
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
                self.end(self.observers.remove(id))
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
            self.context?.close(promise: nil)
        } else {
            self.eventLoop.assumeIsolated().scheduleTask(in: Self.drainMax) { self.context?.close(promise: nil) }
        }
    }

    /// Lets go of all that would outlive the node.
    func stop() {
        for observer in self.observers.removeAll() { self.end(observer) }
        self.timer?.task.cancel()
        self.timer = nil
    }
}
