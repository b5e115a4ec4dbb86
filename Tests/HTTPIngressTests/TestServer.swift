import FoundationEssentials
import Logging
import NIOCore
import NIOSSL
import NodeKit
import NodeTesting
import OTA
import Synchronization

@testable import HTTPIngress

/// Devices with access tokens, and one with a certificate.
enum TestDevices {
    static let device = Originator(id: UUID.random(), name: "d1", type: "default")
    static let other = Originator(id: UUID.random(), name: "d2", type: "default")
    static let escaped = Originator(id: UUID.random(), name: "d3", type: "default")
    static let certified = Originator(id: UUID.random(), name: "d4", type: "default")

    /// A domain with these devices, the first of which is in memory from the start.
    static func domain() async throws -> TestDomain {
        let domain = try TestDomain()
        for (device, token) in [(Self.device, "A1"), (Self.other, "B2"), (Self.escaped, "A 1ü"), (Self.certified, nil)]
            as [(Originator, String?)]
        {
            try await domain.add(device, accessToken: token)
        }
        try await domain.certify(DeviceId(Self.certified.id), by: .client)
        _ = try await domain.store.device(accessToken: "A1")
        return domain
    }
}

extension TestDomain {
    /// What a server is lent: devices may come while the store is away.
    var server: NodeServices {
        self.live { $0.register(AwayAuthenticator(before: self), as: (any DeviceAuthenticator).self) }
    }
}

extension TestCertificate {
    /// The certificate in DER form.
    var der: [UInt8] {
        get throws { try NIOSSLCertificate(bytes: Array(self.certificate.utf8), format: .pem).toDERBytes() }
    }
}

/// An ingress node that runs on a port of its own.
struct TestServer: Sendable {
    let port: Int
    /// The port with TLS, if there is one.
    let tlsPort: Int?
    let outlet: TestOutlet
    let domain: TestDomain
    /// The long polls that wait.
    let quota: LongPollQuota

    /// Who listens on behalf of devices.
    var sessions: DeviceSessions { self.domain.sessions }

    /// What the chain was sent.
    var messages: [Message] { self.outlet.sent.map(\.message) }

    /// A connection that is closed when the test is done with it or the server stops.
    func connect(autoRead: Bool = true) async throws -> RawHTTPClient {
        try await RawHTTPClient.connect(port: self.port, autoRead: autoRead)
    }

    /// A connection over TLS.
    func connect(tls: NIOSSLContext) async throws -> RawHTTPClient {
        try await RawHTTPClient.connect(port: self.tlsPort ?? 0, tls: tls)
    }

    /// One request on a connection of its own.
    func exchange(_ request: String, isHead: Bool = false) async throws -> RawHTTPResponse {
        let client = try await self.connect()
        try await client.send(request)
        let response = try await client.response(isHead: isHead)
        try await client.close()
        return response
    }

    /// A `GET` of a path on a connection of its own.
    func get(_ path: String, fields: String = "") async throws -> RawHTTPResponse {
        try await self.exchange("GET \(path) HTTP/1.1\r\nHost: h\r\n\(fields)\r\n")
    }

    /// A `POST` to a path on a connection of its own.
    func post(_ path: String, _ body: String) async throws -> RawHTTPResponse {
        try await self.exchange(
            "POST \(path) HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        )
    }

    /// Waits until the chain was sent a message or a device is listened for; looks again every millisecond, as a loop
    /// that only yields would take the processor from the server.
    func until(_ condition: () -> Bool) async throws {
        while !condition() {
            try Task.checkCancellation()
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    /// Waits until a notification finds a listener, which tells it.
    func notify(_ notification: DeviceNotification, device: Originator = TestDevices.device) async throws {
        try await self.until { self.sessions.notify(device.id, notification) > 0 }
    }
}

/// Time-outs that no test waits for, however busy the machine is.
let patience = [
    "port": "0", "host": "127.0.0.1", "header-timeout-seconds": "600", "body-timeout-seconds": "600",
    "idle-timeout-seconds": "600", "write-timeout-seconds": "600",
]

/// Runs a server while a test uses it, before a chain that waits or, with `atOnce`, one that never does.
func withServer(
    _ attributes: [String: String] = [:],
    stopping: TimeAmount = .seconds(3),
    receiving: (any RecvByteBufferAllocator)? = nil,
    logger: Logger? = nil,
    clock: (any Clock<Duration>)? = nil,
    answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) },
    atOnce: (@Sendable (Message) -> Outcome)? = nil,
    body: (TestServer) async throws -> Void
) async throws {
    let domain = try await TestDevices.domain()
    let outlet = atOnce.map(TestOutlet.init(atOnce:)) ?? TestOutlet(answer)
    var services = domain.server
    if let logger { services.logger = logger }
    if let clock { services.clock = clock }
    let attributes = patience.merging(attributes) { $1 }
    var node = try HTTPIngress.make(attributes, services: services)
    node.server.stopping = stopping
    if let receiving { node.server.receiving = receiving }
    let running = Task { [node] in try await node.run(outlet) }
    let listeners = await outlet.listeners()
    let port = listeners.first { $0.scheme == "http" }?.port ?? 0
    let tlsPort = listeners.first { $0.scheme == "https" }?.port
    let result: Result<Void, any Error>
    do {
        try await body(TestServer(port: port, tlsPort: tlsPort, outlet: outlet, domain: domain, quota: node.quota))
        result = .success(())
    } catch {
        result = .failure(error)
    }
    running.cancel()
    try await running.value
    try result.get()
}

/// Content in memory that counts how it is read.
final class BufferContent: Content {
    let size: Int64
    private let bytes: ByteBuffer
    private let reads = Mutex<[Range<Int64>]>([])
    private let failsFrom: Int64
    private let isAtHand: Bool

    /// Bytes that repeat a pattern; reads fail from an offset on, and what is at hand can be read without waiting.
    init(size: Int64, failsFrom: Int64 = .max, isAtHand: Bool = false) {
        self.size = size
        self.failsFrom = failsFrom
        self.isAtHand = isAtHand
        var bytes = ByteBuffer()
        bytes.reserveCapacity(Int(size))
        // 251 is prime, so that no two pieces of a power of two are alike.
        let pattern = (0..<251 * 256).map { UInt8($0 % 251) }
        while bytes.readableBytes < size { bytes.writeBytes(pattern.prefix(Int(size) - bytes.readableBytes)) }
        self.bytes = bytes
    }

    /// The ranges that were read, in order.
    var ranges: [Range<Int64>] { self.reads.withLock { $0 } }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        self.reads.withLock { $0.append(range) }
        guard range.upperBound <= self.failsFrom else { throw NodeError(.unavailable, "the disk is away") }
        return self.slice(range)
    }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        guard self.isAtHand, range.upperBound <= self.failsFrom else { return nil }
        return self.slice(range)
    }

    /// The bytes themselves.
    func slice(_ range: Range<Int64>) -> ByteBuffer {
        self.bytes.getSlice(at: Int(range.lowerBound), length: range.count) ?? ByteBuffer()
    }
}

/// Answers requests for a package as `chunk-serve` does.
func serve(_ content: any Content, fileName: String = "fw.bin") -> @Sendable (Message) -> Outcome {
    { message in
        let size = message.metadata.integer(MessageKey.size) ?? 0
        let chunk = message.metadata.integer(MessageKey.chunk) ?? 0
        var reply = ContentReply(content: content, range: 0..<content.size, fileName: fileName, entityTag: "abc123")
        if size > 0 {
            let start = min(chunk * size, content.size)
            reply.range = start..<min(start + size, content.size)
            reply.chunkIndex = chunk
            reply.chunksCount = (content.size + size - 1) / size
        }
        return .completed(.content(reply))
    }
}

/// Remembers what is logged.
final class Log: Sendable {
    private let entries = Mutex<[String]>([])

    /// The messages so far.
    var messages: [String] { self.entries.withLock { $0 } }

    /// A logger that writes here.
    var logger: Logger { Logger(label: "test") { _ in Handler(log: self) } }

    private struct Handler: LogHandler {
        let log: Log
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { self.metadata[key] }
            set { self.metadata[key] = newValue }
        }

        func log(event: LogEvent) { self.log.entries.withLock { $0.append(event.message.description) } }
    }
}
