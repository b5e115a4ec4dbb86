import NIOCore

/// Cuts a stream of bytes into packets.
///
/// A packet that is too large is refused as soon as its header is there; its bytes are never collected.
struct PacketDecoder: ByteToMessageDecoder {
    typealias InboundOut = Packet

    /// The largest packet, header included, in bytes.
    let packetBytesMax: Int
    /// The version of the connection, which decides how packets are read; a server learns it from CONNECT.
    private(set) var version: ProtocolVersion

    init(packetBytesMax: Int, version: ProtocolVersion = .v3_1_1) {
        self.packetBytesMax = packetBytesMax
        self.version = version
    }

    mutating func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        guard let packet = try self.next(in: &buffer) else { return .needMoreData }
        context.fireChannelRead(Self.wrapInboundOut(packet))
        return .continue
    }

    mutating func decodeLast(
        context: ChannelHandlerContext,
        buffer: inout ByteBuffer,
        seenEOF: Bool
    ) throws -> DecodingState {
        // A packet that the peer did not finish is none.
        try self.decode(context: context, buffer: &buffer)
    }

    /// Takes the next packet from the front of the buffer; `nil`, with the buffer as it was, if it is not complete.
    mutating func next(in buffer: inout ByteBuffer) throws(PacketError) -> Packet? {
        let start = buffer.readerIndex
        guard let header = try FixedHeader.read(from: &buffer) else { return nil }
        let size = FixedHeader.size(remainingLength: header.remainingLength) + header.remainingLength
        guard size <= self.packetBytesMax else {
            throw PacketError(.packetTooLarge, "a packet of \(size) bytes is over the limit of \(self.packetBytesMax)")
        }
        guard var body = buffer.readSlice(length: header.remainingLength) else {
            buffer.moveReaderIndex(to: start)
            return nil
        }
        let packet = try Packet.read(header, from: &body, version: self.version)
        if case .connect(let connect) = packet { self.version = connect.version }
        return packet
    }
}
