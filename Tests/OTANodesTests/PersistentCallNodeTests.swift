import NodeKit
import NodeTesting
import OTA
import Store
import Synchronization
import Testing

@testable import OTANodes

/// A host's calls, `calls` leading to `rpc-request`.
private struct CallChain {
    let domain: TestDomain

    static func run(_ attributes: [String: String] = [:], _ body: (CallChain) async throws -> Void) async throws {
        let chain = CallChain(domain: try TestDomain())
        try await chain.domain.add(.device)
        try await chain.running { try await body(chain) }
    }

    var store: SQLiteStore { self.domain.store }
    var sessions: DeviceSessions { self.domain.sessions }
    var calls: DeviceCalls { self.domain.calls }
    var device: Originator { .device }

    private var services: NodeServices { self.domain.services() }

    /// Runs the node while a body runs.
    func running(_ body: () async throws -> Void) async throws {
        let ask = try RPCRequestNode.make(services: self.services)
        let outlet = TestOutlet { message in
            do {
                return .completed(try await ask.process(message).only.message.reply)
            } catch {
                return .failed(NodeError(wrapping: error))
            }
        }
        let node = try CallsNode.make(services: self.services)
        let run = Task { try await node.run(outlet) }
        defer { run.cancel() }
        _ = await outlet.listeners()
        try await body()
        run.cancel()
        try await run.value
    }

    func add(
        _ method: String = "m",
        isOneWay: Bool = false,
        timeout: Duration = .seconds(60),
        expires: Duration = .seconds(600),
        retries: Int = 0
    ) async throws -> PersistentCallId {
        let call = PersistentCall(
            device: self.device,
            createdTime: self.domain.now(),
            expirationTime: self.domain.now().adding(expires),
            method: method,
            params: 1,
            isOneWay: isOneWay,
            timeout: timeout,
            retriesLeft: retries
        )
        try await self.store.addCall(call)
        return call.id
    }

    /// Lets time pass until the call has this status.
    func reaches(_ status: PersistentCall.Status, _ id: PersistentCallId) async throws {
        try await eventually {
            self.domain.clock.advance(by: .milliseconds(10))
            return try await self.store.call(id)?.status == status
        }
    }

    /// Listens for calls as a session of the device, and answers each at once unless it returns `nil`.
    func listen(_ answer: @escaping @Sendable (String) -> JSON?) -> DeviceSessions.Subscription {
        self.sessions.subscribeSelectively(self.device.id, interests: .calls) { notification in
            guard case .rpcRequest(let id, let method, _) = notification else { return false }
            guard let answer = answer(method) else { return true }
            _ = self.calls.answer(Int64(id), of: self.device.id, with: answer)
            return true
        }
    }
}

@Suite(.timeLimit(.minutes(5))) struct PersistentCallNodeTests {
    @Test func `a device that returns gets what waits for it, in order, and its answers are stored`() async throws {
        try await CallChain.run { chain in
            let first = try await chain.add("a")
            let second = try await chain.add("b", isOneWay: true)
            let third = try await chain.add("c")
            let seen = Mutex<[String]>([])
            let subscription = chain.listen { method in
                seen.withLock { $0.append(method) }
                return .string("answer to \(method)")
            }
            try await chain.reaches(.successful, third)
            #expect(seen.withLock { $0 } == ["a", "b", "c"])
            #expect(try await chain.store.call(first)?.response == "answer to a")
            #expect(try await chain.store.call(second)?.status == .delivered)
            #expect(try await chain.store.call(second)?.response == nil)
            // One that is connected gets what is new at once.
            try await chain.reaches(.successful, try await chain.add("d"))
            chain.sessions.unsubscribe(subscription)
        }
    }

    @Test func `a call that is taken is SENT until the device answers`() async throws {
        try await CallChain.run { chain in
            let subscription = chain.listen { _ in nil }
            let id = try await chain.add()
            try await chain.reaches(.sent, id)
            #expect(chain.calls.answer(1, of: chain.device.id, with: ["on": true]))
            try await chain.reaches(.successful, id)
            #expect(try await chain.store.call(id)?.response == ["on": true])
            chain.sessions.unsubscribe(subscription)
        }
    }

    @Test func `a device that does not answer is asked as often as allowed`() async throws {
        try await CallChain.run { chain in
            let count = Mutex(0)
            let subscription = chain.listen { _ in
                count.withLock { $0 += 1 }
                return nil
            }
            let id = try await chain.add(timeout: .milliseconds(20), retries: 2)
            try await chain.reaches(.timeout, id)
            #expect(count.withLock { $0 } == 3)
            chain.sessions.unsubscribe(subscription)
        }
    }

    @Test func `a call whose device does not come expires`() async throws {
        try await CallChain.run { chain in
            let id = try await chain.add(timeout: .milliseconds(10), expires: .milliseconds(50))
            try await chain.reaches(.expired, id)
        }
    }

    @Test func `what was under way when the host stopped is carried again`() async throws {
        try await CallChain.run { chain in
            let subscription = chain.listen { _ in nil }
            let id = try await chain.add()
            try await chain.reaches(.sent, id)
            chain.sessions.unsubscribe(subscription)
            // A second node carries nothing while the first one does.
            #expect(!chain.calls.beginCarryingStored())
            try await chain.store.requeueCalls()
            #expect(try await chain.store.call(id)?.status == .queued)
            _ = chain.calls.answer(1, of: chain.device.id, with: nil)
            try await chain.reaches(.failed, id)
        }
    }
}
