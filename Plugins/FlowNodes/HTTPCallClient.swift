import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NodeKit

/// Makes calls to one server, each on a connection of its own.
struct HTTPCallClient: OutsideCalls {
    private let endpoint: HTTPCall.Endpoint
    private let tls: NIOSSLContext?
    private let connectTimeout: TimeAmount
    private let answerBytesMax: Int
    private let eventLoopGroup: any EventLoopGroup

    /// Reads the file with authorities, if one is named.
    ///
    /// - Throws: ``NodeError`` with code `tls-files` that names the file and says what is wrong with it.
    init(
        endpoint: HTTPCall.Endpoint,
        authorityFile: String?,
        connectTimeout: Duration,
        answerBytesMax: Int,
        eventLoopGroup: any EventLoopGroup
    ) throws(NodeError) {
        self.endpoint = endpoint
        self.connectTimeout = TimeAmount(connectTimeout)
        self.answerBytesMax = answerBytesMax
        self.eventLoopGroup = eventLoopGroup
        self.tls = endpoint.isSecure ? try Self.context(authorityFile) : nil
        guard endpoint.isSecure || authorityFile == nil else {
            throw NodeError("bad-value", "'tls-ca-file' is for a 'url' that begins with https://")
        }
    }

    private static func context(_ authorityFile: String?) throws(NodeError) -> NIOSSLContext {
        do {
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = ["http/1.1"]
            if let authorityFile {
                configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(authorityFile))
            }
            return try NIOSSLContext(configuration: configuration)
        } catch {
            let file = authorityFile.map { "'\($0)'" } ?? "the system's authorities"
            throw NodeError("tls-files", "could not use \(file) for TLS, \(error)", cause: error)
        }
    }

    /// Makes a call.
    ///
    /// - Returns: Whatever the server answered.
    /// - Throws: ``NodeError`` with ``NodeError/Code/unavailable`` if there was no answer before the task was cancelled.
    func answer(to call: OutsideCall) async throws(NodeError) -> OutsideCall.Answer {
        let eventLoop = self.eventLoopGroup.next()
        let promise = eventLoop.makePromise(of: OutsideCall.Answer.self)
        let answerBytesMax = self.answerBytesMax
        let connected = ClientBootstrap(group: eventLoop)
            .connectTimeout(self.connectTimeout)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls = self.tls { try pipeline.addHandler(self.secure(tls)) }
                    try pipeline.addHTTPClientHandlers()
                    try pipeline.addHandler(HTTPCallHandler(call, answerBytesMax: answerBytesMax, promise))
                }
            }
            .connect(host: self.endpoint.host, port: self.endpoint.port)
        // With the answer, or the end of the time for it, the connection has served.
        promise.futureResult.whenComplete { _ in
            connected.whenSuccess { $0.close(mode: .all, promise: nil) }
        }
        connected.whenFailure { promise.fail($0) }
        do {
            return try await withTaskCancellationHandler {
                try await promise.futureResult.get()
            } onCancel: {
                promise.fail(CancellationError())
            }
        } catch let error as NodeError {
            throw error
        } catch {
            throw NodeError(.unavailable, "'\(self.endpoint.authority)' could not be called, \(error)", cause: error)
        }
    }

    /// The TLS side of a connection; the server must have a certificate for its name, or for its address.
    private func secure(_ tls: NIOSSLContext) throws -> NIOSSLClientHandler {
        // Server Name Indication has no addresses (RFC 6066 §3); without a name, NIOSSL compares the address.
        let isAddress = (try? SocketAddress(ipAddress: self.endpoint.host, port: 0)) != nil
        return try NIOSSLClientHandler(context: tls, serverHostname: isAddress ? nil : self.endpoint.host)
    }
}

/// Sends a call when its connection is there, and takes in the answer.
private final class HTTPCallHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private let call: OutsideCall
    private let answerBytesMax: Int
    private let promise: EventLoopPromise<OutsideCall.Answer>
    private var status: Int?
    private var body = ByteBuffer()

    init(_ call: OutsideCall, answerBytesMax: Int, _ promise: EventLoopPromise<OutsideCall.Answer>) {
        self.call = call
        self.answerBytesMax = answerBytesMax
        self.promise = promise
    }

    func channelActive(context: ChannelHandlerContext) {
        var head = HTTPRequestHead(
            version: .http1_1,
            method: HTTPMethod(rawValue: self.call.method),
            uri: self.call.target
        )
        for field in self.call.fields { head.headers.add(name: field.name, value: field.value) }
        context.write(self.wrapOutboundOut(.head(head)), promise: nil)
        if let body = self.call.body { context.write(self.wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
        context.writeAndFlush(self.wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.unwrapInboundIn(data) {
        case .head(let head):
            // Informational answers (RFC 9110 §15.2) come before the one that counts.
            if head.status.code >= 200 { self.status = Int(head.status.code) }
        case .body(var part):
            guard let status = self.status else { return }
            let room = self.answerBytesMax - self.body.readableBytes
            guard part.readableBytes > room else {
                self.body.writeBuffer(&part)
                return
            }
            if var rest = part.readSlice(length: room) { self.body.writeBuffer(&rest) }
            self.promise.succeed(OutsideCall.Answer(status: status, body: self.body))
        case .end:
            guard let status = self.status else { return }
            self.promise.succeed(OutsideCall.Answer(status: status, body: self.body))
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.promise.fail(ChannelError.eof)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.promise.fail(error)
        context.close(promise: nil)
    }
}
