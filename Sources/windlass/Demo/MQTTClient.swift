import NIOCore
import NIOPosix

/// A client of one MQTT 3.1.1 server.
struct MQTTClient: Sendable {
    private let channel: any Channel

    /// Connects as the given user and waits until the server agrees.
    init(_ endpoint: DemoEndpoint, clientID: String, userName: String) async throws {
        self.channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(DemoLimits.connect)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(ByteToMessageHandler(MQTTCodec()))
                    try pipeline.addHandler(MessageToByteHandler(MQTTCodec()))
                    try pipeline.addHandler(MQTTClientHandler())
                }
            }
            .connect(host: endpoint.host, port: endpoint.port)
            .get()
        do {
            let packet = MQTTPacket.connect(
                clientID: clientID,
                userName: userName,
                keepAliveSeconds: MQTTClientHandler.keepAliveSeconds
            )
            guard case .connectAcknowledgement(let code) = try await self.ask(packet) else {
                throw DemoError("the server did not begin with CONNACK")
            }
            guard code == 0 else { throw DemoError("the server refused the connection with code \(code)") }
        } catch {
            self.channel.close(promise: nil)
            throw error
        }
    }

    /// Subscribes at quality of service 1.
    func subscribe(to filters: [String]) async throws {
        let reply = try await self.ask(.subscribe(id: 0, filters: filters))
        guard case .subscribeAcknowledgement(_, let codes) = reply, codes.count == filters.count else {
            throw DemoError("the server did not answer SUBSCRIBE with a code for each filter")
        }
        for (filter, code) in zip(filters, codes) where code > 2 {
            throw DemoError("the server refused the subscription to '\(filter)'")
        }
    }

    /// Publishes at quality of service 1, and returns when the server has taken the message over.
    func publish(_ payload: ByteBuffer, to topic: String) async throws {
        _ = try await self.ask(.publish(MQTTMessage(topic: topic, payload: payload, id: 0)))
    }

    /// The next message from the server.
    func receive(within wait: TimeAmount) async throws -> MQTTMessage {
        let promise = self.channel.eventLoop.makePromise(of: MQTTMessage.self)
        self.channel.write(MQTTClientHandler.Command.receive(promise, within: wait), promise: nil)
        self.channel.closeFuture.whenComplete { _ in promise.fail(DemoError("the connection is closed")) }
        return try await promise.futureResult.get()
    }

    /// Says good-bye and closes.
    func close() async {
        try? await self.channel.writeAndFlush(MQTTClientHandler.Command.send(.disconnect))
        try? await self.channel.close()
    }

    private func ask(_ packet: MQTTPacket) async throws -> MQTTPacket {
        let promise = self.channel.eventLoop.makePromise(of: MQTTPacket.self)
        self.channel.writeAndFlush(MQTTClientHandler.Command.ask(packet, promise), promise: nil)
        self.channel.closeFuture.whenComplete { _ in promise.fail(DemoError("the server closed the connection")) }
        return try await promise.futureResult.get()
    }
}

/// Matches acknowledgements to what they acknowledge, acknowledges what comes, and keeps the connection alive.
private final class MQTTClientHandler: ChannelDuplexHandler {
    typealias InboundIn = MQTTPacket
    typealias InboundOut = Never
    typealias OutboundIn = Command
    typealias OutboundOut = MQTTPacket

    /// The longest silence that the client allows itself.
    static let keepAliveSeconds: UInt16 = 60

    /// What the client asks of the handler.
    enum Command: Sendable {
        /// Send a packet, with an identifier if it has one, and complete with its acknowledgement.
        case ask(MQTTPacket, EventLoopPromise<MQTTPacket>)
        case send(MQTTPacket)
        case receive(EventLoopPromise<MQTTMessage>, within: TimeAmount)
    }

    private struct Question {
        let promise: EventLoopPromise<MQTTPacket>
        let timer: Scheduled<Void>
    }

    /// By packet identifier; CONNECT, which has none, is 0.
    private var questions: [UInt16: Question] = [:]
    private var lastID: UInt16 = 0
    private var mailbox = Mailbox<MQTTMessage>()
    private var ping: Scheduled<Void>?

    func handlerAdded(context: ChannelHandlerContext) { self.schedulePing(context) }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.ping?.cancel()
        self.fail(DemoError("the connection is closed"))
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch self.unwrapOutboundIn(data) {
        case .send(let packet):
            context.write(self.wrapOutboundOut(packet), promise: promise)
        case .receive(let message, let wait):
            self.mailbox.receive(message)
            let timer = context.eventLoop.scheduleTask(in: wait) {
                message.fail(DemoError("the server sent nothing within \(wait.nanoseconds / 1_000_000_000) s"))
            }
            message.futureResult.whenComplete { _ in timer.cancel() }
            promise?.succeed()
        case .ask(let packet, let reply):
            let (id, packet) = self.identify(packet)
            let timer = context.eventLoop.assumeIsolated().scheduleTask(in: DemoLimits.answer) {
                self.answer(id, .failure(DemoError("the server did not acknowledge in time")))
            }
            self.questions[id] = Question(promise: reply, timer: timer)
            context.write(self.wrapOutboundOut(packet), promise: promise)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let packet = self.unwrapInboundIn(data)
        switch packet {
        case .connectAcknowledgement: self.answer(0, .success(packet))
        case .publishAcknowledgement(let id), .subscribeAcknowledgement(let id, _): self.answer(id, .success(packet))
        case .publish(let message):
            if let id = message.id {
                context.writeAndFlush(self.wrapOutboundOut(.publishAcknowledgement(id: id)), promise: nil)
            }
            if !self.mailbox.deliver(message) {
                context.fireErrorCaught(DemoError("the server sends faster than the device reads"))
                context.close(promise: nil)
            }
        case .pingResponse: break
        case .connect, .subscribe, .pingRequest, .disconnect:
            self.fail(DemoError("the server sent a packet that only clients send"))
            context.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.fail(error)
        context.close(promise: nil)
    }

    private func schedulePing(_ context: ChannelHandlerContext) {
        let pause = TimeAmount.seconds(Int64(Self.keepAliveSeconds) / 2)
        self.ping = context.eventLoop.assumeIsolated().scheduleTask(in: pause) {
            context.writeAndFlush(self.wrapOutboundOut(.pingRequest), promise: nil)
            self.schedulePing(context)
        }
    }

    private func identify(_ packet: MQTTPacket) -> (id: UInt16, packet: MQTTPacket) {
        if case .connect = packet { return (0, packet) }
        // 0 is not an identifier (MQTT 3.1.1 §2.3.1).
        self.lastID = self.lastID == .max ? 1 : self.lastID + 1
        switch packet {
        case .publish(var message):
            message.id = self.lastID
            return (self.lastID, .publish(message))
        case .subscribe(_, let filters): return (self.lastID, .subscribe(id: self.lastID, filters: filters))
        default: return (self.lastID, packet)
        }
    }

    private func answer(_ id: UInt16, _ result: Result<MQTTPacket, any Error>) {
        guard let question = self.questions.removeValue(forKey: id) else { return }
        question.timer.cancel()
        question.promise.completeWith(result)
    }

    private func fail(_ error: any Error) {
        for id in Array(self.questions.keys) { self.answer(id, .failure(error)) }
        self.mailbox.fail(error)
    }
}
