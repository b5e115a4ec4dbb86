import NIOCore
import NodeKit
import Synchronization

/// What writes the answers of all connections of one event loop, one after another.
///
/// Its bytes and what it knows of the last package are then in the processor's cache for whichever connection is next, and a
/// connection that is idle keeps none of its own.
final class LoopEncoder {
    private var encoder = ResponseEncoder()
    private var buffer = ByteBuffer()

    /// The head of an answer, and its body unless that is bytes of a package.
    ///
    /// - Parameters:
    ///   - response: What to write.
    ///   - isHead: Whether the body is left out.
    ///   - connection: What `Connection` says, if anything.
    ///   - timestamp: The present time, for `Date`.
    ///   - content: Bytes to copy behind it, if any.
    /// - Returns: The bytes.
    func bytes(
        _ response: Response,
        isHead: Bool,
        connection: StaticString?,
        at timestamp: Timestamp,
        with content: ByteBuffer? = nil
    ) -> ByteBuffer {
        // Used again once it is sent, unless a large one would be kept for as long as the event loop runs.
        if self.buffer.storageCapacity > HTTPLimits.keptBytes { self.buffer = ByteBuffer() }
        self.buffer.clear(minimumCapacity: 512)
        self.encoder.write(response, isHead: isHead, connection: connection, at: timestamp, into: &self.buffer)
        if let content { self.buffer.writeImmutableBuffer(content) }
        return self.buffer
    }
}

/// The encoders of a node: one for each event loop that has a connection.
final class LoopEncoders: Sendable {
    private let encoders = Mutex<[ObjectIdentifier: NIOLoopBound<LoopEncoder>]>([:])

    /// The encoder of an event loop; call it there.
    func encoder(of eventLoop: any EventLoop) -> LoopEncoder {
        self.encoders.withLock { encoders in
            let id = ObjectIdentifier(eventLoop)
            if let known = encoders[id] { return known }
            let encoder = NIOLoopBound(LoopEncoder(), eventLoop: eventLoop)
            encoders[id] = encoder
            return encoder
        }.value
    }
}
