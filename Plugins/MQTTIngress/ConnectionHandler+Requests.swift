import NIOCore
import NodeKit

extension ConnectionHandler {
    /// Carries out requests one after another until none is left.
    func work() async {
        while let peer = self.peer, let request = self.session.nextRequest() {
            let answer =
                switch peer {
                case .device(let requests): await requests.answer(request)
                case .provisioning(let requests): await requests.answer(request)
                }
            self.perform(self.session.acknowledge(request, answer.outcome))
            if let response = answer.response { await self.respond(response, to: request) }
            if answer.endsSession { self.end(answer.outcome.reason, answer.outcome.explanation) }
            guard !self.isDecoding else { continue }
            self.flush()
            self.resumeReading()
        }
        if self.isShuttingDown { self.end(.serverShuttingDown, nil) }
    }

    private func respond(_ response: Answer.Response, to request: Session.Request) async {
        while !self.session.isClosed, !self.session.canPublish(to: response.topic) || !self.isWritable {
            self.flush()
            self.resumeReading()
            await self.wait()
        }
        guard self.session.isConnected else { return }
        switch response.body {
        case .bytes(let bytes):
            guard var packet = self.session.answer(to: response.topic, payloadSize: bytes.readableBytes) else {
                return self.refuse(request, size: Int64(bytes.readableBytes))
            }
            self.write(packet, payload: bytes)
            if case .chunkRequest = request.topic { return }
            packet.payload = bytes
            self.session.remember(packet)
        case .content(let reply):
            let size = reply.range.upperBound - reply.range.lowerBound
            guard let packet = self.session.answer(to: response.topic, payloadSize: Int(clamping: size)) else {
                return self.refuse(request, size: size)
            }
            await self.send(packet, payload: reply)
        }
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
