import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import CoAPIngress

@Suite("Answers that need not be waited for", .timeLimit(.minutes(5)))
struct AtOnceTests {
    /// A handler that has everything in memory, but what a test says.
    private static func still(
        _ attributes: [String: String] = [:],
        knowsDevices: Bool = true,
        answer: @escaping @Sendable (Message) -> Outcome = chain(TestContent(count: 5000, isAtHand: true))
    ) async throws -> StillTime {
        try await StillTime(attributes, TestOutlet(atOnce: answer), knowsDevices: knowsDevices)
    }

    private static func block(_ number: UInt32, of path: String = "/fw/T1", _ messageID: UInt16) -> CoAPMessage {
        let block = Block(number: number, more: false, exponent: 6)
        return .request(.get, path, messageID: messageID, token: UInt64(messageID), options: [block.option(.block2)])
    }

    @Test("a block is answered within the read that brought its request, and nothing is remembered of it")
    func sameRead() async throws {
        let content = TestContent(count: 5000, isAtHand: true)
        let time = try await Self.still(answer: chain(content))
        try await time.read((0..<5).map { Self.block(UInt32($0), UInt16(10 + $0)) })
        for number in 0..<5 {
            let answer = try #require(try await time.sent())
            #expect(answer.kind == .acknowledgement && answer.code == .content)
            #expect(answer.messageID == UInt16(10 + number) && answer.token.value == UInt64(10 + number))
            #expect(answer.block2 == Block(number: UInt32(number), more: number < 4, exponent: 6))
            let range = number * 1024..<min((number + 1) * 1024, 5000)
            #expect(Array(answer.payload.readableBytesView) == Array(content.bytes[range]))
        }
        #expect(try await time.sent() == nil)
        #expect(content.reads.count == 5 && time.outlet.sent.count == 5)
        #expect(try await Self.rememberedCount(time) == 0)
        // Nor does anything wake us for it.
        await time.pass(.hours(1))
        #expect(try await time.sent() == nil)
    }

    @Test("messages of one read have the same time, those of the next another")
    func timestamps() async throws {
        let clock = Atomic<Int64>(1)
        let time = try await StillTime(
            [:],
            TestOutlet(atOnce: chain()),
            knowsDevices: true,
            now: { Timestamp(milliseconds: clock.add(1, ordering: .relaxed).oldValue) }
        )
        for messageID in [1, 4] as [UInt16] {
            try await time.read((messageID..<messageID + 3).map { Self.block(0, $0) })
        }
        #expect(time.outlet.sent.map(\.message.timestamp.rawValue) == [1, 1, 1, 2, 2, 2])
    }

    @Test("while the socket takes no more, answers are lost rather than gathered")
    func unwritable() async throws {
        let time = try await Self.still()
        let channel = time.channel
        for isWritable in [false, true] {
            try await channel.testingEventLoop.executeInContext {
                channel.isWritable = isWritable
                channel.pipeline.fireChannelWritabilityChanged()
            }
            try await time.read([Self.block(0, 1)])
            #expect(try await time.sent()?.code == (isWritable ? .content : nil))
        }
        #expect(try await time.sent() == nil)
    }

    private static func rememberedCount(_ time: StillTime) async throws -> Int {
        try await time.channel.testingEventLoop.executeInContext { time.handler.value.rememberedCount }
    }

    /// What a request has to wait for.
    enum Wait: CaseIterable {
        case device, chain, content
    }

    @Test(
        "a request that waits holds up none of the others, and is answered in its acknowledgement",
        arguments: Wait.allCases
    )
    func waits(wait: Wait) async throws {
        let gate = Gate()
        let slow = TestContent(count: 5000, gate: gate)
        let prompt = TestContent(count: 5000, seed: 2, isAtHand: true)
        let outlet: TestOutlet
        switch wait {
        case .device, .chain:
            // The nodes of such a chain wait also for what is at hand.
            outlet = TestOutlet { message in
                if message.metadata.string("packageType") == "FIRMWARE" { await gate.pass() }
                return chain(prompt)(message)
            }
        case .content:
            outlet = TestOutlet(atOnce: { chain($0.metadata.string("packageType") == "FIRMWARE" ? slow : prompt)($0) })
        }
        let time = try await StillTime([:], outlet, knowsDevices: wait != .device)
        try await time.send([Self.block(0, 1), Self.block(0, of: "/sw/T1", 2), Self.block(1, 3)])
        await gate.arrived(2)
        #expect(try await time.receive().messageID == 2)
        #expect(try await time.sent() == nil)
        gate.open()
        var answered: Set<UInt16> = []
        for _ in 0..<2 {
            let answer = try await time.receive()
            #expect(answer.kind == .acknowledgement && answer.code == .content)
            answered.insert(answer.messageID)
        }
        #expect(answered == [1, 3] && outlet.sent.count == 3)
    }

    @Test("a repeated request is answered alike; what took a wait is not asked for again", arguments: [true, false])
    func repeated(isAtHand: Bool) async throws {
        let content = TestContent(count: 5000, isAtHand: isAtHand)
        let time = try await Self.still(answer: chain(content))
        let answer = try await time.ask(Self.block(1, 7))
        #expect(answer.code == .content)
        #expect(try await time.ask(Self.block(1, 7)) == answer)
        #expect(time.outlet.sent.count == (isAtHand ? 2 : 1))
        // RFC 7252 §4.5: a repeated non-confirmable message is ignored, however little it takes to answer it.
        var request = Self.block(1, 8)
        request.kind = .nonConfirmable
        #expect(try await time.ask(request).code == .content)
        try await time.send(request)
        #expect(try await time.sent() == nil)
    }

    @Test("a post is carried out once, also where a block with the same message ID would be answered again")
    func posts() async throws {
        let time = try await Self.still()
        let post = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: 7)
        let answer = try await time.ask(post)
        #expect(answer.code == .created)
        #expect(try await time.ask(Self.block(0, 7)) == answer)
        #expect(try await time.ask(post) == answer)
        #expect(time.outlet.sent.count == 1)
    }

    @Test("who is not let in is told so, whether devices are in memory or not", arguments: [true, false])
    func refused(knowsDevices: Bool) async throws {
        let time = try await Self.still(knowsDevices: knowsDevices)
        #expect(try await time.ask(Self.block(0, of: "/fw/bad", 1)).code == .unauthorized)
        #expect(try await time.ask(Self.block(0, of: "/fw/MQTT", 2)).code == .internalServerError)
        #expect(try await time.ask(Self.block(0, of: "/fw/COAP", 3)).code == .notFound)
        #expect(time.outlet.sent.count == 1)
    }

    @Test("a request counts once against the limit of its device", arguments: [true, false])
    func rate(knowsDevices: Bool) async throws {
        let time = try await Self.still(["device-requests-per-second-max": "2"], knowsDevices: knowsDevices)
        let codes = try await Self.codes(time, count: 3)
        #expect(codes == [.content, .content, .tooManyRequests])
        await time.pass(.milliseconds(500))
        #expect(try await time.ask(Self.block(0, 9)).code == .content)
        // Another device has its own.
        #expect(try await time.ask(Self.block(0, of: "/fw/T2", 10)).code == .notFound)
    }

    private static func codes(_ time: StillTime, count: UInt16) async throws -> [CoAPCode] {
        var codes: [CoAPCode] = []
        for messageID in 1...count { codes.append(try await time.ask(Self.block(0, messageID)).code) }
        return codes
    }

    @Test("errors of the chain become codes")
    func failures() async throws {
        let outcomes: [(Outcome, CoAPCode)] = [
            (.failed(NodeError(.internalError, "why")), .internalServerError),
            (.completed(.refused(NodeError(.badRequest, "why"))), .badRequest),
            (.completed(nil), .notFound),
        ]
        for (outcome, code) in outcomes {
            let time = try await Self.still { _ in outcome }
            try await time.read([Self.block(0, 1)])
            #expect(try await time.sent()?.code == code)
        }
        // What is wrong with a request is told without asking the chain.
        let time = try await Self.still()
        try await time.read([.request(.get, "/fw/T1?size=x")])
        #expect(try await time.sent()?.code == .badRequest && time.outlet.sent.isEmpty)
    }

    @Test("when the node stops, what is under way is answered and what comes is not, then the socket closes")
    func draining() async throws {
        let gate = Gate()
        let time = try await Self.still(answer: chain(TestContent(count: 5000, gate: gate)))
        try await time.send(Self.block(0, 1))
        await gate.arrived()
        try await time.channel.testingEventLoop.executeInContext { time.handler.value.drain() }
        try await time.read([Self.block(1, 2)])
        #expect(try await time.sent() == nil)
        gate.open()
        #expect(try await time.receive().messageID == 1)
        try await time.channel.closeFuture.get()
        #expect(time.outlet.sent.count == 1)
    }

    @Test("a node that has answered all it got stops at once")
    func drained() async throws {
        let time = try await Self.still()
        try await time.read([Self.block(0, 1)])
        try await time.channel.testingEventLoop.executeInContext { time.handler.value.drain() }
        await time.channel.testingEventLoop.run()
        try await time.channel.closeFuture.get()
        #expect(try await time.sent()?.code == .content)
    }
}

@Suite("Memory for datagrams")
struct DatagramMemoryTests {
    private func fill(_ memory: inout DatagramMemory, _ text: String) -> ByteBuffer {
        memory.fill { $0.writeString(text) }
    }

    @Test("what is not sent yet keeps its bytes; what is sent leaves its memory to the next")
    func reuse() {
        var memory = DatagramMemory()
        let datagrams = (0..<DatagramMemory.countMax + 2).map { self.fill(&memory, "datagram \($0)") }
        #expect(datagrams.enumerated().allSatisfy { $1.text == "datagram \($0)" })
        memory.sent()
        // The socket took none.
        let next = (0..<3).map { self.fill(&memory, "next \($0)") }
        #expect(next.map(\.text) == ["next 0", "next 1", "next 2"])
        #expect(datagrams.enumerated().allSatisfy { $1.text == "datagram \($0)" })
    }

    @Test("one datagram after the other has the same memory")
    func same() {
        var memory = DatagramMemory()
        var addresses: Set<UInt> = []
        for index in 0..<10 {
            let bytes = self.fill(&memory, "datagram \(index)")
            addresses.insert(bytes.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) })
            memory.sent()
        }
        #expect(addresses.count == 1)
    }
}
