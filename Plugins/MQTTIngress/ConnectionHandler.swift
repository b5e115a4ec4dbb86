import Logging
import NIOCore
import NodeKit
import OTA

/// Carries out, on one connection, what its session says.
///
/// Reads packets, writes bytes, keeps the timers and runs one task while there are requests to work on; an idle connection
/// has no task. All of it on the connection's event loop.
final class ConnectionHandler: ChannelDuplexHandler {
    typealias InboundIn = Packet
    typealias OutboundIn = Never
    typealias OutboundOut = ByteBuffer

    private let services: ConnectionServices
    private var session: Session
    private var context: ChannelHandlerContext?
    private var handle: Connections.Handle?
    private var device: Originator?
    private var subscription: DeviceSessions.Subscription?
    private var requests: DeviceRequests?
    /// The task that authenticates or works on requests.
    private var task: Task<Void, Never>?
    /// The task, while it waits for the client to read or to acknowledge.
    private var waiter: CheckedContinuation<Void, Never>?
    /// What is to be sent after the package that is being sent in pieces; `nil` if none is.
    private var held: ByteBuffer?
    private var isReadPending = false
    private var isShuttingDown = false
    private var hasNoted = false
    private var lastPacket = NIODeadline.now()
    private var connectTimer: Scheduled<Void>?
    private var keepAliveTimer: Scheduled<Void>?
    private var writeTimer: Scheduled<Void>?

    init(services: ConnectionServices) {
        self.services = services
        self.session = Session(limits: services.limits)
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
        case .admitted(let handle): self.handle = handle
        case .closing:
            context.close(promise: nil)
            return
        case .full(let isFirst):
            if isFirst {
                self.services.logger.warning(
                    "too many connections, new ones are turned away",
                    metadata: ["mqtt.connections-max": "\(self.services.limits.connectionsMax)"]
                )
            }
            context.close(promise: nil)
            return
        }
        self.connectTimer = context.eventLoop.assumeIsolated().scheduleTask(in: self.services.limits.connectTimeout) {
            self.end(.protocolError, "the client did not complete its connection in time")
        }
    }

    private func stop() {
        self.session.closed()
        self.connectTimer?.cancel()
        self.keepAliveTimer?.cancel()
        self.writeTimer?.cancel()
        if let subscription = self.subscription { self.services.deviceSessions.unsubscribe(subscription) }
        self.subscription = nil
        self.held = nil
        self.wake()
        self.leaveIfDone()
    }

    /// Leaves the list of connections once the channel is closed and the last request is done.
    private func leaveIfDone() {
        guard let handle = self.handle, self.session.isIdle, self.context?.channel.isActive != true else { return }
        self.services.connections.remove(handle, of: self.device?.id)
    }

    /// Ends the session for a reason, which a client of MQTT 5 is told.
    func end(_ reason: ReasonCode, _ explanation: String?) {
        self.perform(self.session.end(reason, explanation))
        self.context?.flush()
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
        if let handle = self.handle { self.services.connections.remove(handle, of: self.device?.id) }
    }

    /// Something happened that the device may want to know.
    func notified(_ notification: DeviceNotification) {
        self.perform(self.session.notified(notification))
        self.context?.flush()
    }

    // MARK: Reading

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.lastPacket = context.eventLoop.now
        self.perform(self.session.received(Self.unwrapInboundIn(data)))
        self.wake()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.flush()
        context.fireChannelReadComplete()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let error = error as? PacketError {
            self.perform(self.session.received(error))
            context.flush()
        } else {
            // The peer reset the connection, or sent more after bytes that were no packet.
            context.close(promise: nil)
        }
    }

    func read(context: ChannelHandlerContext) {
        if self.session.isReadingWanted, !self.isShuttingDown {
            context.read()
        } else {
            self.isReadPending = true
        }
    }

    /// Reads on if that was held back and is wanted again.
    private func resumeReading() {
        guard self.isReadPending, self.session.isReadingWanted, !self.isShuttingDown, let context = self.context else {
            return
        }
        self.isReadPending = false
        // The client was not heard because it was not listened to.
        self.lastPacket = context.eventLoop.now
        context.read()
    }

    // MARK: Actions

    private func perform(_ actions: [Session.Action]) {
        for action in actions {
            switch action {
            case .send(let packet): self.write(packet)
            case .authenticate(let connect): self.run { await $0.authenticate(connect) }
            case .work: self.run { await $0.work() }
            case .note(let text): self.note(text)
            case .close(let explanation): self.close(explanation)
            }
        }
    }

    /// Starts a task on the connection's event loop.
    ///
    /// It ends with the work it is given, at the latest soon after the connection; nothing waits for its result.
    private func run(_ body: @escaping @Sendable (ConnectionHandler) async -> Void) {
        guard let handle = self.handle else { return }
        self.task = Task(executorPreference: self.services.executor(of: handle.eventLoop)) {
            await body(handle.connection.value)
        }
    }

    private func write(_ packet: Packet) {
        guard let context = self.context else { return }
        var buffer = context.channel.allocator.buffer(capacity: 64)
        packet.write(into: &buffer, version: self.session.version)
        if self.held != nil {
            self.held?.writeBuffer(&buffer)
            self.checkBacklog(self.held?.readableBytes ?? 0)
        } else {
            context.write(Self.wrapOutboundOut(buffer), promise: nil)
            if !context.channel.isWritable { self.checkBacklog(Self.bufferedBytes(context.channel)) }
        }
    }

    private static func bufferedBytes(_ channel: any Channel) -> Int {
        (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    /// A client that does not read what it causes or subscribed to must not fill the memory.
    private func checkBacklog(_ bytes: Int) {
        guard bytes > self.services.limits.outboundBytesMax, !self.session.isClosed else { return }
        self.perform(self.session.end(.quotaExceeded, "the client does not read what is sent to it"))
    }

    private func close(_ explanation: String?) {
        if let explanation {
            self.services.logger.info("connection ended", metadata: self.logMetadata(explanation))
        }
        self.context?.flush()
        self.context?.close(promise: nil)
        self.wake()
    }

    /// Logs that something was refused or ignored, once for each connection.
    private func note(_ text: String) {
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

    // MARK: Connecting

    private func authenticate(_ connect: ConnectPacket) async {
        let actions: [Session.Action]
        do {
            if try await self.findDevice(connect) {
                actions = self.accept()
            } else if connect.userName == nil, connect.password == nil {
                actions = self.session.refused(
                    .clientIdentifierNotValid,
                    explanation: "no device has this client identifier"
                )
            } else {
                actions = self.session.refused(.badUserNameOrPassword, explanation: "no device has these credentials")
            }
        } catch {
            let explanation = "the credentials could not be checked: \(NodeError(wrapping: error))"
            actions = self.session.refused(.serverUnavailable, explanation: explanation)
        }
        self.perform(actions)
        self.context?.flush()
        self.resumeReading()
    }

    private func findDevice(_ connect: ConnectPacket) async throws -> Bool {
        let authenticator = self.services.authenticator
        var password: String?
        if let bytes = connect.password {
            password = try? bytes.getUTF8ValidatedString(at: bytes.readerIndex, length: bytes.readableBytes)
            // A password that is no text is not that of a device, whose credentials are text.
            guard password != nil else { return false }
        }
        let (clientId, userName) = (connect.clientId, connect.userName)
        let found = try await authenticator.device(clientId: clientId, userName: userName, password: password)
        guard let device = found, let handle = self.handle, !self.session.isClosed else { return false }
        self.device = device
        self.subscription = self.services.deviceSessions.subscribe(device.id) { notification in
            handle.tell { $0.notified(notification) }
        }
        // The credentials may have been revoked before there was a listener to tell.
        return try await authenticator.device(clientId: clientId, userName: userName, password: password)?.id
            == device.id
    }

    private func accept() -> [Session.Action] {
        guard !self.session.isClosed, let context = self.context, let handle = self.handle, let device = self.device
        else {
            return []
        }
        self.connectTimer?.cancel()
        self.connectTimer = nil
        let services = self.services
        self.requests = DeviceRequests(
            device: device,
            outlet: services.outlet,
            packages: services.packages,
            now: services.now,
            limits: services.limits
        )
        services.connections.claim(device.id, for: handle)?.tell {
            $0.end(.sessionTakenOver, "the device connected again")
        }
        let actions = self.session.authenticated(assignedClientId: "windlass-\(device.id.uuidString.lowercased())")
        // MQTT 5 §3.1.2.10: one and a half times the keep alive.
        if self.session.keepAliveSeconds > 0 {
            self.lastPacket = context.eventLoop.now
            self.watchKeepAlive(.milliseconds(Int64(self.session.keepAliveSeconds) * 1500))
        }
        return actions
    }

    /// Looks again when the silence could be too long.
    ///
    /// One timer for each connection, not moved with every packet.
    private func watchKeepAlive(_ silenceMax: TimeAmount) {
        guard let context = self.context, !self.session.isClosed else { return }
        self.keepAliveTimer = context.eventLoop.assumeIsolated().scheduleTask(deadline: self.lastPacket + silenceMax) {
            if !self.session.isReadingWanted {
                self.lastPacket = context.eventLoop.now
            } else if context.eventLoop.now - self.lastPacket >= silenceMax {
                return self.end(.keepAliveTimeout, "nothing came for one and a half times the keep alive")
            }
            self.watchKeepAlive(silenceMax)
        }
    }

    // MARK: Requests

    /// Carries out requests one after another until none is left.
    private func work() async {
        while let requests = self.requests, let request = self.session.nextRequest() {
            let answer = await requests.answer(request)
            self.perform(self.session.acknowledge(request, answer.reason, explanation: answer.explanation))
            if let response = answer.response { await self.respond(response, to: request) }
            self.context?.flush()
            self.resumeReading()
        }
        if self.isShuttingDown { self.end(.serverShuttingDown, nil) }
        self.leaveIfDone()
    }

    private func respond(_ response: Answer.Response, to request: Session.Request) async {
        while !self.session.isClosed, !self.session.canPublish(to: response.topic) || !self.isWritable {
            self.context?.flush()
            self.resumeReading()
            await self.wait()
        }
        guard self.session.isConnected else { return }
        switch response.body {
        case .bytes(let bytes):
            guard var packet = self.session.answer(to: response.topic, payloadSize: bytes.readableBytes) else {
                return self.refuse(request, size: Int64(bytes.readableBytes))
            }
            packet.payload = bytes
            self.write(header: packet, payloadSize: bytes.readableBytes)
            self.context?.write(Self.wrapOutboundOut(bytes), promise: nil)
        case .content(let reply):
            let size = reply.range.upperBound - reply.range.lowerBound
            guard let packet = self.session.answer(to: response.topic, payloadSize: Int(clamping: size)) else {
                return self.refuse(request, size: size)
            }
            await self.send(packet, payload: reply)
        }
    }

    /// Tells that an answer is too large for the client, or for MQTT; where there is no topic for that, it is only logged.
    private func refuse(_ request: Session.Request, size: Int64) {
        let error = NodeError(
            .tooLarge,
            "a message of \(size) bytes is over what the client or MQTT allows; ask for smaller chunks"
        )
        self.note(error.description)
        guard case .chunkRequest(let type, _, _) = request.topic,
            let response = DeviceRequests.chunkFailure(type, error).response,
            case .bytes(let text) = response.body,
            var packet = self.session.answer(to: response.topic, payloadSize: text.readableBytes)
        else { return }
        packet.payload = text
        self.write(.publish(packet))
    }

    private func write(header packet: PublishPacket, payloadSize: Int) {
        guard let context = self.context else { return }
        var buffer = context.channel.allocator.buffer(capacity: packet.topic.utf8.count + 16)
        packet.writeHeader(into: &buffer, version: self.session.version, payloadSize: payloadSize)
        context.write(Self.wrapOutboundOut(buffer), promise: nil)
    }

    /// Sends a message too large to hold in memory, piece by piece as the client reads.
    ///
    /// Nothing else is sent meanwhile.
    private func send(_ packet: PublishPacket, payload: ContentReply) async {
        self.held = ByteBuffer()
        let (offset, end) = (payload.range.lowerBound, payload.range.upperBound)
        self.write(header: packet, payloadSize: Int(end - offset))
        for start in stride(from: offset, to: end, by: Limits.pieceBytes) {
            let range = start..<min(start + Int64(Limits.pieceBytes), end)
            guard let piece = await self.read(range, of: payload.content), let context = self.context else { return }
            context.writeAndFlush(Self.wrapOutboundOut(piece), promise: nil)
            while !self.session.isClosed, !self.isWritable { await self.wait() }
            if self.session.isClosed { return }
        }
        if let held = self.held, held.readableBytes > 0 {
            self.context?.write(Self.wrapOutboundOut(held), promise: nil)
        }
        self.held = nil
    }

    /// Reads a piece; `nil` if that failed or the connection ended.
    ///
    /// A message that has begun cannot be taken back, so a failure ends the connection.
    private func read(_ range: Range<Int64>, of content: any Content) async -> ByteBuffer? {
        do {
            let piece = try await content.read(range)
            if self.session.isClosed { return nil }
            guard piece.readableBytes == range.count else {
                throw NodeError(.internalError, "\(piece.readableBytes) bytes came in place of \(range.count)")
            }
            return piece
        } catch {
            self.end(.unspecifiedError, "a package could not be read to its end: \(NodeError(wrapping: error))")
            return nil
        }
    }

    // MARK: Waiting

    private var isWritable: Bool { self.context?.channel.isWritable ?? true }

    /// Waits until the client read or sent something, or is gone.
    private func wait() async {
        await withCheckedContinuation { self.waiter = $0 }
    }

    private func wake() {
        self.waiter?.resume()
        self.waiter = nil
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
