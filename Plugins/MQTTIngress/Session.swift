import NIOCore
import NodeKit
import OTA

/// What one connection is allowed to do and has to be told: the protocol's rules, without sockets, clocks and tasks.
///
/// Every event returns what is to be done about it, in order. The connection does it and reports what became of it.
///
/// Requests of a device wait in a queue and are taken one after another by ``nextRequest()``, so that answers come in the
/// order of the requests.
struct Session {
    /// What the connection is to do.
    enum Action: Hashable, Sendable {
        /// Send a packet.
        case send(Packet)
        /// Find out whose credentials these are, and report by ``authenticated(_:)`` or ``refused(_:explanation:)``.
        case authenticate(ConnectPacket)
        /// Take requests by ``nextRequest()`` until there are none.
        case work
        /// Close the connection once all is sent; `explanation` is worth logging if it is there.
        case close(explanation: String?)
        /// Something was dropped that the peer is not told of.
        case note(String)
    }

    /// A message of the device that waits for its turn.
    struct Request: Hashable, Sendable {
        /// How it is to be acknowledged.
        var qos: QoS
        var packetId: UInt16?
        var topic: DeviceTopic
        var payload: ByteBuffer
    }

    /// Where the connection stands.
    private enum Phase {
        case awaitingConnect
        /// CONNECT is being checked; packets that came since wait.
        case authenticating(ConnectPacket, early: [Packet])
        case connected
        case closed
    }

    private let limits: Limits
    private var phase = Phase.awaitingConnect
    /// How packets are written; known from CONNECT on.
    private(set) var version = ProtocolVersion.v3_1_1
    /// Seconds of silence after which the client counts as gone, before the factor of 1.5; 0 means never.
    private(set) var keepAliveSeconds: UInt16 = 0
    private var clientPacketBytesMax = Int.max

    private var subscriptions: [(filter: TopicFilter, qos: QoS)] = []

    private var requests = CircularBuffer<Request>()
    /// Whether someone takes requests; at most one does.
    private var isWorking = false
    /// The request that was taken last and is not acknowledged yet.
    private var current: Request?
    /// Messages of QoS 1 and 2 that are not fully acknowledged to the client.
    private var unacknowledged = 0
    /// Identifiers of QoS 2 messages for which PUBREL has not come (MQTT 5 §4.3.3).
    private var unreleased: Set<UInt16> = []

    /// Identifiers of messages to the client for which PUBACK has not come.
    ///
    /// Messages are not kept: they are never sent again within a session, because a client that appends what it gets
    /// would spoil its image with a repetition.
    private var inFlight: Set<UInt16> = []
    private var inFlightMax: Int
    private var lastPacketId: UInt16 = 0
    /// Messages that wait for room in the window.
    private var waiting = CircularBuffer<PublishPacket>()
    /// Whether the request under way cannot be answered before the client acknowledges something.
    private var isBlockedByWindow = false

    init(limits: Limits) {
        self.limits = limits
        self.inFlightMax = limits.inFlightMax
    }

    /// Whether more packets are to be read.
    ///
    /// While an answer waits for a PUBACK, reading goes on, or it would wait for ever.
    var isReadingWanted: Bool {
        switch self.phase {
        case .awaitingConnect: true
        case .authenticating, .closed: false
        case .connected: self.isBlockedByWindow || self.requests.count < self.limits.requestsMax
        }
    }

    var isConnected: Bool {
        if case .connected = self.phase { true } else { false }
    }

    var isClosed: Bool {
        if case .closed = self.phase { true } else { false }
    }

    /// Whether no request waits or is under way.
    var isIdle: Bool { self.requests.isEmpty && !self.isWorking }

    // MARK: Packets

    /// A packet came.
    mutating func received(_ packet: Packet) -> [Action] {
        switch self.phase {
        case .closed: return []
        case .awaitingConnect:
            guard case .connect(let connect) = packet else {
                return self.end(.protocolError, "the first packet is not CONNECT")
            }
            return self.connect(connect)
        case .authenticating(let connect, var early):
            guard early.count < self.limits.requestsMax else {
                return self.end(.quotaExceeded, "too many packets before the connection was accepted")
            }
            early.append(packet)
            self.phase = .authenticating(connect, early: early)
            return []
        case .connected: return self.receivedConnected(packet)
        }
    }

    private mutating func receivedConnected(_ packet: Packet) -> [Action] {
        switch packet {
        case .publish(let publish): return self.publish(publish)
        case .puback(let acknowledgement):
            guard self.inFlight.remove(acknowledgement.packetId) != nil else { return [] }
            return self.sendWaiting()
        case .pubrel(let release):
            let isKnown = self.unreleased.remove(release.packetId) != nil
            if isKnown { self.unacknowledged -= 1 }
            let reason = isKnown ? ReasonCode.success : .packetIdentifierNotFound
            return [.send(.pubcomp(AcknowledgementPacket(packetId: release.packetId, reason: reason)))]
        case .subscribe(let subscribe): return self.subscribe(subscribe)
        case .unsubscribe(let unsubscribe): return self.unsubscribe(unsubscribe)
        case .pingreq: return [.send(.pingresp)]
        case .disconnect:
            self.phase = .closed
            return [.close(explanation: nil)]
        case .connect: return self.end(.protocolError, "a second CONNECT came")
        case .connack, .suback, .unsuback, .pingresp, .pubrec, .pubcomp, .auth:
            return self.end(.protocolError, "a packet came that a client has no reason to send here")
        }
    }

    /// Bytes came that are no packet.
    mutating func received(_ error: PacketError) -> [Action] {
        if case .awaitingConnect = self.phase, let version = error.version {
            self.version = version
            let code = ConnackPacket.ReturnCode.unacceptableProtocolVersion.rawValue
            return self.refuse(code: version == .v5 ? error.reason.rawValue : code, explanation: error.explanation)
        }
        return self.end(error.reason, error.explanation)
    }

    // MARK: Connecting

    private mutating func connect(_ connect: ConnectPacket) -> [Action] {
        self.version = connect.version
        // MQTT 3.1.1 §3.1.3.1: without identifier the session must be clean. MQTT 3.1 requires an identifier.
        if connect.clientId.isEmpty, connect.version == .v3_1 || (connect.version == .v3_1_1 && !connect.isClean) {
            return self.refused(.clientIdentifierNotValid, explanation: "the client identifier is empty")
        }
        if connect.properties[.authenticationMethod] != nil {
            return self.refused(.badAuthenticationMethod, explanation: "there is no extended authentication here")
        }
        self.phase = .authenticating(connect, early: [])
        return [.authenticate(connect)]
    }

    /// The credentials are those of a device.
    ///
    /// - Parameter assignedClientId: The identifier for a client that has none.
    /// - Returns: The acceptance, and what the packets that waited lead to.
    mutating func authenticated(assignedClientId: @autoclosure () -> String) -> [Action] {
        guard case .authenticating(let connect, let early) = self.phase else { return [] }
        self.phase = .connected
        self.keepAliveSeconds = connect.keepAlive
        // No state outlives a connection, so a session is never present (MQTT 5 §3.2.2.1.1).
        var connack = ConnackPacket(code: ReasonCode.success.rawValue)
        if connect.version == .v5 {
            self.takeLimits(of: connect.properties)
            connack.properties = self.offer(to: connect)
            if connect.clientId.isEmpty {
                connack.properties.append(.assignedClientIdentifier, .text(assignedClientId()))
            }
        }
        var actions: [Action] = [.send(.connack(connack))]
        for packet in early { actions += self.received(packet) }
        return actions
    }

    private mutating func takeLimits(of properties: Properties) {
        if let maximum = properties.number(.maximumPacketSize) { self.clientPacketBytesMax = maximum }
        if let maximum = properties.number(.receiveMaximum) { self.inFlightMax = min(self.inFlightMax, maximum) }
    }

    /// The properties of a CONNACK (MQTT 5 §3.2.2.3).
    ///
    /// Wildcards are available and topic aliases are not, which is what their absence says. Retained messages and wills
    /// are announced as not available, but those that come are taken and ignored.
    private mutating func offer(to connect: ConnectPacket) -> Properties {
        var properties: Properties = [
            (.receiveMaximum, .twoBytes(UInt16(clamping: self.limits.requestsMax))),
            (.retainAvailable, .byte(0)),
            (.maximumPacketSize, .fourBytes(UInt32(clamping: self.limits.packetBytesMax))),
            (.subscriptionIdentifierAvailable, .byte(0)),
            (.sharedSubscriptionAvailable, .byte(0)),
        ]
        if connect.properties.number(.sessionExpiryInterval) ?? 0 > 0 {
            properties.append(.sessionExpiryInterval, .fourBytes(0))
        }
        if connect.keepAlive == 0 || connect.keepAlive > self.limits.keepAliveSecondsMax {
            self.keepAliveSeconds = self.limits.keepAliveSecondsMax
            properties.append(.serverKeepAlive, .twoBytes(self.keepAliveSeconds))
        }
        return properties
    }

    /// The credentials are nobody's, or could not be checked.
    mutating func refused(_ reason: ReasonCode, explanation: String) -> [Action] {
        let code: ConnackPacket.ReturnCode =
            switch reason {
            case .clientIdentifierNotValid: .identifierRejected
            case .serverUnavailable: .serverUnavailable
            default: .notAuthorized
            }
        return self.refuse(code: self.version == .v5 ? reason.rawValue : code.rawValue, explanation: explanation)
    }

    private mutating func refuse(code: UInt8, explanation: String) -> [Action] {
        guard !self.isClosed else { return [] }
        self.phase = .closed
        return [.send(.connack(ConnackPacket(code: code))), .close(explanation: explanation)]
    }

    // MARK: Ending

    /// Ends the session on the server's part.
    ///
    /// A client of MQTT 5 is told why.
    mutating func end(_ reason: ReasonCode, _ explanation: String?) -> [Action] {
        guard !self.isClosed else { return [] }
        let isTold = self.isConnected && self.version == .v5
        self.phase = .closed
        self.requests.removeAll()
        self.waiting.removeAll()
        let close = Action.close(explanation: explanation)
        guard isTold else { return [close] }
        return [.send(.disconnect(.farewell(reason, explanation, bytesMax: self.clientPacketBytesMax))), close]
    }

    /// The connection is gone.
    ///
    /// What a device sent before it left is still carried out.
    mutating func closed() { self.phase = .closed }

    // MARK: Requests

    private mutating func publish(_ publish: PublishPacket) -> [Action] {
        guard publish.properties[.topicAlias] == nil else {
            return self.end(.topicAliasInvalid, "a topic alias came, though none was allowed")
        }
        guard !publish.topic.isEmpty else { return self.end(.protocolError, "a message came without topic") }
        if publish.qos == .exactlyOnce, let packetId = publish.packetId {
            // MQTT 5 §4.3.3: until PUBREL, the same identifier is the same message; its answer is on the way or is repeated.
            guard self.unreleased.insert(packetId).inserted else {
                let isUnderWay = ([self.current].compactMap(\.self) + self.requests).contains {
                    $0.packetId == packetId && $0.qos == .exactlyOnce
                }
                return isUnderWay ? [] : [.send(.pubrec(AcknowledgementPacket(packetId: packetId)))]
            }
        }
        if publish.qos != .atMostOnce {
            self.unacknowledged += 1
            // In MQTT 3.1.1 there is no such limit; what bounds the queue is that reading stops.
            if self.version == .v5, self.unacknowledged > self.limits.requestsMax {
                return self.end(.receiveMaximumExceeded, "more messages came at once than Receive Maximum allows")
            }
        }
        if self.isBlockedByWindow, self.requests.count >= self.limits.requestsMax {
            return self.end(.quotaExceeded, "requests came without end, but no acknowledgement of what was sent")
        }
        self.requests.append(
            Request(
                qos: publish.qos,
                packetId: publish.packetId,
                topic: DeviceTopic(publish.topic),
                payload: publish.payload
            )
        )
        guard !self.isWorking else { return [] }
        self.isWorking = true
        return [.work]
    }

    /// The next request to work on; `nil` ends the work that ``Action/work`` began.
    ///
    /// Of a client that left, only what it reported is still of use, not what it asked for.
    mutating func nextRequest() -> Request? {
        while let request = self.requests.popFirst() {
            guard !self.isClosed || request.topic.isReport else { continue }
            self.current = request
            return request
        }
        self.isWorking = false
        return nil
    }

    /// A request is done, well or not; what it asked for follows by ``publish(to:payload:)``.
    ///
    /// MQTT 3.1.1 cannot say that something failed: the connection is closed without acknowledging, as ThingsBoard does. An
    /// unknown topic is acknowledged and ignored. A message of QoS 0 is not missed by anyone.
    mutating func acknowledge(_ request: Request, _ reason: ReasonCode, explanation: String? = nil) -> [Action] {
        self.current = nil
        guard self.isConnected else { return [] }
        guard let packetId = request.packetId else {
            return explanation.map { [.note($0)] } ?? []
        }
        if self.version != .v5, reason.isFailure, reason != .topicNameInvalid {
            return self.end(reason, explanation)
        }
        var acknowledgement = AcknowledgementPacket(packetId: packetId)
        if self.version == .v5 { acknowledgement.reason = reason }
        var actions: [Action] = explanation.map { [.note($0)] } ?? []
        if request.qos == .exactlyOnce {
            if acknowledgement.reason.isFailure {
                // MQTT 5 §4.3.3: a PUBREC with a failure ends the exchange.
                self.unreleased.remove(packetId)
                self.unacknowledged -= 1
            }
            actions.append(.send(.pubrec(acknowledgement)))
        } else {
            self.unacknowledged -= 1
            actions.append(.send(.puback(acknowledgement)))
        }
        return actions
    }

    // MARK: Messages to the client

    /// Whether an answer on a topic can be sent now; if not, wait until an acknowledgement came.
    mutating func canPublish(to topic: String) -> Bool {
        let canPublish = !self.isConnected || self.qos(for: topic) == .atMostOnce || self.hasRoom
        self.isBlockedByWindow = !canPublish
        return canPublish
    }

    private var hasRoom: Bool { self.waiting.isEmpty && self.inFlight.count < self.inFlightMax }

    /// An answer on a topic, whether or not the client subscribed to it; ask ``canPublish(to:)`` before.
    ///
    /// - Returns: The packet without its payload, or `nil` if it is over the client's Maximum Packet Size (MQTT 5 §3.1.2.11.4)
    ///   or over what MQTT can carry.
    mutating func answer(to topic: String, payloadSize: Int) -> PublishPacket? {
        var packet = PublishPacket(qos: self.qos(for: topic), topic: topic, payload: ByteBuffer())
        packet.packetId = packet.qos == .atMostOnce ? nil : 1
        guard let size = packet.size(version: self.version, payloadSize: payloadSize), size <= self.clientPacketBytesMax
        else {
            return nil
        }
        if packet.qos != .atMostOnce { packet.packetId = self.takePacketId() }
        return packet
    }

    /// Something happened that the device may want to know.
    mutating func notified(_ notification: DeviceNotification) -> [Action] {
        if notification == .credentialsRevoked, case .authenticating = self.phase {
            return self.refused(.notAuthorized, explanation: "the credentials changed while they were checked")
        }
        guard self.isConnected else { return [] }
        switch notification {
        case .attributesUpdated(let values):
            guard !values.isEmpty else { return [] }
            return self.push(JSON.object(values)) { $0.attributes }
        case .attributesDeleted(let names):
            guard !names.isEmpty else { return [] }
            return self.push(["deleted": .array(names.map(JSON.string))]) { $0.attributes }
        case .rpcRequest(let id, let method, let params):
            return self.push(["method": .string(method), "params": params]) { $0.rpcRequest(id) }
        case .credentialsRevoked:
            return self.end(.administrativeAction, "the device was removed or its credentials changed")
        }
    }

    /// Sends a message on the first of the three forms of its topic that the client subscribed to, if any.
    private mutating func push(_ message: JSON, on topic: (DeviceTopic.Family) -> String) -> [Action] {
        for topic in DeviceTopic.Family.allCases.map(topic) {
            guard let qos = self.subscribedQoS(for: topic) else { continue }
            var packet = PublishPacket(qos: qos, topic: topic, payload: message.bytes)
            packet.packetId = qos == .atMostOnce ? nil : 1
            let size = packet.size(version: self.version, payloadSize: packet.payload.readableBytes)
            guard let size, size <= self.clientPacketBytesMax else {
                return [.note("a message to the client is larger than it accepts")]
            }
            if qos == .atMostOnce { return [.send(.publish(packet))] }
            if self.hasRoom {
                packet.packetId = self.takePacketId()
                return [.send(.publish(packet))]
            }
            guard self.waiting.count < Limits.waitingMax else {
                return self.end(.quotaExceeded, "the client does not acknowledge what was sent to it")
            }
            self.waiting.append(packet)
            return []
        }
        return []
    }

    private mutating func sendWaiting() -> [Action] {
        var actions: [Action] = []
        while self.inFlight.count < self.inFlightMax, var packet = self.waiting.popFirst() {
            packet.packetId = self.takePacketId()
            actions.append(.send(.publish(packet)))
        }
        return actions
    }

    private mutating func takePacketId() -> UInt16 {
        // The window is smaller than the numbers there are, so a free one is found.
        repeat {
            self.lastPacketId = self.lastPacketId == .max ? 1 : self.lastPacketId + 1
        } while self.inFlight.contains(
            self.lastPacketId
        )
        self.inFlight.insert(self.lastPacketId)
        return self.lastPacketId
    }

    /// The QoS of an answer: that of a subscription to its topic, else 1.
    private func qos(for topic: String) -> QoS { self.subscribedQoS(for: topic) ?? .atLeastOnce }

    /// The highest QoS granted to a subscription that matches a topic (MQTT 5 §3.3.4); `nil` if none matches.
    private func subscribedQoS(for topic: String) -> QoS? {
        var highest: QoS?
        for subscription in self.subscriptions where subscription.filter.matches(topic) {
            highest = max(highest ?? .atMostOnce, subscription.qos)
        }
        return highest
    }

    // MARK: Subscriptions

    private mutating func subscribe(_ packet: SubscribePacket) -> [Action] {
        let hasIdentifier = packet.properties[.subscriptionIdentifier] != nil
        let codes = packet.subscriptions.map { subscription in
            switch self.subscribe(subscription, hasIdentifier: hasIdentifier) {
            case .success(let qos): qos.rawValue
            // MQTT 3.1.1 §3.9.3 knows one code for failure.
            case .failure(let error):
                self.version == .v5 ? error.reason.rawValue : ReasonCode.unspecifiedError.rawValue
            }
        }
        return [.send(.suback(SubscriptionAnswerPacket(packetId: packet.packetId, codes: codes)))]
    }

    private mutating func subscribe(
        _ subscription: SubscribePacket.Subscription,
        hasIdentifier: Bool
    ) -> Result<QoS, PacketError> {
        guard !hasIdentifier else {
            return .failure(PacketError(.subscriptionIdentifiersNotSupported, "no subscription identifiers"))
        }
        guard let filter = TopicFilter(subscription.filter) else {
            return .failure(PacketError(.topicFilterInvalid, "a wildcard is not alone in its level"))
        }
        if self.version == .v5, filter.isShared {
            return .failure(PacketError(.sharedSubscriptionsNotSupported, "no shared subscriptions"))
        }
        let qos = min(subscription.qos, .atLeastOnce)
        if let index = self.subscriptions.firstIndex(where: { $0.filter == filter }) {
            self.subscriptions[index].qos = qos
        } else {
            guard self.subscriptions.count < Limits.subscriptionsMax else {
                return .failure(PacketError(.quotaExceeded, "too many subscriptions"))
            }
            self.subscriptions.append((filter, qos))
        }
        return .success(qos)
    }

    private mutating func unsubscribe(_ packet: UnsubscribePacket) -> [Action] {
        var codes: [UInt8] = []
        for text in packet.filters {
            guard let filter = TopicFilter(text) else {
                codes.append(ReasonCode.topicFilterInvalid.rawValue)
                continue
            }
            let index = self.subscriptions.firstIndex { $0.filter == filter }
            if let index { self.subscriptions.remove(at: index) }
            codes.append((index == nil ? ReasonCode.noSubscriptionExisted : .success).rawValue)
        }
        // MQTT 3.1.1 §3.11: UNSUBACK has no payload.
        if self.version != .v5 { codes = [] }
        return [.send(.unsuback(SubscriptionAnswerPacket(packetId: packet.packetId, codes: codes)))]
    }
}
