import HTTPKit
import HTTPTypes
import Hummingbird
import HummingbirdCore
import IngressKit
import Logging
import NIOCore
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NodeKit

/// A connection of the management API: Hummingbird's, behind the checks of HTTPKit.
struct ManagementChannel: HTTPChannelHandler {
    typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

    let options: ManagementServer.Options
    /// The server's side of TLS; `nil` to speak plain HTTP.
    let tls: TLSContext?
    let beginnings: RateLimiter<PeerNetwork>
    let now: @Sendable () -> Timestamp
    let responder: HTTPChannelHandler.Responder

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            if let peer = PeerNetwork(channel.remoteAddress), !self.beginnings.admit(peer, at: .now()) {
                // Over TLS an answer would cost a handshake, of which there may be too many already.
                try pipeline.addHandler(RefusingHandler(tls == nil ? .tooFrequent : nil))
            } else {
                try self.addHandlers(to: pipeline, logger)
            }
            return try NIOAsyncChannel(
                wrappingChannelSynchronously: channel,
                configuration: .init(isOutboundHalfClosureEnabled: true)
            )
        }
    }

    private func addHandlers(to pipeline: ChannelPipeline.SynchronousOperations, _ logger: Logger) throws {
        if let tls { try pipeline.addHandler(tls.handler()) }
        try pipeline.addHandlers(
            HTTPServerCodec(
                headerBytesMax: self.options.headerBytesMax,
                headerFieldsMax: self.options.headersMax,
                now: self.now
            ),
            HTTP1ToHTTPServerCodec(secure: self.tls != nil),
            IdleStateHandler(writeTimeout: TimeAmount(self.options.idleTimeout)),
            ConnectionGuard(
                uploadBytesMax: self.options.uploadBytesMax,
                bodyBytesMax: Int64(self.options.bodyBytesMax)
            ),
            HTTPConnectionStateHandler(idleTimeout: self.options.idleTimeout, logger: logger)
        )
    }

    func handle(value: Value, logger: Logger) async { await self.handleHTTP(asyncChannel: value, logger: logger) }
}
