import FoundationEssentials
import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import OTANodes

@Suite struct RPCNodesTests {
    private let sessions = DeviceSessions()
    private let calls: DeviceCalls

    init() { self.calls = DeviceCalls(sessions: self.sessions, clock: ContinuousClock(), lastRequest: 0) }

    private func services(clock: any Clock<Duration> = ContinuousClock()) -> NodeServices {
        .testing(
            { $0.register(self.calls, as: DeviceCalls.self) },
            clock: clock,
            now: { Timestamp(milliseconds: 1000) }
        )
    }

    private func request(_ metadata: Metadata = [:], _ data: JSON? = ["a": 1]) -> Message {
        var message = Message.of(.rpcCallFromServerToDevice, metadata, data)
        if metadata["method"] == nil { message.metadata[MessageKey.method] = "m" }
        return message
    }

    /// A session of the device that answers each call.
    private func answer(_ answer: JSON?) {
        _ = self.sessions.subscribe(Originator.device.id) { notification in
            guard case .rpcRequest(let id, _, _) = notification else { return }
            _ = self.calls.answer(Int64(id), of: Originator.device.id, with: answer)
        }
    }

    // MARK: rpc-request

    @Test func `asks the device and goes on with its answer`() async throws {
        let told = Mutex<[DeviceNotification]>([])
        _ = self.sessions.subscribe(Originator.device.id) { call in told.withLock { $0.append(call) } }
        self.answer(["ok": true])
        let node = try RPCRequestNode.make(services: self.services())
        let (message, relation) = try await node.process(self.request()).only
        #expect(relation == .success)
        #expect(message.json == ["ok": true])
        #expect(message.data == .json(["ok": true]))
        #expect(told.withLock { $0 } == [.rpcRequest(id: 1, method: "m", params: ["a": 1])])
    }

    @Test(
        arguments: [(["one-way": "true"], [:]), ([:], ["oneway": true]), (["one-way": "false"], ["oneway": true])]
            as [([String: String], Metadata)]
    )
    func `one way, waits for no answer`(attributes: [String: String], metadata: Metadata) async throws {
        _ = self.sessions.subscribe(Originator.device.id) { _ in }
        let node = try RPCRequestNode.make(attributes, services: self.services())
        let (message, relation) = try await node.process(self.request(metadata)).only
        #expect(relation == .success)
        guard case .empty = message.reply else {
            Issue.record("\(String(describing: message.reply))")
            return
        }
        #expect(message.data == .json(["a": 1]))
    }

    @Test(arguments: ["true", "false"])
    func `says that the device is not connected`(waits: String) async throws {
        let node = try RPCRequestNode.make(["wait-for-device": waits], services: self.services(clock: LeapingClock()))
        let (message, relation) = try await node.process(self.request()).only
        #expect(relation == "NotConnected")
        #expect(message.refusal?.code == .deviceNotConnected)
    }

    @Test(
        "says that the device did not answer in the time that is left",
        arguments: [
            ([:], [:], 10), (["timeout-seconds": "3600"], [:], 3600), ([:], ["expirationTime": 8000], 7),
            (["timeout-seconds": "1"], ["expirationTime": 900], 0),
        ] as [([String: String], Metadata, Int)]
    )
    func timeOut(attributes: [String: String], metadata: Metadata, seconds: Int) async throws {
        _ = self.sessions.subscribe(Originator.device.id) { _ in }
        let clock = LeapingClock()
        let node = try RPCRequestNode.make(attributes, services: self.services(clock: clock))
        let (message, relation) = try await node.process(self.request(metadata)).only
        #expect(relation == "TimedOut")
        #expect(message.refusal?.code == .timedOut)
        // The clock moves on by itself between a sleep's beginning and its end.
        #expect(clock.sleeps.map { ($0 + .milliseconds(900)).components.seconds } == [Int64(seconds)])
    }

    @Test(arguments: ["0", "3601"]) func `a call takes 1 to 3600 seconds`(seconds: String) {
        #expect(throws: NodeError.self) {
            try RPCRequestNode.make(["timeout-seconds": seconds], services: self.services())
        }
    }

    @Test func `calls the method of its own with the data of any message`() async throws {
        let told = Mutex<[DeviceNotification]>([])
        _ = self.sessions.subscribe(Originator.device.id) { call in told.withLock { $0.append(call) } }
        let node = try RPCRequestNode.make(["method": "mine", "one-way": "true"], services: self.services())
        for data in [JSON.string("x"), nil] {
            #expect(try await node.process(.of(.postTelemetryRequest, [:], data)).only.relation == .success)
        }
        #expect(
            told.withLock { $0 } == [
                .rpcRequest(id: 1, method: "mine", params: "x"), .rpcRequest(id: 2, method: "mine", params: nil),
            ]
        )
    }

    @Test func `fails without a method, with bytes, and with an answer that is no JSON`() async throws {
        self.answer(nil)
        let node = try RPCRequestNode.make(services: self.services())
        var bytes = self.request()
        bytes.data = .bytes(ByteBuffer(string: "x"))
        for (message, code) in [
            (Message.of(.postTelemetryRequest), NodeError.Code.badRequest), (self.request(["method": ""]), .badRequest),
            (bytes, .badRequest), (self.request(), .badAnswer),
        ] {
            let error = await #expect(throws: NodeError.self) { try await node.process(message) }
            #expect(error?.code == code)
        }
    }

    // MARK: rpc-reply

    @Test(
        arguments: [
            (.json(["r": 1]), .json(["r": 1])), (.none, .json(.null)),
            (.bytes(ByteBuffer(string: "[1]")), .json([1])), (.bytes(ByteBuffer(string: "{")), nil),
        ] as [(MessageData, MessageData?)]
    )
    func `brings an answer to the call that waits for it, once`(data: MessageData, expected: MessageData?) async throws
    {
        let reply = try RPCReplyNode.make(services: self.services())
        let request = try RPCRequestNode.make(services: self.services())
        let ids = AsyncStream.makeStream(of: Int.self)
        _ = self.sessions.subscribe(Originator.device.id) { notification in
            if case .rpcRequest(let id, _, _) = notification { ids.continuation.yield(id) }
        }
        let answered = Task { [message = self.request()] in try await request.process(message) }
        var iterator = ids.stream.makeAsyncIterator()
        let id = try #require(await iterator.next())
        var message = Message.of(.toServerRPCResponse, [MessageKey.requestId: .string("\(id)")])
        message.data = data
        #expect(try await reply.process(message).only.relation == .success)
        #expect(try await reply.process(message).only.relation == "Unmatched")
        if let expected {
            #expect(try await answered.value.only.message.data == expected)
        } else {
            let error = await #expect(throws: NodeError.self) { try await answered.value }
            #expect(error?.code == .badAnswer)
        }
    }

    @Test func `an answer says what it answers`() async throws {
        let node = try RPCReplyNode.make(services: self.services())
        let error = await #expect(throws: NodeError.self) { try await node.process(.of(.toServerRPCResponse)) }
        #expect(error?.code == .badRequest)
    }

    // MARK: calls

    @Test func `a call becomes a message, and what the chain replies its answer`() async throws {
        let node = try CallsNode.make(services: self.services())
        let outlet = TestOutlet { message in .completed(.json(["method": message.metadata["method"] ?? .null])) }
        let running = Task { try await node.run(outlet) }
        #expect(await outlet.listeners().isEmpty)
        let call = RemoteCall(
            device: .device,
            method: "m",
            params: ["a": 1],
            isOneWay: true,
            timeout: .milliseconds(1500)
        )
        #expect(try await self.calls.call(call) == ["method": "m"])
        running.cancel()
        try await running.value
        let sent = try #require(outlet.sent.first)
        #expect(sent.relation == .success)
        #expect(sent.message.originator == .device)
        #expect(sent.message.type == .rpcCallFromServerToDevice)
        #expect(sent.message.metadata == ["method": "m", "oneway": true, "expirationTime": 2500])
        #expect(sent.message.data == .json(["a": 1]))
        await #expect(throws: NodeError.self) { try await self.calls.call(call) }
    }
}
