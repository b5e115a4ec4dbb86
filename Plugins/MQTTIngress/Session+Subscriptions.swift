extension Session {
    mutating func subscribe(_ packet: SubscribePacket) -> [Action] {
        let hasIdentifier = packet.properties[.subscriptionIdentifier] != nil
        var problem: String?
        let codes = packet.subscriptions.map { subscription in
            switch self.subscribe(subscription, hasIdentifier: hasIdentifier) {
            case .success(let qos): return qos.rawValue
            case .failure(let error):
                problem = problem ?? error.explanation
                // MQTT 3.1.1 §3.9.3 knows one code for failure.
                return self.version == .v5 ? error.reason.rawValue : ReasonCode.unspecifiedError.rawValue
            }
        }
        var answer = SubscriptionAnswerPacket(packetId: packet.packetId, codes: codes)
        if let problem, self.version == .v5, self.wantsProblemInformation {
            answer.properties = .reason(problem)
            if !self.fits(.suback(answer)) { answer.properties = [] }
        }
        return [.send(.suback(answer))]
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
        if let index = self.state.subscriptions.firstIndex(where: { $0.filter == filter }) {
            self.state.subscriptions[index].qos = qos
        } else {
            guard self.state.subscriptions.count < Limits.subscriptionsMax else {
                return .failure(PacketError(.quotaExceeded, "too many subscriptions"))
            }
            self.state.subscriptions.append(SessionState.Subscription(filter: filter, qos: qos))
        }
        return .success(qos)
    }

    mutating func unsubscribe(_ packet: UnsubscribePacket) -> [Action] {
        var codes: [UInt8] = []
        for text in packet.filters {
            guard let filter = TopicFilter(text) else {
                codes.append(ReasonCode.topicFilterInvalid.rawValue)
                continue
            }
            let index = self.state.subscriptions.firstIndex { $0.filter == filter }
            if let index { self.state.subscriptions.remove(at: index) }
            codes.append((index == nil ? ReasonCode.noSubscriptionExisted : .success).rawValue)
        }
        // MQTT 3.1.1 §3.11: UNSUBACK has no payload.
        if self.version != .v5 { codes = [] }
        return [.send(.unsuback(SubscriptionAnswerPacket(packetId: packet.packetId, codes: codes)))]
    }
}
