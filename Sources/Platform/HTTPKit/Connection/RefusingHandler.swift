public import NIOCore

/// Tells a connection that is one too many so, and closes it.
public final class RefusingHandler: ChannelInboundHandler {
    /// What the client sends, which nobody reads.
    public typealias InboundIn = ByteBuffer
    /// What the client gets.
    public typealias OutboundOut = ByteBuffer

    /// Why a connection is not taken in.
    public enum Reason: Sendable {
        /// There are too many, or the server stops: 503.
        case tooMany
        /// Its address began too many within a second: 429.
        case tooFrequent

        fileprivate var answer: StaticString {
            switch self {
            case .tooMany: ResponseEncoder.busy
            case .tooFrequent: ResponseEncoder.tooFrequent
            }
        }
    }

    private let reason: Reason?

    /// Makes the only handler of a connection.
    ///
    /// - Parameter reason: What it is told; `nil` to close it without a word.
    public init(_ reason: Reason?) { self.reason = reason }

    /// Answers and closes.
    public func channelActive(context: ChannelHandlerContext) {
        guard let reason else { return context.close(promise: nil) }
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(staticString: reason.answer)), promise: written)
    }

    /// Closes.
    public func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
