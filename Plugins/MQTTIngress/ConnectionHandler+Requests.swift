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
            self.context?.flush()
            self.resumeReading()
        }
        if self.isShuttingDown { self.end(.serverShuttingDown, nil) }
    }

    private func respond(_ response: Answer.Response, to request: Session.Request) async {
        while !self.session.isClosed, !self.session.canPublish(to: response.topic) || !self.isWritable {
            self.context?.flush()
            self.resumeReading()
            await self.wait()
        }
        guard self.session.isConnected else { return }
        switch response.body {
        case .bytes(let bytes):
            guard var packet = self.session.answer(to: response.topic, payloadSize: bytes.readableBytes) else {
                return self.refuse(request, size: Int64(bytes.readableBytes))
            }
            packet.payload = bytes
            self.write(header: packet, payloadSize: bytes.readableBytes)
            self.services.metrics.sentBytes.add(bytes.readableBytes)
            self.context?.write(Self.wrapOutboundOut(bytes), promise: nil)
            if case .chunkRequest = request.topic { return }
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

    private func write(header packet: PublishPacket, payloadSize: Int) {
        guard let context = self.context else { return }
        var buffer = context.channel.allocator.buffer(capacity: packet.topic.utf8.count + 16)
        packet.writeHeader(into: &buffer, version: self.session.version, payloadSize: payloadSize)
        self.services.metrics.sentBytes.add(buffer.readableBytes)
        context.write(Self.wrapOutboundOut(buffer), promise: nil)
    }

    /// Sends a message too large to hold in memory, piece by piece as the client reads.
    ///
    /// Nothing else is sent meanwhile.
    private func send(_ packet: PublishPacket, payload: ContentReply) async {
        self.held = ByteBuffer()
        let (offset, end) = (payload.range.lowerBound, payload.range.upperBound)
        self.write(header: packet, payloadSize: Int(end - offset))
        for start in stride(from: offset, to: end, by: Limits.pieceBytes) {
            let range = start..<min(start + Int64(Limits.pieceBytes), end)
            guard let piece = await self.read(range, of: payload.content), let context = self.context else { return }
            self.services.metrics.sentBytes.add(piece.readableBytes)
            context.writeAndFlush(Self.wrapOutboundOut(piece), promise: nil)
            while !self.session.isClosed, !self.isWritable { await self.wait() }
            if self.session.isClosed { return }
        }
        if let held = self.held, held.readableBytes > 0 {
            self.context?.write(Self.wrapOutboundOut(held), promise: nil)
        }
        self.held = nil
    }

    /// Reads a piece; `nil` if that failed or the connection ended.
    ///
    /// A message that has begun cannot be taken back, so a failure ends the connection.
    private func read(_ range: Range<Int64>, of content: any Content) async -> ByteBuffer? {
        do {
            let piece = try await content.read(range)
            if self.session.isClosed { return nil }
            guard piece.readableBytes == range.count else {
                throw NodeError(.internalError, "\(piece.readableBytes) bytes came in place of \(range.count)")
            }
            return piece
        } catch {
            self.end(.unspecifiedError, "a package could not be read to its end: \(NodeError(wrapping: error))")
            return nil
        }
    }
}
