import NIOCore

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
        /// Find out whose credentials these are, and report by ``authenticated(assignedClientId:resuming:)`` or
        /// ``refused(_:explanation:)``.
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
        /// The topic's name, if the device's profile has topics of its own.
        var topicName: String?
        var payload: ByteBuffer
    }

    /// Where the connection stands.
    enum Phase {
        case awaitingConnect
        /// CONNECT is being checked; packets that came since wait.
        indirect case authenticating(ConnectPacket, early: [Packet])
        case connected
        case closed
    }

    let limits: Limits
    var phase = Phase.awaitingConnect
    /// How packets are written; known from CONNECT on.
    var version = ProtocolVersion.v3_1_1
    /// Seconds of silence after which the client counts as gone, before the factor of 1.5; 0 means never.
    var keepAliveSeconds: UInt16 = 0
    var clientPacketBytesMax = Int.max
    /// Whether failures may be told in words (MQTT 5 §3.1.2.11.7).
    var wantsProblemInformation = true
    /// How long the session outlives the connection, in seconds; 0 means that it ends with it.
    var expirySeconds: UInt32 = 0
    /// The topics of the device's profile, if it has its own.
    var profileTopics: ProfileTopics?
    /// What the device wants to be published if it goes without a word.
    var will: Will?
    /// The topics that the client gave a number, by that number less one (MQTT 5 §3.3.2.3.4).
    var topicAliases: [String] = []

    /// What may outlive the connection.
    var state = SessionState()

    var requests = Queue<Request>()
    /// Whether someone takes requests; at most one does.
    var isWorking = false
    /// The identifier of the request that was taken last, while it is not acknowledged, if it has QoS 2.
    var current: UInt16?
    /// Messages of QoS 1 and 2 that are not fully acknowledged to the client.
    var unacknowledged = 0

    /// Messages of QoS 1 to the client that may be under way at once.
    var inFlightMax: Int
    /// Whether the request under way cannot be answered before the client acknowledges something.
    var isBlockedByWindow = false

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
        case .puback(let acknowledgement): return self.acknowledged(acknowledgement)
        case .pubrel(let release): return self.release(release)
        case .subscribe(let subscribe): return self.subscribe(subscribe)
        case .unsubscribe(let unsubscribe): return self.unsubscribe(unsubscribe)
        case .pingreq: return [.send(.pingresp)]
        case .disconnect(let disconnect): return self.disconnect(disconnect)
        case .connect: return self.end(.protocolError, "a second CONNECT came")
        case .connack, .suback, .unsuback, .pingresp, .pubrec, .pubcomp, .auth:
            return self.end(.protocolError, "a packet came that a client has no reason to send here")
        }
    }

    /// Bytes came that are no packet.
    mutating func received(_ error: PacketError) -> [Action] {
        if case .awaitingConnect = self.phase, let version = error.version {
            self.version = version
            self.phase = .closed
            let code = ConnackPacket.ReturnCode.unacceptableProtocolVersion.rawValue
            // Without words: what the client expects of a CONNACK beyond its code is not known.
            let connack = ConnackPacket(code: version == .v5 ? error.reason.rawValue : code)
            return [.send(.connack(connack)), .close(explanation: error.explanation)]
        }
        return self.end(error.reason, error.explanation)
    }

    // MARK: Ending

    private mutating func disconnect(_ packet: DisconnectPacket) -> [Action] {
        if let expiry = packet.properties.number(.sessionExpiryInterval) {
            // MQTT 5 §3.14.2.2.2: a session that was to end with its connection cannot be made to last.
            if self.expirySeconds == 0, expiry > 0 {
                return self.end(.protocolError, "DISCONNECT sets a session expiry where CONNECT set none")
            }
            self.expirySeconds = min(UInt32(clamping: expiry), self.limits.sessionExpirySecondsMax)
        }
        if packet.reason != .disconnectWithWill { self.will = nil }
        self.phase = .closed
        return [.close(explanation: nil)]
    }

    /// Ends the session on the server's part.
    ///
    /// A client of MQTT 5 is told why.
    mutating func end(_ reason: ReasonCode, _ explanation: String?) -> [Action] {
        guard !self.isClosed else { return [] }
        let isTold = self.isConnected && self.version == .v5
        self.phase = .closed
        self.dropRequests()
        switch reason {
        // When the server stops, or does not want the device any more, it has not gone.
        case .serverShuttingDown, .administrativeAction: self.will = nil
        default: break
        }
        let close = Action.close(explanation: explanation)
        guard isTold else { return [close] }
        return [.send(.disconnect(.farewell(reason, explanation, bytesMax: self.clientPacketBytesMax))), close]
    }

    /// The connection is gone.
    ///
    /// What a device sent before it left is still carried out, and after it its will, unless that may have to wait
    /// until the session ends.
    mutating func closed() -> [Action] {
        self.phase = .closed
        self.topicAliases = []
        guard let will = self.will, !self.isWillDelayed else { return [] }
        self.will = nil
        self.requests.append(will.request)
        return self.startWork()
    }
}
