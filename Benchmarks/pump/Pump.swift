// A plugin of the benchmarks: a node where messages start that measures its own chain, and one that only lets them pass.
import FoundationEssentials
import Glibc
import NIOCore
import NodeKit
import PluginEntry

/// Hands the host the node types.
@c(windlass_plugin_Pump)
public func plugin() -> UnsafeMutableRawPointer {
    Plugin(
        name: "Pump",
        version: "1.0.0",
        namespace: "urn:windlass:benchmark",
        nodes: [PumpNode.self, PassNode.self, DecideNode.self, AnswerNode.self]
    ).exported()
}

/// Lets every message pass.
struct PassNode: Node {
    static let descriptor = NodeDescriptor(
        type: "pass",
        summary: "Lets every message pass.",
        relations: [RelationDescriptor(.success, "Always.")]
    )

    init(configuration: Configuration, services: NodeServices) throws {}

    func process(_ message: Message) async throws -> Emission { .route(message, to: .success) }
}

/// Lets every message pass, without waiting for anything.
struct DecideNode: ImmediateNode {
    static let descriptor = NodeDescriptor(
        type: "decide",
        summary: "Lets every message pass at once.",
        relations: [RelationDescriptor(.success, "Always.")]
    )

    init(configuration: Configuration, services: NodeServices) throws {}

    func decide(_ message: consuming Message) throws -> Emission { .route(message, to: .success) }
}

/// Answers every request for a chunk at once with bytes of a file that is in memory: what is left is what the ingress takes.
struct AnswerNode: ImmediateNode {
    static let descriptor = NodeDescriptor(
        type: "answer",
        summary: "Answers every request for a chunk with bytes of a file.",
        relations: [RelationDescriptor(.success, "Always.")],
        attributes: [.string("file", summary: "The file.")]
    )

    private struct Bytes: Content {
        let bytes: ByteBuffer

        var size: Int64 { Int64(self.bytes.readableBytes) }

        func read(_ range: Range<Int64>) async throws -> ByteBuffer { self.readAtOnce(range) ?? ByteBuffer() }

        func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
            self.bytes.getSlice(at: Int(range.lowerBound), length: range.count)
        }
    }

    private let content: Bytes

    init(configuration: Configuration, services: NodeServices) throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: configuration.string("file")))
        self.content = Bytes(bytes: ByteBuffer(bytes: bytes))
    }

    func decide(_ message: consuming Message) throws -> Emission {
        let size = message.metadata.integer("size") ?? 0
        let chunk = message.metadata.integer("chunk") ?? 0
        var reply = ContentReply(
            content: self.content,
            range: chunk * size..<min(chunk * size + size, self.content.size),
            fileName: "firmware.bin",
            contentType: "application/octet-stream",
            entityTag: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        )
        reply.chunkIndex = chunk
        reply.chunksCount = (self.content.size + size - 1) / size
        return .route(message.replying(.content(reply)), to: .success)
    }
}

/// Sends one message many times over, one after the other, and prints what each took: `pump NANOSECONDS`.
///
/// Counts the time that the process was on a processor, so that other processes do not count.
struct PumpNode: IngressNode {
    static let descriptor = NodeDescriptor(
        type: "pump",
        summary: "Measures what a message takes.",
        relations: [RelationDescriptor(.success, "Each message.")],
        attributes: [
            .integer("count", default: 200_000, in: 1...100_000_000, summary: "How many messages a round has."),
            .integer(
                "rounds",
                default: 5,
                in: 1...1000,
                summary: "How many rounds are measured, after one that is not."
            ),
            .string(
                "device",
                optional: true,
                summary: "The identifier of a device, whose chunk requests the messages are."
            ),
        ],
        variables: [
            VariableDescriptor("size", "Bytes of a chunk."), VariableDescriptor("battery", "A number."),
            VariableDescriptor("fw_state", "A text."),
        ]
    )

    private let count: Int64
    private let rounds: Int64
    private let message: Message
    private let eventLoop: any EventLoop

    init(configuration: Configuration, services: NodeServices) throws {
        self.count = configuration.integer("count")
        self.rounds = configuration.integer("rounds")
        self.eventLoop = services.eventLoopGroup.next()
        let device = configuration.stringIfPresent("device").flatMap(UUID.init(uuidString:))
        self.message = Message(
            originator: Originator(id: device ?? UUID.random(), name: "pump", type: "default"),
            type: "PACKAGE_CHUNK_REQUEST",
            metadata: [
                "transport": "mqtt", "packageType": "FIRMWARE", "chunk": .integer(3), "size": .integer(16384),
                "battery": .integer(70), "fw_state": "DOWNLOADING",
            ],
            timestamp: services.now()
        )
    }

    func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        let executor = EventLoopTaskExecutor(self.eventLoop)
        try await withTaskExecutorPreference(executor) {
            for round in 0...self.rounds {
                let start = Self.processNanoseconds
                for _ in 0..<self.count {
                    let outcome =
                        switch outlet.begin(self.message, by: .success) {
                        case .now(let outcome): outcome
                        case .suspended(let rest): await rest()
                        }
                    if case .failed(let error) = outcome { throw error }
                }
                let each = Double(Self.processNanoseconds - start) / Double(self.count)
                if round > 0 { print("pump \(each)") }
            }
            print("pump end")
            fflush(nil)
        }
        try await Task.sleep(for: .seconds(3600))
    }

    private static var processNanoseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
