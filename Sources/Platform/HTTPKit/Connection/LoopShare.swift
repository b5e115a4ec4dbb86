import NIOCore
import NodeKit

/// What the connections of one event loop share: where their requests' routes are, and what writes their answers, one after
/// another.
///
/// The bytes of an answer and what is known of the last package are then in the processor's cache for whichever connection is
/// next, and a connection that is idle keeps none of its own.
final class LoopShare {
    /// The routes.
    let routes: RouteTable
    private var encoder = ResponseEncoder()
    private var buffer = ByteBuffer()

    init(_ mounts: [Mount]) { self.routes = RouteTable(mounts) }

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
