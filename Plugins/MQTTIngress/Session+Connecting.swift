extension Session {
    mutating func connect(_ connect: ConnectPacket) -> [Action] {
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

    mutating func takeLimits(of properties: Properties) {
        if let maximum = properties.number(.maximumPacketSize) { self.clientPacketBytesMax = maximum }
        if let maximum = properties.number(.receiveMaximum) { self.inFlightMax = min(self.inFlightMax, maximum) }
    }

    /// The properties of a CONNACK (MQTT 5 §3.2.2.3).
    ///
    /// Wildcards are available and topic aliases are not, which is what their absence says. Retained messages and wills
    /// are announced as not available, but those that come are taken and ignored.
    mutating func offer(to connect: ConnectPacket) -> Properties {
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

    mutating func refuse(code: UInt8, explanation: String) -> [Action] {
        guard !self.isClosed else { return [] }
        self.phase = .closed
        return [.send(.connack(ConnackPacket(code: code))), .close(explanation: explanation)]
    }
}
