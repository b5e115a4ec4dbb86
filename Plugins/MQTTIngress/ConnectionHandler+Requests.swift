import NIOCore
import NodeKit

/// The work on requests, in the order in which they came: at once as far as nothing has to be waited for, else in a task.
extension ConnectionHandler {
    /// What the work waits for, and the request that it is at.
    private enum Wait: Sendable {
        /// What a device's request waits for.
        case device(DeviceRequests.Wait, Session.Request)
        case provisioning(Session.Request)
        /// The client, which has to read or acknowledge before it can be sent all of this.
        case client(Answer, Session.Request)
    }

    /// Carries out requests until none is left, or until there is something to wait for: a task goes on then.
    func work() {
        if let wait = self.advance() {
            self.run { await $0.work(after: wait) }
        } else {
            self.leaveIfDone()
        }
    }

    /// Carries out requests in a task of its own.
    func workLater() {
        self.run { connection in
            if let wait = connection.advance() { await connection.work(after: wait) }
        }
    }

    private func work(after first: Wait) async {
        var next: Wait? = first
        while let wait = next {
            switch wait {
            case .device(let rest, let request):
                guard case .device(let requests) = self.peer else { return }
                let answer = await requests.finish(request, after: rest)
                if !self.take(answer, request) { await self.finish(answer, request) }
            case .provisioning(let request):
                guard case .provisioning(let requests) = self.peer else { return }
                let answer = await requests.answer(request)
                if !self.take(answer, request) { await self.finish(answer, request) }
            case .client(let answer, let request):
                await self.finish(answer, request)
            }
            next = self.advance()
        }
    }

    private func advance() -> Wait? {
        while let peer = self.peer, let request = self.session.nextRequest() {
            switch peer {
            case .device(let requests):
                switch requests.begin(request) {
                case .now(let answer): guard self.take(answer, request) else { return .client(answer, request) }
                case .suspended(let wait): return .device(wait, request)
                }
            case .provisioning: return .provisioning(request)
            }
        }
        if self.isShuttingDown { self.end(.serverShuttingDown, nil) }
        return nil
    }

    /// Acknowledges a request and sends its answer.
    ///
    /// - Returns: Whether that is done; else the client has to do something before, which ``finish(_:_:)`` waits for.
    private func take(_ answer: Answer, _ request: Session.Request) -> Bool {
        self.perform(self.session.acknowledge(request, answer.outcome))
        if let response = answer.response, !self.respond(response, to: request) { return false }
        self.end(answer)
        return true
    }

    /// Sends an answer when the client can take it.
    private func finish(_ answer: Answer, _ request: Session.Request) async {
        if let response = answer.response { await self.respondLater(response, to: request) }
        self.end(answer)
    }

    private func end(_ answer: Answer) {
        if answer.endsSession { self.end(answer.outcome.reason, answer.outcome.explanation) }
        guard !self.isDecoding else { return }
        self.flush()
        self.resumeReading()
    }

    /// Sends an answer, unless the client has to do something before.
    private func respond(_ response: Answer.Response, to request: Session.Request) -> Bool {
        guard !self.session.isClosed else { return true }
        guard self.session.canPublish(to: response.topic), self.isWritable else { return false }
        // That of a package goes as the client reads it.
        guard case .bytes(let bytes) = response.body else { return false }
        guard var packet = self.session.answer(to: response.topic, payloadSize: bytes.readableBytes) else {
            self.refuse(request, size: Int64(bytes.readableBytes))
            return true
        }
        self.write(packet, payload: bytes)
        if case .chunkRequest = request.topic { return true }
        packet.payload = bytes
        self.session.remember(packet)
        return true
    }

    private func respondLater(_ response: Answer.Response, to request: Session.Request) async {
        while !self.session.isClosed, !self.session.canPublish(to: response.topic) || !self.isWritable {
            self.flush()
            self.resumeReading()
            await self.wait()
        }
        guard !self.respond(response, to: request), case .content(let reply) = response.body else { return }
        let size = reply.range.upperBound - reply.range.lowerBound
        guard let packet = self.session.answer(to: response.topic, payloadSize: Int(clamping: size)) else {
            return self.refuse(request, size: size)
        }
        await self.send(packet, payload: reply)
    }

    /// Tells that an answer is too large for the client, or for MQTT; where there is no topic for that, it is only logged.
    private func refuse(_ request: Session.Request, size: Int64) {
        let error = NodeError(
            .tooLarge,
            "a message of \(size) bytes is over what the client or MQTT allows; ask for smaller chunks"
        )
        self.note(error.description)
        guard case .chunkRequest(let type, _, _) = request.topic,
            let response = DeviceRequests.chunkFailure(type, error).response,
            case .bytes(let text) = response.body,
            var packet = self.session.answer(to: response.topic, payloadSize: text.readableBytes)
        else { return }
        packet.payload = text
        self.write(.publish(packet))
    }
}
