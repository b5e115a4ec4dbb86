import IngressKit
import NIOCore
import NodeKit
import OTA

/// What of a session may outlive its connection (MQTT 5 §4.1): what the client subscribed to, and what it has not acknowledged.
struct SessionState: Sendable {
    /// A filter with the QoS that was granted.
    struct Subscription: Sendable {
        var filter: TopicFilter
        var qos: QoS
    }

    /// A message to the client for which PUBACK has not come.
    struct InFlight: Sendable {
        var packetId: UInt16
        /// The message, if it is to be sent again on another connection.
        ///
        /// Within a connection nothing is ever sent again, and a chunk of a package not on another one either, because a
        /// client that appends what it gets would spoil its image with a repetition; it asks again.
        var packet: PublishPacket?
    }

    var subscriptions: [Subscription] = []
    /// Where the client is told of attributes rather than on the usual topics, if its profile says so.
    var updatesTopic: String?
    var inFlight: [InFlight] = []
    /// Messages that wait for room in the window, or for the client to come back.
    var waiting = Queue<PublishPacket>()
    var lastPacketId: UInt16 = 0
    /// Identifiers of QoS 2 messages of the client for which PUBREL has not come (MQTT 5 §4.3.3).
    var unreleased: Set<UInt16> = []

    /// The highest QoS granted to a subscription that matches a topic (MQTT 5 §3.3.4); `nil` if none matches.
    func subscribedQoS(for topic: String) -> QoS? {
        var highest: QoS?
        for subscription in self.subscriptions where subscription.filter.matches(topic) {
            highest = max(highest ?? .atMostOnce, subscription.qos)
        }
        return highest
    }

    /// The message that tells the client what happened, on the first of its topics that it subscribed to: that of the profile,
    /// then the three usual forms; `nil` if it subscribed to none.
    func message(for notification: DeviceNotification) -> PublishPacket? {
        switch notification {
        case .attributesUpdated(let values):
            values.isEmpty ? nil : self.message(JSON.object(values), on: self.attributesTopics)
        case .attributesDeleted(let names):
            names.isEmpty
                ? nil : self.message(DeviceProtocol.attributesDeleted(names), on: self.attributesTopics)
        case .rpcRequest(let id, let method, let params):
            self.message(
                DeviceProtocol.call(id: nil, method: method, params: params),
                on: DeviceTopic.Family.allCases.map { $0.rpcRequest(id) }
            )
        case .credentialsRevoked: nil
        }
    }

    /// Whether the client subscribed to calls of the server.
    var takesCalls: Bool {
        DeviceTopic.Family.allCases.contains { self.subscribedQoS(for: $0.rpcRequest(0)) != nil }
    }

    /// Whether the client subscribed to shared attributes that change.
    var takesAttributes: Bool { self.attributesTopics.contains { self.subscribedQoS(for: $0) != nil } }

    private var attributesTopics: [String] {
        (self.updatesTopic.map { [$0] } ?? []) + DeviceTopic.Family.allCases.map(\.attributes)
    }

    private func message(_ message: JSON, on topics: [String]) -> PublishPacket? {
        for topic in topics {
            guard let qos = self.subscribedQoS(for: topic) else { continue }
            return PublishPacket(qos: qos, topic: topic, payload: message.bytes)
        }
        return nil
    }

    /// Keeps a message until the client is back; the oldest make room for it.
    ///
    /// A message of QoS 0 is not kept (MQTT 5 §4.1 leaves that open).
    ///
    /// - Returns: Whether it is kept.
    @discardableResult
    mutating func keep(_ packet: PublishPacket, limits: Limits) -> Bool {
        guard packet.qos != .atMostOnce, packet.keptBytes <= limits.keptBytesMax else { return false }
        self.waiting.append(packet)
        while self.waiting.count > limits.keptMessagesMax || self.keptBytes > limits.keptBytesMax {
            guard self.waiting.popFirst() != nil else { break }
        }
        return true
    }

    /// Bytes of the messages that wait for the client to come back or to acknowledge.
    var keptBytes: Int {
        self.inFlight.reduce(0) { $0 + ($1.packet?.keptBytes ?? 0) }
            + self.waiting.waiting.reduce(0) { $0 + $1.keptBytes }
    }

    /// What was sent and not acknowledged is sent again, marked as such and with its identifier, before all that waits
    /// (MQTT 5 §4.4).
    mutating func resume() {
        let again = self.inFlight.compactMap { inFlight in
            inFlight.packet.map { packet in
                var packet = packet
                packet.packetId = inFlight.packetId
                packet.isDuplicate = true
                return packet
            }
        }
        self.inFlight = []
        self.waiting.prepend(again)
    }

    /// A packet identifier that is not in use.
    mutating func takePacketId() -> UInt16 {
        // The window is smaller than the numbers there are, so a free one is found.
        repeat {
            self.lastPacketId = self.lastPacketId == .max ? 1 : self.lastPacketId + 1
        } while self.isInUse(self.lastPacketId)
        return self.lastPacketId
    }

    private func isInUse(_ packetId: UInt16) -> Bool {
        for message in self.inFlight where message.packetId == packetId { return true }
        // Nearly always so, and all that is left to look at then.
        if self.waiting.isEmpty { return false }
        return self.waiting.waiting.contains { $0.packetId == packetId }
    }
}

extension PublishPacket {
    /// About how many bytes of memory the message takes.
    fileprivate var keptBytes: Int { self.topic.utf8.count + self.payload.readableBytes + MemoryLayout<Self>.size }
}
