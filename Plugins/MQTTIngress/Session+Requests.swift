import NIOCore

extension Session {
    mutating func publish(_ publish: PublishPacket) -> [Action] {
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
}
