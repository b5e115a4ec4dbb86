import NIOCore
import NodeKit
import OTA

extension Session {
    /// Whether an answer on a topic can be sent now; if not, wait until an acknowledgement came.
    mutating func canPublish(to topic: String) -> Bool {
        let canPublish = !self.isConnected || self.hasRoom || self.qos(for: topic) == .atMostOnce
        self.isBlockedByWindow = !canPublish
        return canPublish
    }

    private var hasRoom: Bool { self.state.waiting.isEmpty && self.state.inFlight.count < self.inFlightMax }

    /// An answer on a topic, whether or not the client subscribed to it; ask ``canPublish(to:)`` before.
    ///
    /// - Returns: The packet without its payload, or `nil` if it is over the client's Maximum Packet Size (MQTT 5 §3.1.2.11.4)
    ///   or over what MQTT can carry.
    mutating func answer(to topic: String, payloadSize: Int) -> PublishPacket? {
        var packet = PublishPacket(qos: self.qos(for: topic), topic: topic, payload: ByteBuffer())
        guard self.fits(packet, payloadSize: payloadSize) else { return nil }
        if packet.qos != .atMostOnce {
            packet.packetId = self.state.takePacketId()
            self.state.inFlight.append(SessionState.InFlight(packetId: self.state.lastPacketId))
        }
        return packet
    }

    /// An answer that was sent just now may be sent again on another connection of the session.
    mutating func remember(_ packet: PublishPacket) {
        guard self.expirySeconds > 0,
            let index = self.state.inFlight.lastIndex(where: { $0.packetId == packet.packetId })
        else { return }
        self.state.inFlight[index].packet = packet
        if self.state.keptBytes > self.limits.keptBytesMax { self.state.inFlight[index].packet = nil }
    }

    /// Something happened that the device may want to know.
    ///
    /// What comes between the end of the connection and that of its last request is kept, if the session is.
    mutating func notified(_ notification: DeviceNotification) -> [Action] {
        if notification == .credentialsRevoked {
            if case .authenticating = self.phase {
                return self.refused(.notAuthorized, explanation: "the credentials changed while they were checked")
            }
            guard self.isConnected else { return [] }
            return self.end(.administrativeAction, "the device was removed or its credentials changed")
        }
        guard let packet = self.state.message(for: notification) else { return [] }
        if self.isConnected { return self.push(packet) }
        if self.isClosed, self.expirySeconds > 0 { self.state.keep(packet, limits: self.limits) }
        return []
    }

    private mutating func push(_ packet: PublishPacket) -> [Action] {
        guard self.fits(packet, payloadSize: packet.payload.readableBytes) else { return [Self.tooLarge] }
        if packet.qos == .atMostOnce { return [.send(.publish(packet))] }
        guard self.hasRoom else {
            guard self.state.waiting.count < Limits.waitingMax else {
                return self.end(.quotaExceeded, "the client does not acknowledge what was sent to it")
            }
            self.state.waiting.append(packet)
            return []
        }
        return [self.send(packet)]
    }

    private static let tooLarge = Action.note("a message to the client is larger than it accepts")

    private mutating func send(_ packet: PublishPacket) -> Action {
        var packet = packet
        let packetId = packet.packetId ?? self.state.takePacketId()
        packet.packetId = packetId
        self.state.inFlight.append(SessionState.InFlight(packetId: packetId))
        self.remember(packet)
        return .send(.publish(packet))
    }

    mutating func acknowledged(_ acknowledgement: AcknowledgementPacket) -> [Action] {
        guard let index = self.state.inFlight.firstIndex(where: { $0.packetId == acknowledgement.packetId }) else {
            return []
        }
        self.state.inFlight.remove(at: index)
        return self.sendWaiting()
    }

    mutating func sendWaiting() -> [Action] {
        var actions: [Action] = []
        while self.state.inFlight.count < self.inFlightMax, let packet = self.state.waiting.popFirst() {
            // The client may accept less than on the connection that the message waited for.
            let fits = self.fits(packet, payloadSize: packet.payload.readableBytes)
            actions.append(fits ? self.send(packet) : Self.tooLarge)
        }
        return actions
    }

    private func fits(_ packet: PublishPacket, payloadSize: Int) -> Bool {
        guard let size = packet.size(version: self.version, payloadSize: payloadSize) else { return false }
        return size <= self.clientPacketBytesMax
    }

    /// The QoS of an answer: that of a subscription to its topic, else 1.
    private func qos(for topic: String) -> QoS { self.state.subscribedQoS(for: topic) ?? .atLeastOnce }
}
