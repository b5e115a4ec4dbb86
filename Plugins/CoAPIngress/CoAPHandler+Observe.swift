import FoundationEssentials
import IngressKit
import NIOCore
import NodeKit
import OTA

/// Bodies that take more than one message, and what observers are told.
extension CoAPHandler {
    // MARK: Block1

    /// Takes in a block of a request's body.
    func assemble(
        _ request: CoAPRequest,
        _ block: Block,
        of device: Originator,
        from peer: Endpoint
    ) -> BodyAssemblies.Result {
        defer { self.updateTimer() }
        return self.assemblies.add(
            request.payload,
            block,
            announced: request.size1,
            to: BodyAssemblies.Key(
                peer: peer,
                device: device.id,
                path: request.path,
                query: request.query,
                contentFormat: request.contentFormat,
                requestTags: request.requestTags
            ),
            now: self.now
        )
    }

    // MARK: Observe

    /// Registers an observer; it is told nothing before its request is answered.
    ///
    /// - Returns: `nil` if there are too many.
    func observe(
        _ request: CoAPRequest,
        _ resource: Observers.Resource,
        of device: Originator,
        from peer: Endpoint
    ) -> Observers.ID? {
        let registration = self.observers.register(
            Observers.Key(peer: peer, token: request.token),
            device: device.id,
            resource: resource,
            exponent: request.block2?.exponent,
            now: self.now
        )
        guard let registration else { return nil }
        self.end(registration.replaced)
        for ended in registration.ended {
            self.end(ended)
            // ThingsBoard ends an observation that another takes the place of with 2.02.
            self.confirm(CoAPResponse(.deleted), to: ended.key.peer, ended.key.token, owner: .response)
        }
        let id = registration.id
        let handler = NIOLoopBound(self, eventLoop: self.eventLoop)
        let subscription = self.sessions.subscribeSelectively(
            device.id,
            interests: resource == .attributes ? .attributes : .calls,
            // It fails when the event loop has ended, and then nothing more is sent.
            flushed: { [eventLoop = self.eventLoop] in try? await eventLoop.submit {}.get() }
        ) { [eventLoop = self.eventLoop] event in
            guard resource.concerns(event) else { return false }
            eventLoop.execute { handler.value.happened(id, event) }
            return true
        }
        self.observers.subscribed(id, subscription)
        return id
    }

    /// Takes an observer's sequence number for the answer to its request; `nil` if it has ended meanwhile.
    func firstSequence(_ id: Observers.ID) -> UInt32? { self.observers.firstSequence(id) }

    /// Ends an observer, if it is there.
    func endObserver(_ id: Observers.ID) { self.end(self.observers.remove(id)) }

    /// Ends the observation of a peer with a token, if there is one.
    func endObservation(from peer: Endpoint, _ token: CoAPMessage.Token) {
        self.end(self.observers.remove(Observers.Key(peer: peer, token: token)))
    }

    /// A body that a peer has got the first block of.
    func retainedBody(
        for peer: Endpoint,
        _ device: UUID,
        _ subject: RetainedBodies.Subject
    ) -> ByteBuffer? {
        self.retained[RetainedBodies.Key(peer: peer, device: device, subject: subject)]
    }

    /// Keeps a body if it takes more than one block; forgets the one before in any case.
    func retain(
        _ body: ByteBuffer?,
        exponent: UInt8?,
        for peer: Endpoint,
        _ device: UUID,
        _ subject: RetainedBodies.Subject
    ) {
        let blockBytes = 1 << (Int(min(exponent ?? .max, self.settings.blockExponent)) + 4)
        let isLarge = body.map { $0.readableBytes > blockBytes } ?? false
        self.retained.keep(
            isLarge ? body : nil,
            for: RetainedBodies.Key(peer: peer, device: device, subject: subject)
        )
    }

    func end(_ observer: Observers.Observer?) {
        guard let observer else { return }
        if let subscription = observer.subscription { self.sessions.unsubscribe(subscription) }
        self.retain(nil, exponent: nil, for: observer.key.peer, observer.device, .notification(observer.resource))
    }

    private func happened(_ id: Observers.ID, _ event: DeviceNotification) {
        if event == .credentialsRevoked {
            guard let observer = self.observers.remove(id) else { return }
            self.end(observer)
            // RFC 7641 §4.2: an error ends the observation.
            self.confirm(CoAPResponse(.unauthorized), to: observer.key.peer, observer.key.token, owner: .response)
        } else {
            self.notify(self.observers.happened(id, event, now: self.now))
        }
        self.updateTimer()
    }

    func notify(_ notification: Observers.Notification?) {
        guard let notification else { return }
        let body: ByteBuffer?
        switch notification.content {
        case .updated(let values): body = JSON.object(values).bytes
        case .deleted(let names): body = DeviceProtocol.attributesDeleted(names).bytes
        case .call(let call): body = call.bytes
        case .refresh: body = notification.resource == .attributes ? ByteBuffer(string: "{}") : nil
        }
        var response = CoAPResponse(.valid)
        if let body {
            response = CoAPResponse(
                notification: body,
                exponent: notification.exponent,
                exponentMax: self.settings.blockExponent
            )
        }
        response.observing(notification.sequence, maxAge: self.settings.observers.maxAge)
        let key = notification.key
        self.retain(
            body,
            exponent: notification.exponent,
            for: key.peer,
            notification.device,
            .notification(notification.resource)
        )
        let isTracked = self.confirm(response, to: key.peer, key.token, owner: .observer(notification.id))
        if !isTracked { self.notify(self.observers.acknowledged(notification.id, now: self.now)) }
    }
}
