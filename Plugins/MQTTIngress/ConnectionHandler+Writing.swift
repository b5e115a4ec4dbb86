import NIOCore
import NodeKit

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What is sent: gathered, so that all that one turn of the event loop answers leaves in one write.
extension ConnectionHandler {
    /// Payloads up to this many bytes are copied behind their header; a larger one is cheaper to pass on as it is.
    private static let copiedBytesMax = 4096
    /// Gathered bytes that are handed over without a flush, which the channel then counts as waiting for the client to read.
    private static let gatheredBytesMax = 16_384

    /// Writes a packet, which leaves with the next flush.
    func write(_ packet: Packet) {
        guard self.context != nil else { return }
        var bytes = self.takeGathered()
        packet.write(into: &bytes, version: self.session.version)
        self.gathered = bytes
        if case .connack(let answer) = packet, answer.code != 0 { self.services.metrics.refusedRequests.add() }
        self.boundGathered()
    }

    /// Writes a message with its payload, which leaves with the next flush.
    func write(_ packet: PublishPacket, payload: ByteBuffer) {
        guard let context = self.context else { return }
        let size = payload.readableBytes
        self.write(header: packet, payloadSize: size)
        guard size > Self.copiedBytesMax, !self.isSendingPieces else {
            self.gathered?.writeImmutableBuffer(payload)
            return self.boundGathered()
        }
        self.handOver(context)
        self.services.metrics.sentBytes.add(size)
        // By the name of the type here and wherever bytes pass: by way of `Self`, this stays generic and casts as it runs.
        context.write(ConnectionHandler.wrapOutboundOut(payload), promise: nil)
    }

    private func write(header packet: PublishPacket, payloadSize: Int) {
        var bytes = self.takeGathered()
        let copied = payloadSize > Self.copiedBytesMax ? 0 : payloadSize
        bytes.reserveCapacity(minimumWritableBytes: packet.topic.utf8.count + 16 + copied)
        packet.writeHeader(into: &bytes, version: self.session.version, payloadSize: payloadSize)
        self.gathered = bytes
    }

    private func takeGathered() -> ByteBuffer {
        // Moved out, as a second reference would make the next write copy it.
        self.gathered.take() ?? ByteBufferAllocator().buffer(capacity: 64)
    }

    private func boundGathered() {
        guard let gathered = self.gathered else { return }
        if self.isSendingPieces {
            self.checkBacklog(gathered.readableBytes)
        } else if gathered.readableBytes > Self.gatheredBytesMax || !self.isWritable, let context = self.context {
            self.handOver(context)
            if !self.isWritable { self.checkBacklog(Self.bufferedBytes(context.channel)) }
        }
    }

    /// Passes what was gathered to the channel, which does not send it yet.
    private func handOver(_ context: ChannelHandlerContext) {
        guard !self.isSendingPieces, let bytes = self.gathered.take() else { return }
        self.services.metrics.sentBytes.add(bytes.readableBytes)
        self.owesAcknowledgement = false
        context.write(ConnectionHandler.wrapOutboundOut(bytes), promise: nil)
    }

    /// Sends what was written.
    func flush() {
        guard let context = self.context else { return }
        self.handOver(context)
        context.flush()
    }

    /// Has TCP acknowledge what came, which it puts off by 40 ms where it has nothing to send.
    ///
    /// A client that sends PUBACK keeps the request for its next chunk back until then, unless it turned that off (RFC 896 and
    /// RFC 9293 §3.7.4); few do.
    func acknowledgeBytes(_ context: ChannelHandlerContext) {
        self.owesAcknowledgement = false
        #if os(Linux)
            // `man 7 tcp`; an even number is for once, and leaves the acknowledgements to come to what is sent then.
            let quickAck = NIOBSDSocket.Option(rawValue: TCP_QUICKACK)
            try? context.channel.syncOptions?.setOption(.tcpOption(quickAck), value: 2)
        #endif
    }

    private static func bufferedBytes(_ channel: any Channel) -> Int {
        (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    /// A client that does not read what it causes or subscribed to must not fill the memory.
    private func checkBacklog(_ bytes: Int) {
        guard bytes > self.services.limits.outboundBytesMax, !self.session.isClosed else { return }
        self.perform(self.session.end(.quotaExceeded, "the client does not read what is sent to it"))
    }

    /// Sends a message too large to hold in memory, piece by piece as the client reads.
    ///
    /// Nothing else is sent meanwhile.
    func send(_ packet: PublishPacket, payload: ContentReply) async {
        let (offset, end) = (payload.range.lowerBound, payload.range.upperBound)
        self.write(header: packet, payloadSize: Int(end - offset))
        if let context = self.context { self.handOver(context) }
        self.isSendingPieces = true
        for start in stride(from: offset, to: end, by: Limits.pieceBytes) {
            let range = start..<min(start + Int64(Limits.pieceBytes), end)
            guard let piece = await self.read(range, of: payload.content), let context = self.context else { return }
            self.services.metrics.sentBytes.add(piece.readableBytes)
            context.writeAndFlush(ConnectionHandler.wrapOutboundOut(piece), promise: nil)
            while !self.session.isClosed, !self.isWritable { await self.wait() }
            if self.session.isClosed { return }
        }
        // What was gathered meanwhile follows with the next flush.
        self.isSendingPieces = false
    }

    /// Reads a piece; `nil` if that failed or the connection ended.
    ///
    /// A message that has begun cannot be taken back, so a failure ends the connection.
    private func read(_ range: Range<Int64>, of content: any Content) async -> ByteBuffer? {
        do {
            let piece = try await content.readAll(range)
            return self.session.isClosed ? nil : piece
        } catch {
            self.end(.unspecifiedError, "a package could not be read to its end: \(NodeError(wrapping: error))")
            return nil
        }
    }
}
