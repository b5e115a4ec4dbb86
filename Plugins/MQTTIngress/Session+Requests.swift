import NIOCore

extension Session {
    mutating func publish(_ publish: PublishPacket) -> [Action] {
        let topic: String
        switch self.topic(of: publish) {
        case .success(let name): topic = name
        case .failure(let error): return self.end(error.reason, error.explanation)
        }
        if publish.qos == .exactlyOnce, let packetId = publish.packetId {
            // MQTT 5 §4.3.3: until PUBREL, the same identifier is the same message; its answer is on the way or is repeated.
            guard self.state.unreleased.insert(packetId).inserted else {
                let isWaiting = self.requests.waiting.contains { $0.packetId == packetId && $0.qos == .exactlyOnce }
                return isWaiting || self.current == packetId
                    ? [] : [.send(.pubrec(AcknowledgementPacket(packetId: packetId)))]
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
                topic: self.profileTopics?.meaning(of: topic) ?? DeviceTopic(topic),
                topicName: self.profileTopics == nil ? nil : topic,
                payload: publish.payload
            )
        )
        return self.startWork()
    }

    /// The topic of a message, which may be said by its alias (MQTT 5 §3.3.2.3.4).
    private mutating func topic(of publish: PublishPacket) -> Result<String, PacketError> {
        guard let alias = publish.properties.number(.topicAlias) else {
            return publish.topic.isEmpty
                ? .failure(PacketError(.protocolError, "a message came without topic")) : .success(publish.topic)
        }
        guard (1...Int(Limits.topicAliasesMax)).contains(alias) else {
            return .failure(
                PacketError(.topicAliasInvalid, "the topic alias \(alias) is not one of 1 to \(Limits.topicAliasesMax)")
            )
        }
        if publish.topic.isEmpty {
            guard alias <= self.topicAliases.count, !self.topicAliases[alias - 1].isEmpty else {
                return .failure(PacketError(.protocolError, "the topic alias \(alias) stands for no topic yet"))
            }
            return .success(self.topicAliases[alias - 1])
        }
        while self.topicAliases.count < alias { self.topicAliases.append("") }
        self.topicAliases[alias - 1] = publish.topic
        return .success(publish.topic)
    }

    mutating func release(_ release: AcknowledgementPacket) -> [Action] {
        let isKnown = self.state.unreleased.remove(release.packetId) != nil
        // One that an earlier connection left takes no place among those of this one.
        if isKnown, self.unacknowledged > 0 { self.unacknowledged -= 1 }
        let reason = isKnown ? ReasonCode.success : .packetIdentifierNotFound
        return [.send(.pubcomp(AcknowledgementPacket(packetId: release.packetId, reason: reason)))]
    }

    mutating func startWork() -> [Action] {
        guard !self.isWorking else { return [] }
        self.isWorking = true
        return Self.work
    }

    /// Made once, since nearly every message leads to it.
    private static let work = [Action.work]

    /// The next request to work on; `nil` ends the work that ``Action/work`` began.
    ///
    /// Of a client that left, only what it reported is still of use, not what it asked for.
    mutating func nextRequest() -> Request? {
        while let request = self.requests.popFirst() {
            guard !self.isClosed || request.topic.isReport else {
                self.forget(request)
                continue
            }
            self.current = request.qos == .exactlyOnce ? request.packetId : nil
            return request
        }
        self.isWorking = false
        return nil
    }

    mutating func dropRequests() {
        for request in self.requests.waiting { self.forget(request) }
        self.requests.removeAll()
    }

    /// A request is not carried out; if it comes again on another connection, it is new.
    private mutating func forget(_ request: Request) {
        if request.qos == .exactlyOnce, let packetId = request.packetId { self.state.unreleased.remove(packetId) }
    }

    /// A request is done, well or not; what it asked for follows by ``publish(to:payload:)``.
    ///
    /// MQTT 3.1.1 cannot say that something failed: the connection is closed without acknowledging, as ThingsBoard does,
    /// unless the failure is one that a client need not know of. A message of QoS 0 is not missed by anyone.
    mutating func acknowledge(_ request: Request, _ outcome: Answer.Outcome) -> [Action] {
        self.current = nil
        let reason = outcome.reason
        let isAccepted = self.version != .v5 && outcome.isTolerable
        if reason.isFailure, !isAccepted { self.forget(request) }
        guard self.isConnected else { return [] }
        guard let packetId = request.packetId else { return outcome.explanation.map { [.note($0)] } ?? [] }
        if self.version != .v5, reason.isFailure, !isAccepted {
            return self.end(reason, outcome.explanation)
        }
        var acknowledgement = AcknowledgementPacket(packetId: packetId)
        if self.version == .v5 { acknowledgement.reason = reason }
        let send: Action
        if request.qos == .exactlyOnce {
            // MQTT 5 §4.3.3: a PUBREC with a failure ends the exchange.
            if acknowledgement.reason.isFailure { self.unacknowledged -= 1 }
            send = .send(self.explained(acknowledgement, outcome.told) { .pubrec($0) })
        } else {
            self.unacknowledged -= 1
            send = .send(self.explained(acknowledgement, outcome.told) { .puback($0) })
        }
        guard let explanation = outcome.explanation else { return [send] }
        return [.note(explanation), send]
    }

    /// The packet with words for people, if the client takes them (MQTT 5 §3.1.2.11.7 and §3.4.2.2.2).
    private func explained(
        _ acknowledgement: AcknowledgementPacket,
        _ words: String?,
        _ packet: (AcknowledgementPacket) -> Packet
    ) -> Packet {
        guard let words, self.version == .v5, self.wantsProblemInformation, acknowledgement.reason.isFailure else {
            return packet(acknowledgement)
        }
        var long = acknowledgement
        long.properties = .reason(words)
        return self.fits(packet(long)) ? packet(long) : packet(acknowledgement)
    }
}
