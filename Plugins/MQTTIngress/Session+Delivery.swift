import NIOCore
import NodeKit
import OTA

extension Session {
    /// Whether an answer on a topic can be sent now; if not, wait until an acknowledgement came.
    mutating func canPublish(to topic: String) -> Bool {
        let canPublish = !self.isConnected || self.qos(for: topic) == .atMostOnce || self.hasRoom
        self.isBlockedByWindow = !canPublish
        return canPublish
    }

    var hasRoom: Bool { self.waiting.isEmpty && self.inFlight.count < self.inFlightMax }

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
    mutating func push(_ message: JSON, on topic: (DeviceTopic.Family) -> String) -> [Action] {
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

    mutating func sendWaiting() -> [Action] {
        var actions: [Action] = []
        while self.inFlight.count < self.inFlightMax, var packet = self.waiting.popFirst() {
            packet.packetId = self.takePacketId()
            actions.append(.send(.publish(packet)))
        }
        return actions
    }

    mutating func takePacketId() -> UInt16 {
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
    func qos(for topic: String) -> QoS { self.subscribedQoS(for: topic) ?? .atLeastOnce }

    /// The highest QoS granted to a subscription that matches a topic (MQTT 5 §3.3.4); `nil` if none matches.
    func subscribedQoS(for topic: String) -> QoS? {
        var highest: QoS?
        for subscription in self.subscriptions where subscription.filter.matches(topic) {
            highest = max(highest ?? .atMostOnce, subscription.qos)
        }
        return highest
    }
}
