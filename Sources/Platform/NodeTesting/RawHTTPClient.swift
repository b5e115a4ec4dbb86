public import NIOCore
import NIOPosix
public import NIOSSL
import Synchronization

/// A response as it came off the wire.
public struct RawHTTPResponse {
    /// The status code.
    public var status: Int
    /// The header fields in order.
    public var fields: [(name: String, value: String)]
    /// The body, as long as `Content-Length` says.
    public var body: ByteBuffer

    /// The text of the body.
    public var text: String { String(buffer: self.body) }

    /// The value of a field, whose name is compared without case.
    public subscript(name: String) -> String? {
        self.fields.first { $0.name.lowercased() == name.lowercased() }?.value
    }
}

/// The other end closed before the response was complete.
public struct ConnectionEnded: Error {}

/// A client of an HTTP server that sends what it is told, well-formed or not, over a socket.
public final class RawHTTPClient: Sendable {
    private let channel: any Channel
    private let inbox: Inbox

    private init(channel: any Channel, inbox: Inbox) {
        self.channel = channel
        self.inbox = inbox
    }

    /// Connects, over TLS if there is something to shake hands with.
    ///
    /// - Parameters:
    ///   - host: The address.
    ///   - port: The port.
    ///   - autoRead: Whether what comes is read; if not, begin with ``startReading()``.
    ///   - tls: The client's side of TLS; `nil` for plain HTTP.
    /// - Returns: The client.
    /// - Throws: An error of the system if nobody listens there.
    public static func connect(
        host: String = "127.0.0.1",
        port: Int,
        autoRead: Bool = true,
        tls: NIOSSLContext? = nil
    ) async throws -> RawHTTPClient {
        let inbox = Inbox()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.autoRead, value: autoRead)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        let handler = try NIOSSLClientHandler(context: tls, serverHostname: "localhost")
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    try channel.pipeline.syncOperations.addHandler(InboxHandler(inbox))
                }
            }
            .connect(host: host, port: port).get()
        return RawHTTPClient(channel: channel, inbox: inbox)
    }

    /// Sends a text; returns when the system has it.
    public func send(_ text: String) async throws { try await self.send(bytes: Array(text.utf8)) }

    /// Sends bytes; returns when the system has them.
    public func send(bytes: [UInt8]) async throws {
        try await self.channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    }

    /// Sends what the other end may not want to have any more.
    public func sendAnyway(_ text: String) async { try? await self.send(text) }

    /// Says that nothing more comes, and goes on reading.
    public func closeOutput() async throws { try await self.channel.close(mode: .output).get() }

    /// Closes the connection.
    public func close() async throws {
        // Where half a connection may stay, NIOSSL ends its own half and waits for five seconds for what it has read already.
        try? await self.channel.setOption(.allowRemoteHalfClosure, value: false).get()
        self.channel.close(promise: nil)
        try await self.channel.closeFuture.get()
    }

    /// Reads on by hand where the connection does not by itself.
    public func startReading() async throws { try await self.channel.setOption(.autoRead, value: true).get() }

    /// The certificate that the other end showed, in DER form.
    public func certificate() async throws -> [UInt8]? {
        let channel = self.channel
        return try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.nioSSL_peerCertificate()?.toDERBytes()
        }.get()
    }

    /// Waits for the next response on the connection.
    ///
    /// - Parameter isHead: Whether it is the one to a `HEAD`, which has no body.
    /// - Returns: The response.
    /// - Throws: ``ConnectionEnded`` if the other end closes before.
    public func response(isHead: Bool = false) async throws -> RawHTTPResponse {
        while true {
            if let response = self.inbox.takeResponse(isHead: isHead) { return response }
            guard await self.inbox.more() else { throw ConnectionEnded() }
        }
    }

    /// Waits for the other end to close, and returns what came before and was not taken.
    public func rest() async -> String {
        while await self.inbox.more() {}
        return self.inbox.takeAll()
    }
}

private final class Inbox: Sendable {
    private struct State {
        var bytes = ByteBuffer()
        var hasNews = false
        var hasEnded = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    func add(_ bytes: ByteBuffer?) {
        let waiter = self.state.withLock { state in
            if let bytes { state.bytes.writeImmutableBuffer(bytes) } else { state.hasEnded = true }
            state.hasNews = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// Waits for bytes since the last call; `false` if none will come.
    func more() async -> Bool {
        await withCheckedContinuation { continuation in
            let isReady = self.state.withLock { state in
                if state.hasNews || state.hasEnded { return true }
                state.waiter = continuation
                return false
            }
            if isReady { continuation.resume() }
        }
        return self.state.withLock { state in
            let hadEnded = state.hasEnded
            defer { state.hasNews = false }
            return state.hasNews || !hadEnded
        }
    }

    func takeAll() -> String {
        self.state.withLock { state in
            defer { state.bytes.clear() }
            return String(buffer: state.bytes)
        }
    }

    func takeResponse(isHead: Bool) -> RawHTTPResponse? {
        self.state.withLock { state in
            let view = state.bytes.readableBytesView
            guard let end = view.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
            let lines = String(decoding: view[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
            let fields = lines.dropFirst().map { line -> (name: String, value: String) in
                let colon = line.firstIndex(of: ":") ?? line.endIndex
                return (String(line[..<colon]), String(line[colon...].dropFirst(2)))
            }
            let status = Int(lines[0].split(separator: " ")[1]) ?? 0
            var response = RawHTTPResponse(status: status, fields: fields, body: ByteBuffer())
            let hasBody = !isHead && status != 304 && status != 100
            let length = hasBody ? Int(response["Content-Length"] ?? "0") ?? 0 : 0
            let headLength = view.distance(from: view.startIndex, to: end.upperBound)
            guard view.count >= headLength + length else { return nil }
            state.bytes.moveReaderIndex(forwardBy: headLength)
            response.body = state.bytes.readSlice(length: length) ?? ByteBuffer()
            if state.bytes.readableBytes == 0 { state.bytes = ByteBuffer() }
            return response
        }
    }
}

private final class InboxHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let inbox: Inbox

    init(_ inbox: Inbox) { self.inbox = inbox }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { self.inbox.add(self.unwrapInboundIn(data)) }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .inputClosed? = event as? ChannelEvent { self.inbox.add(nil) }
    }

    func channelInactive(context: ChannelHandlerContext) { self.inbox.add(nil) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
