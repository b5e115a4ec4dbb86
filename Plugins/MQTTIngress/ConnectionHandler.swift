import IngressKit
import Logging
import NIOCore
import NodeKit
import OTA
import Synchronization

/// Carries out, on one connection, what its session says.
///
/// Reads packets, writes bytes and runs one task while there is a request that waits; an idle connection has neither task
/// nor timer. All of it on the connection's event loop.
final class ConnectionHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = Never
    typealias OutboundOut = ByteBuffer

    /// Who is on the other side, once that is known.
    enum Peer {
        case device(DeviceRequests)
        /// Someone who wants to be made a device.
        case provisioning(ProvisionRequests)
    }

    let services: ConnectionServices
    /// Whether the client may have shown a certificate.
    let isTLS: Bool
    var session: Session
    var context: ChannelHandlerContext?
    var handle: Connections.Handle?
    /// What the connections of its event loop share, once it is admitted.
    private var loop: LoopServices?
    var peer: Peer?
    var subscription: DeviceSessions.Subscription?
    /// Where the session is kept when it outlives the connection.
    var key: KeptSessions.Key?
    /// The task that authenticates or works on requests.
    private var task: Task<Void, Never>?
    private var taskCount = 0
    /// Whether tasks and requests wait until what runs now is done or waits itself.
    var startsTasksLater = false
    /// The task, while it waits for the client to read or to acknowledge.
    private var waiter: CheckedContinuation<Void, Never>?
    /// Packets that were written and leave with the next flush, or after the package that is being sent in pieces.
    var gathered: ByteBuffer?
    var isSendingPieces = false
    private var decoder: PacketDecoder
    /// Bytes that are no whole packet yet, or that wait for requests to be done.
    private var unread: ByteBuffer?
    /// Whether packets are being taken from what was read; what they lead to is flushed at the end of the read.
    private(set) var isDecoding = false
    private var isReadPending = false
    /// Whether the client acknowledged a message and was sent nothing since, which would acknowledge that to its TCP.
    var owesAcknowledgement = false
    private(set) var isShuttingDown = false
    private var isGone = false
    private var isLeaving = false
    private var hasNoted = false
    private var lastPacket = NIODeadline.now()
    /// When the connection is to be looked at; the deadline of a wheel that is earlier is of no meaning any more.
    private var watchedUntil = NIODeadline.distantFuture
    private var writeTimer: Scheduled<Void>?

    init(services: ConnectionServices, isTLS: Bool = false) {
        self.services = services
        self.isTLS = isTLS
        self.session = Session(limits: services.limits)
        self.decoder = PacketDecoder(packetBytesMax: services.limits.packetBytesMax)
    }

    /// The device on the other side, if it is one.
    var device: Originator? {
        if case .device(let requests) = self.peer { requests.device } else { nil }
    }

    // MARK: Life

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { self.start(context) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.stop()
        self.context = nil
    }

    func channelActive(context: ChannelHandlerContext) {
        self.start(context)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.stop()
        context.fireChannelInactive()
    }

    private func start(_ context: ChannelHandlerContext) {
        guard self.handle == nil else { return }
        switch self.services.connections.admit(self, on: context.eventLoop) {
        case .admitted(let handle):
            self.handle = handle
            self.loop = self.services.services(of: context.eventLoop)
            self.services.metrics.opened()
        case .closing:
            self.services.metrics.refusedConnections.add()
            context.close(promise: nil)
            return
        case .full(let isFirst):
            self.services.metrics.refusedConnections.add()
            if isFirst {
                self.services.logger.warning(
                    "too many connections, new ones are turned away",
                    metadata: ["mqtt.connections-max": "\(self.services.limits.connectionsMax)"]
                )
            }
            context.close(promise: nil)
            return
        }
        self.lastPacket = context.eventLoop.now
        self.watch(until: context.eventLoop.now + self.services.limits.connectTimeout)
    }

    private func stop() {
        guard !self.isGone, self.handle != nil else { return }
        self.isGone = true
        // Tasks that end at once do not leave before all of this is done.
        self.taskCount += 1
        self.services.metrics.closed()
        self.decode(isLast: true)
        self.unread = nil
        let actions = self.session.closed()
        self.writeTimer?.cancel()
        if let subscription = self.subscription { self.services.deviceSessions.unsubscribe(subscription) }
        self.gathered = nil
        self.perform(actions)
        self.wake()
        self.taskEnded()
    }

    /// Leaves the list of connections once the channel is closed and the last request is done.
    func leaveIfDone() {
        guard self.isGone, !self.isLeaving, self.session.isIdle, self.taskCount == 0, let handle else { return }
        self.isLeaving = true
        guard case .device(let requests) = self.peer else { return self.leave(handle) }
        if let key = self.key {
            let departure = KeptSessions.Departure(
                device: requests.device,
                state: self.session.state,
                expirySeconds: self.session.expirySeconds,
                will: self.session.will
            )
            let now = handle.eventLoop.now
            self.services.publishWills(of: self.services.kept.leave(key, departure, now: now), on: handle.eventLoop)
        }
        // A device that connected again meanwhile has not gone.
        guard self.services.deviceSessions.sessionCount(of: requests.device.id) == 0 else {
            return self.leave(handle)
        }
        self.run { connection in
            if case .device(let requests) = connection.peer { await requests.tell(.disconnectEvent) }
            connection.leave(handle)
        }
    }

    /// Leaves the list of connections; nothing but the list's entry keeps this object any more.
    private func leave(_ handle: Connections.Handle) {
        self.services.connections.remove(handle)
        // It refers back to this object.
        self.handle = nil
    }

    /// Ends the session for a reason, which a client of MQTT 5 is told.
    func end(_ reason: ReasonCode, _ explanation: String?) {
        self.perform(self.session.end(reason, explanation))
        self.flush()
    }

    /// Ends the session once the requests under way are done; no further ones are read.
    func shutDown() {
        self.isShuttingDown = true
        if self.session.isIdle || !self.session.isConnected { self.end(.serverShuttingDown, nil) }
    }

    /// Ends the connection at once, whatever is under way.
    func abort() {
        self.task?.cancel()
        self.context?.close(promise: nil)
        if let handle = self.handle { self.services.connections.remove(handle) }
    }

    /// Something happened that the device may want to know.
    ///
    /// - Parameters:
    ///   - notification: What.
    ///   - key: The session whose client is to be told, if it is one that is kept: then only what comes this way counts.
    func notified(_ notification: DeviceNotification, of key: KeptSessions.Key? = nil) {
        guard notification == .credentialsRevoked || key == self.key else {
            // It was on its way when the session went on to another connection, or none.
            if let key { self.services.kept.notified(key, notification) }
            return
        }
        if let key, self.isLeaving {
            self.services.kept.notified(key, notification)
            return
        }
        self.perform(self.session.notified(notification))
        self.flush()
    }

    /// Lets it be seen from other threads what the client takes; calls and pushes that waited for it come now.
    func noteInterests() {
        guard let handle = self.handle, self.session.isConnected else { return }
        var interests: DeviceInterests = []
        let takesCalls = self.session.state.takesCalls
        if handle.takesCalls.exchange(takesCalls, ordering: .relaxed) != takesCalls, takesCalls {
            interests.insert(.calls)
        }
        let takesAttributes = self.session.state.takesAttributes
        if handle.takesAttributes.exchange(takesAttributes, ordering: .relaxed) != takesAttributes, takesAttributes {
            interests.insert(.attributes)
        }
        guard !interests.isEmpty else { return }
        if let key = self.key {
            self.services.kept.offerHeld(key, interests)
        } else if let subscription = self.subscription {
            self.services.deviceSessions.offerHeld(to: subscription, interests: interests)
        }
    }

    // MARK: Deadlines

    /// Has the connection looked at when a deadline has come.
    func watch(until deadline: NIODeadline) {
        guard let handle = self.handle, let loop = self.loop else { return }
        self.watchedUntil = deadline
        loop.deadlines.watch(handle.id, until: deadline)
    }

    /// A deadline has come, if it was not moved since.
    ///
    /// - Returns: When to look again.
    func deadlineReached(now: NIODeadline) -> NIODeadline? {
        guard !self.isGone, !self.session.isClosed, now >= self.watchedUntil else { return nil }
        guard self.session.isConnected else {
            self.end(.protocolError, "the client did not complete its connection in time")
            return nil
        }
        guard case .device = self.peer else {
            self.end(.maximumConnectTime, "a session to become a device may last no longer")
            return nil
        }
        guard let silenceMax = self.silenceMax else { return nil }
        if !self.session.isReadingWanted {
            self.lastPacket = now
        } else if now - self.lastPacket >= silenceMax {
            self.end(.keepAliveTimeout, "nothing came for one and a half times the keep alive")
            return nil
        }
        self.watchedUntil = self.lastPacket + silenceMax
        return self.watchedUntil
    }

    /// How long the client may be silent (MQTT 5 §3.1.2.10); `nil` if for ever.
    private var silenceMax: TimeAmount? {
        let seconds = self.session.keepAliveSeconds
        return seconds == 0 ? nil : .milliseconds(Int64(seconds) * 1500)
    }

    /// The session has begun: what counts from now on is how long the client is silent.
    func watchSilence() {
        guard let handle = self.handle else { return }
        self.lastPacket = handle.eventLoop.now
        // That of connecting is over.
        self.watchedUntil = .distantFuture
        if let silenceMax = self.silenceMax { self.watch(until: self.lastPacket + silenceMax) }
    }

    // MARK: Reading

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !self.session.isClosed else { return }
        var bytes = ConnectionHandler.unwrapInboundIn(data)
        self.services.metrics.receivedBytes.add(bytes.readableBytes)
        self.lastPacket = context.eventLoop.now
        if self.unread == nil { self.unread = bytes } else { self.unread?.writeBuffer(&bytes) }
        self.decode()
    }

    /// Takes packets from what was read, as long as they are wanted, or all of them if the connection is gone.
    private func decode(isLast: Bool = false) {
        // Sending an answer may close the connection, which ends up here again.
        guard !self.isDecoding else { return }
        self.isDecoding = true
        defer { self.isDecoding = false }
        if var bytes = self.unread.take() {
            do {
                while self.session.isReadingWanted || isLast, bytes.readableBytes > 0 {
                    guard let packet = try self.decoder.next(in: &bytes) else { break }
                    self.services.metrics.requests.add()
                    if case .puback = packet { self.owesAcknowledgement = true }
                    let changesInterests = packet.changesSubscriptions
                    self.perform(self.session.received(packet))
                    if changesInterests { self.noteInterests() }
                }
                self.keepUnread(bytes)
            } catch {
                self.perform(self.session.received(error))
            }
        }
        self.wake()
    }

    /// Does not let a few bytes of a packet hold the memory of a large read.
    private func keepUnread(_ bytes: ByteBuffer) {
        guard bytes.readableBytes > 0, !self.session.isClosed else { return }
        let isSmall = bytes.readableBytes < bytes.storageCapacity / 4
        self.unread = isSmall ? ByteBuffer(bytes: bytes.readableBytesView) : bytes
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.flush()
        // With a request under way, its answer will do.
        if self.owesAcknowledgement, self.session.isIdle { self.acknowledgeBytes(context) }
        context.fireChannelReadComplete()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The peer reset the connection, or what it sent is not of the protocol below MQTT.
        context.close(promise: nil)
    }

    func read(context: ChannelHandlerContext) {
        if self.session.isReadingWanted, !self.isShuttingDown {
            context.read()
        } else {
            self.isReadPending = true
        }
    }

    /// Reads on if that was held back and is wanted again.
    func resumeReading() {
        // Within a read it goes on by itself.
        guard !self.isShuttingDown, !self.isDecoding else { return }
        if self.unread != nil {
            self.decode()
            // What was answered just now is not followed by the end of a read, which flushes otherwise.
            self.flush()
        }
        guard self.isReadPending, self.session.isReadingWanted, let context = self.context else { return }
        self.isReadPending = false
        // The client was not heard because it was not listened to.
        self.lastPacket = context.eventLoop.now
        context.read()
    }

    // MARK: Actions

    func perform(_ actions: [Session.Action]) {
        for action in actions {
            switch action {
            case .send(let packet): self.write(packet)
            case .authenticate(let connect): self.run { await $0.authenticate(connect) }
            case .work: if self.startsTasksLater { self.workLater() } else { self.work() }
            case .note(let text): self.note(text)
            case .close(let explanation): self.close(explanation)
            }
        }
    }

    /// Starts a task on the connection's event loop, at once: one that has nothing to wait for is done when this returns.
    ///
    /// It ends with the work it is given, at the latest soon after the connection; nothing waits for its result.
    func run(_ body: @escaping @Sendable (ConnectionHandler) async -> Void) {
        guard let handle = self.handle, let loop = self.loop else { return }
        self.taskCount += 1
        let task = Task.immediate(executorPreference: loop.executor) { [isLater = self.startsTasksLater] in
            if isLater { await Task.yield() }
            let connection = handle.connection.value
            await body(connection)
            connection.taskEnded()
        }
        if self.taskCount > 0 { self.task = task }
    }

    /// A task that is done would take as much memory as one that works.
    private func taskEnded() {
        self.taskCount -= 1
        if self.taskCount == 0 { self.task = nil }
        self.leaveIfDone()
    }

    private func close(_ explanation: String?) {
        if let explanation {
            self.services.logger.info("connection ended", metadata: self.logMetadata(explanation))
        }
        self.flush()
        self.context?.close(promise: nil)
        self.wake()
    }

    /// Logs that something was refused or ignored, once for each connection.
    func note(_ text: String) {
        guard !self.hasNoted else { return }
        self.hasNoted = true
        self.services.logger.info(
            "a request was refused; further ones of this connection are not logged",
            metadata: self.logMetadata(text)
        )
    }

    private func logMetadata(_ reason: String) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["mqtt.reason": "\(reason)"]
        metadata["peer.address"] = (self.context?.remoteAddress).map { "\($0)" }
        metadata["device.name"] = (self.device?.name).map { "\($0)" }
        return metadata
    }

    // MARK: Waiting

    /// Whether the client reads what is sent to it.
    var isWritable: Bool { self.writeTimer == nil }

    /// Waits until the client read or sent something, or is gone.
    func wait() async {
        await withCheckedContinuation { self.waiter = $0 }
    }

    private func wake() {
        guard let waiter = self.waiter else { return }
        self.waiter = nil
        waiter.resume()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            self.writeTimer?.cancel()
            self.writeTimer = nil
            self.wake()
        } else if self.writeTimer == nil {
            self.writeTimer = context.eventLoop.assumeIsolated().scheduleTask(in: self.services.limits.writeTimeout) {
                self.end(.unspecifiedError, "the client did not read what was sent to it in time")
            }
        }
        context.fireChannelWritabilityChanged()
    }
}
