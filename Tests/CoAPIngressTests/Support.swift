import FoundationEssentials
import NIOCore
import NIOPosix
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import CoAPIngress

extension Endpoint {
    /// An endpoint with its address as text.
    init(_ address: String, _ port: Int) throws {
        self = try #require(Endpoint(SocketAddress(ipAddress: address, port: port)))
    }
}

extension ByteBuffer {
    init(hex: String) {
        var digits = hex[...]
        self.init()
        while digits.count >= 2 {
            self.writeInteger(UInt8(digits.prefix(2), radix: 16) ?? 0)
            digits = digits.dropFirst(2)
        }
    }

    var text: String { String(buffer: self) }
}

/// Two devices with access tokens, and for each transport one whose profile is for that, with its name as the token.
enum TestDevices {
    static let first = Originator(id: UUID.random(), name: "first", type: "default")
    static let second = Originator(id: UUID.random(), name: "second", type: "default")

    /// A domain with these devices.
    ///
    /// - Parameter areKnown: Whether the first two are in memory, and need not be waited for.
    /// - Returns: The domain.
    /// - Throws: What the store throws.
    static func domain(areKnown: Bool = false) async throws -> TestDomain {
        let domain = try TestDomain()
        for (device, token) in [(Self.first, "T1"), (Self.second, "T2")] {
            try await domain.add(device, accessToken: token)
            guard areKnown, let found = try await domain.store.device(accessToken: token) else { continue }
            _ = try await domain.store.transport(of: found)
        }
        for kind in ProfileTransport.Kind.allCases {
            let profile = DeviceProfile(name: kind.rawValue, settings: ["transportType": .string(kind.rawValue)])
            try await domain.device(
                kind.rawValue,
                accessToken: kind.rawValue,
                in: try await domain.store.saveDeviceProfile(profile).id
            )
        }
        return domain
    }
}

/// Bytes in memory that remember what was read of them.
final class TestContent: Content {
    let bytes: [UInt8]
    private let isAtHand: Bool
    private let gate: Gate?
    private let ranges = Mutex<[Range<Int64>]>([])

    /// Makes bytes.
    ///
    /// - Parameters:
    ///   - count: How many.
    ///   - seed: What they are made from.
    ///   - isAtHand: Whether they need not be waited for.
    ///   - gate: What else they wait for.
    init(count: Int, seed: UInt64 = 1, isAtHand: Bool = false, gate: Gate? = nil) {
        self.isAtHand = isAtHand
        self.gate = gate
        var random = SplitMix(state: seed)
        self.bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    var size: Int64 { Int64(self.bytes.count) }
    var reads: [Range<Int64>] { self.ranges.withLock { $0 } }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        await self.gate?.pass()
        return self.take(range)
    }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? { self.isAtHand ? self.take(range) : nil }

    private func take(_ range: Range<Int64>) -> ByteBuffer {
        self.ranges.withLock { $0.append(range) }
        return ByteBuffer(bytes: self.bytes[Int(range.lowerBound)..<Int(range.upperBound)])
    }
}

/// A CoAP endpoint of the test, on a socket of its own.
final class TestPeer: Sendable {
    private struct Mailbox {
        var messages: [CoAPMessage] = []
        var waiters: [CheckedContinuation<CoAPMessage, Never>] = []
    }

    /// Puts what comes into the mailbox.
    private final class Receiver: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let deliver: @Sendable (CoAPMessage) -> Void

        init(_ deliver: @escaping @Sendable (CoAPMessage) -> Void) { self.deliver = deliver }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            if let message = try? CoAPMessage(reading: self.unwrapInboundIn(data).data) { self.deliver(message) }
        }
    }

    private let channel: any Channel
    private let server: SocketAddress
    private let mailbox: Mutex<Mailbox>
    private let nextID = Atomic<UInt16>(1000)

    init(_ listener: Listener) async throws {
        let mailbox = Mutex(Mailbox())
        self.mailbox = consume mailbox
        self.server = try SocketAddress(ipAddress: listener.host, port: listener.port)
        let inbox = Inbox()
        self.channel = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Receiver { inbox.peer?.deliver($0) })
                }
            }
            .bind(host: listener.host, port: 0).get()
        inbox.peer = self
    }

    /// Ties the socket, which is there first, to the peer.
    private final class Inbox: Sendable {
        private struct Weak { weak var peer: TestPeer? }
        private let state = Mutex(Weak())

        var peer: TestPeer? {
            get { self.state.withLock { $0.peer } }
            set { self.state.withLock { $0.peer = newValue } }
        }
    }

    deinit { self.channel.close(promise: nil) }

    private func deliver(_ message: CoAPMessage) {
        let waiter = self.mailbox.withLock { mailbox -> CheckedContinuation<CoAPMessage, Never>? in
            if !mailbox.waiters.isEmpty { return mailbox.waiters.removeFirst() }
            mailbox.messages.append(message)
            return nil
        }
        waiter?.resume(returning: message)
    }

    /// A message ID that was not used before.
    func messageID() -> UInt16 { self.nextID.add(1, ordering: .relaxed).newValue }

    func send(_ bytes: ByteBuffer) async throws {
        try await self.channel.writeAndFlush(AddressedEnvelope(remoteAddress: self.server, data: bytes)).get()
    }

    func send(_ message: CoAPMessage) async throws { try await self.send(message.datagram) }

    /// Waits for a message.
    func receive() async -> CoAPMessage {
        await withCheckedContinuation { continuation in
            let message = self.mailbox.withLock { mailbox -> CoAPMessage? in
                if !mailbox.messages.isEmpty { return mailbox.messages.removeFirst() }
                mailbox.waiters.append(continuation)
                return nil
            }
            if let message { continuation.resume(returning: message) }
        }
    }

    /// Whether nothing has come before the answer to a ping that is sent now, but copies of one message.
    func hasNothing(but repetition: CoAPMessage? = nil) async throws -> Bool {
        let ping = CoAPMessage(.confirmable, .empty, messageID: self.messageID())
        try await self.send(ping)
        var message = await self.receive()
        while message == repetition { message = await self.receive() }
        return message == CoAPMessage(.reset, .empty, messageID: ping.messageID)
    }

    /// Sends a request and waits for what comes next.
    func ask(_ message: CoAPMessage) async throws -> CoAPMessage {
        try await self.send(message.datagram)
        return await self.receive()
    }

    func ask(
        _ code: CoAPCode,
        _ uri: String,
        _ payload: String? = nil,
        _ kind: CoAPMessage.Kind = .confirmable,
        token: UInt64 = 0x77,
        options: [CoAPOption] = []
    ) async throws -> CoAPMessage {
        try await self.ask(
            .request(code, uri, payload, kind: kind, messageID: self.messageID(), token: token, options: options)
        )
    }

    func acknowledge(_ message: CoAPMessage) async throws {
        try await self.send(CoAPMessage(.acknowledgement, .empty, messageID: message.messageID))
    }
}

extension CoAPMessage {
    /// A request for a path with a query, as in a URI.
    static func request(
        _ code: CoAPCode,
        _ uri: String,
        _ payload: String? = nil,
        kind: Kind = .confirmable,
        messageID: UInt16 = 1,
        token: UInt64 = 0x77,
        options: [CoAPOption] = []
    ) -> CoAPMessage {
        let parts = uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var message = CoAPMessage(
            kind,
            code,
            messageID: messageID,
            token: Token(value: token, length: 2),
            options: options,
            payload: ByteBuffer(string: payload ?? "")
        )
        for segment in parts[0].split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
            message.add(CoAPOption(.uriPath, text: String(segment)))
        }
        if parts.count > 1 {
            for argument in parts[1].split(separator: "&") {
                message.add(CoAPOption(.uriQuery, text: String(argument)))
            }
        }
        return message
    }

    var block1: Block? { self.option(.block1).flatMap(Block.init) }
    var block2: Block? { self.option(.block2).flatMap(Block.init) }
    var sequence: UInt32? { self.option(.observe)?.uint }
}

/// A node that serves, for the length of a test.
struct TestNode: Sendable {
    var outlet: TestOutlet
    var sessions: DeviceSessions
    var listener: Listener

    /// Time-outs that no test waits for, however busy the machine is.
    ///
    /// With the defaults of the node, an answer may come by itself or twice when a test is slow.
    static let patience = [
        "port": "0", "host": "127.0.0.1", "piggyback-milliseconds": "60000", "ack-timeout-milliseconds": "60000",
    ]

    /// A new endpoint.
    func peer() async throws -> TestPeer { try await TestPeer(self.listener) }

    /// Runs a node until the test is done, then stops it and waits for its end.
    static func run(
        _ attributes: [String: String] = [:],
        answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) },
        _ body: (TestNode) async throws -> Void
    ) async throws {
        let domain = try await TestDevices.domain()
        let sessions = domain.sessions
        let outlet = TestOutlet(answer)
        let node = try CoAPIngressNode.make(Self.patience.merging(attributes) { $1 }, services: domain.live())
        let running = Task { try await node.run(outlet) }
        let listener = try #require(await outlet.listeners().first)
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(TestNode(outlet: outlet, sessions: sessions, listener: listener)))
        } catch {
            result = .failure(error)
        }
        running.cancel()
        try await running.value
        try result.get()
    }
}

/// A chain for tests: stores nothing, has a few attributes, and one package for the first device.
func chain(_ content: TestContent = TestContent(count: 5000)) -> @Sendable (Message) -> Outcome {
    { message in
        switch message.type {
        case .getAttributesRequest:
            if message.metadata.string("sharedKeys") == "none" { return .completed(.json([:])) }
            return .completed(.json(["client": ["a": 1], "shared": ["fw_title": "T"]]))
        case .packageInfoRequest:
            return .completed(.json(["fw_title": "T", "fw_version": "1"]))
        case .packageChunkRequest:
            guard message.originator == TestDevices.first else { return .completed(nil) }
            if message.metadata.string("title").map({ $0 != "T" }) == true {
                return .completed(.refused(NodeError(.badRequest, "another package is assigned")))
            }
            let size = message.metadata.integer("size") ?? 0
            let chunk = message.metadata.integer("chunk") ?? 0
            let lower = size == 0 ? 0 : min(chunk * size, content.size)
            let upper = size == 0 ? content.size : min(lower + size, content.size)
            return .completed(
                .content(ContentReply(content: content, range: lower..<upper, entityTag: "00112233445566778899"))
            )
        case .toServerRPCRequest:
            guard message.metadata.string("method") == "getTime" else { return .completed(nil) }
            return .completed(.json(["time": 1]))
        default:
            return .completed(nil)
        }
    }
}
