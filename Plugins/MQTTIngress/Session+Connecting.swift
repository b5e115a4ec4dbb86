import NIOCore

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
        self.takeLimits(of: connect.properties)
        self.expirySeconds = self.expiry(of: connect)
        self.phase = .authenticating(connect, early: [])
        return [.authenticate(connect)]
    }

    private mutating func takeLimits(of properties: Properties) {
        if let maximum = properties.number(.maximumPacketSize) { self.clientPacketBytesMax = maximum }
        if let maximum = properties.number(.receiveMaximum) { self.inFlightMax = min(self.inFlightMax, maximum) }
        self.wantsProblemInformation = properties.number(.requestProblemInformation) != 0
    }

    /// How long the session is to outlive its connection; MQTT 3.1.1 leaves to the server what `clean session = 0` means.
    private func expiry(of connect: ConnectPacket) -> UInt32 {
        let longest = self.limits.sessionExpirySecondsMax
        guard connect.version == .v5 else { return connect.isClean ? 0 : longest }
        return min(UInt32(clamping: connect.properties.number(.sessionExpiryInterval) ?? 0), longest)
    }

    /// The credentials are those of a device, or the client wants to be made one.
    ///
    /// - Parameters:
    ///   - assignedClientId: The identifier for a client that has none.
    ///   - profileTopics: The topics of the device's profile, if it has its own.
    ///   - kept: What is there of a session that this connection goes on with, if it does.
    ///   - isProvisioning: Whether the client wants to be made a device.
    /// - Returns: The acceptance, and what the session that was kept and the packets that waited lead to.
    mutating func authenticated(
        assignedClientId: @autoclosure () -> String,
        profileTopics: ProfileTopics? = nil,
        resuming kept: SessionState? = nil,
        isProvisioning: Bool = false
    ) -> [Action] {
        guard case .authenticating(let connect, let early) = self.phase else { return [] }
        self.phase = .connected
        self.keepAliveSeconds = connect.keepAlive
        self.profileTopics = profileTopics
        if isProvisioning { self.expirySeconds = 0 }
        // MQTT 3.1 has no flag for it.
        let isSessionPresent = kept != nil && connect.version != .v3_1
        var connack = ConnackPacket(isSessionPresent: isSessionPresent, code: ReasonCode.success.rawValue)
        if connect.version == .v5 {
            connack.properties = self.offer(to: connect)
            if connect.clientId.isEmpty {
                connack.properties.append(.assignedClientIdentifier, .text(assignedClientId()))
            }
        }
        var actions: [Action] = [.send(.connack(connack))]
        if let kept {
            self.state = kept
            self.state.resume()
            actions += self.sendWaiting()
        }
        self.state.updatesTopic = profileTopics?.updates
        if let will = connect.will, !isProvisioning {
            self.will = Will(will, profileTopics)
            if self.will == nil { actions.append(.note("a will on a topic that reports nothing is ignored")) }
        }
        for packet in early { actions += self.received(packet) }
        return actions
    }

    /// The properties of a CONNACK (MQTT 5 §3.2.2.3).
    ///
    /// Wildcards are available, which is what the absence of the property says. Retained messages are announced as not
    /// available, but those that come are taken as if they were not to be retained.
    private mutating func offer(to connect: ConnectPacket) -> Properties {
        var properties: Properties = [
            (.receiveMaximum, .twoBytes(UInt16(clamping: self.limits.requestsMax))),
            (.retainAvailable, .byte(0)),
            (.maximumPacketSize, .fourBytes(UInt32(clamping: self.limits.packetBytesMax))),
            (.topicAliasMaximum, .twoBytes(Limits.topicAliasesMax)),
            (.subscriptionIdentifierAvailable, .byte(0)),
            (.sharedSubscriptionAvailable, .byte(0)),
        ]
        if connect.properties.number(.sessionExpiryInterval) ?? 0 != Int(self.expirySeconds) {
            properties.append(.sessionExpiryInterval, .fourBytes(self.expirySeconds))
        }
        if connect.keepAlive == 0 || connect.keepAlive > self.limits.keepAliveSecondsMax {
            self.keepAliveSeconds = self.limits.keepAliveSecondsMax
            properties.append(.serverKeepAlive, .twoBytes(self.keepAliveSeconds))
        }
        return properties
    }

    /// The credentials are nobody's, or could not be checked, or the client may not connect now.
    ///
    /// - Parameters:
    ///   - reason: What MQTT 5 calls it.
    ///   - explanation: What is logged.
    ///   - isTold: Whether the client of MQTT 5 may read the explanation.
    /// - Returns: The refusal and the end of the connection.
    mutating func refused(_ reason: ReasonCode, explanation: String, isTold: Bool = true) -> [Action] {
        guard !self.isClosed else { return [] }
        self.phase = .closed
        let code: ConnackPacket.ReturnCode =
            switch reason {
            case .clientIdentifierNotValid: .identifierRejected
            case .serverUnavailable, .connectionRateExceeded: .serverUnavailable
            default: .notAuthorized
            }
        var connack = ConnackPacket(code: self.version == .v5 ? reason.rawValue : code.rawValue)
        if isTold, self.version == .v5 {
            let short = connack
            connack.properties = .reason(explanation)
            if !self.fits(.connack(connack)) { connack = short }
        }
        return [.send(.connack(connack)), .close(explanation: explanation)]
    }

    /// Whether a packet is within what the client accepts (MQTT 5 §3.1.2.11.4).
    func fits(_ packet: Packet) -> Bool {
        var bytes = ByteBuffer()
        packet.write(into: &bytes, version: self.version)
        return bytes.readableBytes <= self.clientPacketBytesMax
    }
}
