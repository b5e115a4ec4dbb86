import FoundationEssentials
import NodeKit
import Synchronization
import Testing
import Waiting

@testable import OTA

@Suite struct DeviceCallsTests {
    private let sessions = DeviceSessions()
    private let device = Originator(id: UUID.random(), name: "pump", type: "default")

    private func calls(
        _ limits: DeviceCalls.Limits = DeviceCalls.Limits(),
        clock: any Clock<Duration> = ContinuousClock(),
        lastRequest: Int32 = 6
    ) -> DeviceCalls {
        DeviceCalls(sessions: self.sessions, limits: limits, clock: clock, lastRequest: lastRequest)
    }

    private func call(isOneWay: Bool = false) -> RemoteCall {
        RemoteCall(device: self.device, method: "m", params: [1], isOneWay: isOneWay, timeout: .seconds(600))
    }

    private func ask(
        _ calls: DeviceCalls,
        isOneWay: Bool = false,
        waits: Bool = true,
        clock: any Clock<Duration> = ContinuousClock()
    ) async throws(NodeError) -> JSON? {
        try await calls.ask(self.call(isOneWay: isOneWay), waitsForDevice: waits, clock: clock)
    }

    /// What `body` throws, as a code.
    private func code(_ body: () async throws(NodeError) -> JSON?) async -> NodeError.Code? {
        do {
            _ = try await body()
            return nil
        } catch {
            return error.code
        }
    }

    // MARK: Asking

    @Test func `a call goes to the sessions, and the answer of its device ends it`() async throws {
        let calls = self.calls()
        _ = self.sessions.subscribe(self.device.id) { notification in
            #expect(notification == .rpcRequest(id: 7, method: "m", params: [1]))
            #expect(!calls.answer(7, of: UUID.random(), with: "of another"))
            #expect(!calls.answer(8, of: self.device.id, with: "to another"))
            #expect(!calls.answer(.max, of: self.device.id, with: "to none"))
            #expect(calls.answer(7, of: self.device.id, with: "yes"))
            #expect(!calls.answer(7, of: self.device.id, with: "again"))
        }
        #expect(try await self.ask(calls) == "yes")
        #expect(!calls.answer(7, of: self.device.id, with: "too late"))
    }

    @Test func `one way, a call ends when a session takes it`() async throws {
        let calls = self.calls()
        let told = Mutex(0)
        _ = self.sessions.subscribe(self.device.id) { _ in told.withLock { $0 += 1 } }
        #expect(try await self.ask(calls, isOneWay: true) == nil)
        #expect(told.withLock { $0 } == 1)
        #expect(!calls.answer(7, of: self.device.id, with: "nobody asked"))
    }

    @Test func `what is no JSON is told as such`() async {
        let calls = self.calls()
        _ = self.sessions.subscribe(self.device.id) { _ in _ = calls.answer(7, of: self.device.id, with: nil) }
        #expect(await self.code { () throws(NodeError) in try await self.ask(calls) } == .badAnswer)
    }

    @Test(arguments: [true, false])
    func `a call that no session takes is not connected, at once or when its time is over`(waits: Bool) async {
        let calls = self.calls()
        _ = self.sessions.subscribeSelectively(self.device.id) { _ in false }
        for isOneWay in [true, false] {
            let code = await self.code { () throws(NodeError) in
                try await self.ask(calls, isOneWay: isOneWay, waits: waits, clock: InstantClock())
            }
            #expect(code == .deviceNotConnected)
        }
        #expect(self.sessions.heldCount == 0)
    }

    @Test func `a call that a session took and the device does not answer times out`() async {
        let calls = self.calls()
        _ = self.sessions.subscribe(self.device.id) { _ in }
        #expect(
            await self.code { () throws(NodeError) in try await self.ask(calls, clock: InstantClock()) } == .timedOut
        )
        #expect(!calls.answer(7, of: self.device.id, with: "too late"))
    }

    @Test(arguments: [true, false])
    func `a call waits for the first session that takes it`(isOneWay: Bool) async throws {
        let calls = self.calls()
        async let answer = self.ask(calls, isOneWay: isOneWay)
        while self.sessions.heldCount == 0 { await Task.yield() }
        let refusing = self.sessions.subscribeSelectively(self.device.id) { _ in false }
        #expect(self.sessions.heldCount == 1)
        self.sessions.unsubscribe(refusing)
        let told = Mutex<[DeviceNotification]>([])
        for _ in 0..<2 { _ = self.sessions.subscribe(self.device.id) { call in told.withLock { $0.append(call) } } }
        #expect(told.withLock { $0 } == [.rpcRequest(id: 7, method: "m", params: [1])])
        #expect(calls.answer(7, of: self.device.id, with: "yes") == !isOneWay)
        #expect(try await answer == (isOneWay ? nil : "yes"))
        #expect(self.sessions.heldCount == 0)
    }

    @Test func `a session that takes one call at a time gets the next when it comes again`() async throws {
        let calls = self.calls()
        let answers = try await withThrowingTaskGroup(of: JSON?.self) { group in
            for _ in 0..<2 { group.addTask { try await self.ask(calls) } }
            while self.sessions.heldCount < 2 { await Task.yield() }
            for left in [1, 0] {
                let taken = Mutex<Int?>(nil)
                let poll = self.sessions.subscribeSelectively(self.device.id) { notification in
                    guard case .rpcRequest(let id, _, _) = notification else { return false }
                    return taken.withLock { taken in
                        guard taken == nil else { return false }
                        taken = id
                        return true
                    }
                }
                self.sessions.unsubscribe(poll)
                #expect(self.sessions.heldCount == left)
                let id = try #require(taken.withLock { $0 })
                #expect(calls.answer(Int64(id), of: self.device.id, with: .integer(Int64(id))))
            }
            return try await group.reduce(into: Set<JSON?>()) { $0.insert($1) }
        }
        #expect(answers == [7, 8])
    }

    @Test func `a call ends with its task`() async {
        let calls = self.calls()
        let task = Task { await self.code { () throws(NodeError) in try await self.ask(calls) } }
        while self.sessions.heldCount == 0 { await Task.yield() }
        task.cancel()
        #expect(await task.value == .unavailable)
        #expect(self.sessions.heldCount == 0)
    }

    @Test func `so many calls of a device may be under way, and so many in all`() async {
        var limits = DeviceCalls.Limits()
        limits.callsPerDeviceMax = 2
        limits.callsMax = 3
        let calls = self.calls(limits)
        let devices = (0..<2).map { Originator(id: UUID.random(), name: "d\($0)", type: "default") }
        let ids = Mutex<[(UUID, Int)]>([])
        for device in devices {
            _ = self.sessions.subscribe(device.id) { notification in
                guard case .rpcRequest(let id, _, _) = notification else { return }
                ids.withLock { $0.append((device.id, id)) }
            }
        }
        @Sendable func ask(_ device: Originator) async -> NodeError.Code? {
            var call = self.call()
            call.device = device
            return await self.code { [call] () throws(NodeError) in
                try await calls.ask(call, waitsForDevice: false, clock: ContinuousClock())
            }
        }
        await withTaskGroup(of: NodeError.Code?.self) { group in
            for device in [devices[0], devices[0], devices[1]] {
                let before = ids.withLock { $0.count }
                group.addTask { await ask(device) }
                while ids.withLock({ $0.count }) == before { await Task.yield() }
            }
            #expect(await ask(devices[0]) == .tooManyRequests, "of this device")
            #expect(await ask(devices[1]) == .tooManyRequests, "in all")
            for (device, id) in ids.withLock({ $0 }) { #expect(calls.answer(Int64(id), of: device, with: true)) }
            for await code in group { #expect(code == nil) }
        }
        #expect(await ask(Originator(id: UUID.random(), name: "free", type: "")) == .deviceNotConnected)
    }

    @Test func `identifiers stay within 31 bits`() async throws {
        let calls = self.calls(lastRequest: .max - 1)
        let ids = Mutex<[Int]>([])
        _ = self.sessions.subscribe(self.device.id) { notification in
            if case .rpcRequest(let id, _, _) = notification { ids.withLock { $0.append(id) } }
        }
        for _ in 0..<2 { _ = try await self.ask(calls, isOneWay: true) }
        calls.tell(self.device.id, method: "m", params: nil)
        #expect(ids.withLock { $0 } == [Int(Int32.max), 1, 2])
    }

    // MARK: Calling by way of the chain

    /// Runs a carrier with this body while `body` runs.
    private func carrying<Result: Sendable>(
        _ calls: DeviceCalls,
        _ carrier: @escaping @Sendable (RemoteCall) async -> Outcome,
        _ body: () async throws -> Result
    ) async throws -> Result {
        let before = calls.carrierCount
        let carrying = Task { await calls.carry(carrier) }
        defer { carrying.cancel() }
        while calls.carrierCount == before { await Task.yield() }
        let result = try await body()
        carrying.cancel()
        await carrying.value
        return result
    }

    @Test func `a caller gets what the chain answers`() async throws {
        let calls = self.calls()
        let replies: [(Outcome, JSON?)] = [
            (.completed(.json(["a": 1])), ["a": 1]), (.completed(.json(nil)), .null), (.completed(.empty), nil),
        ]
        for (outcome, answer) in replies {
            let told = try await self.carrying(
                calls,
                { call in
                    #expect(call == self.call())
                    return outcome
                },
                { try await calls.call(self.call()) }
            )
            #expect(told == answer)
        }
    }

    @Test func `a caller gets the error that the chain ends with`() async throws {
        let calls = self.calls()
        let outcomes: [(Outcome, NodeError.Code)] = [
            (.completed(nil), "no-answer"), (.failed(NodeError("own", "x")), "own"),
            (.completed(.refused(NodeError(.deviceNotConnected, "x"))), .deviceNotConnected),
        ]
        for (outcome, expected) in outcomes {
            let code = try await self.carrying(
                calls,
                { _ in outcome },
                { await self.code { () throws(NodeError) in try await calls.call(self.call()) } }
            )
            #expect(code == expected)
        }
    }

    @Test func `a call that nobody carries is refused`() async throws {
        let calls = self.calls()
        #expect(await self.code { () throws(NodeError) in try await calls.call(self.call()) } == .unavailable)
        try await self.carrying(calls, { _ in .completed(.empty) }, {})
        #expect(calls.carrierCount == 0)
        #expect(await self.code { () throws(NodeError) in try await calls.call(self.call()) } == .unavailable)
    }

    @Test func `a chain that never ends a call does not keep its caller`() async throws {
        let calls = self.calls(clock: InstantClock())
        let never = OneShot<Outcome>()
        try await self.carrying(
            calls,
            { _ in
                await never.value(
                    within: .seconds(600),
                    on: ContinuousClock(),
                    late: .completed(nil),
                    cancelled: .completed(nil)
                )
            },
            {
                #expect(await self.code { () throws(NodeError) in try await calls.call(self.call()) } == .timedOut)
            }
        )
    }

    @Test func `calls that are carried end with the carrier`() async {
        let calls = self.calls()
        let isUnderWay = OneShot<Bool>()
        let carrier = Task {
            await calls.carry { call in
                isUnderWay.finish(true)
                do throws(NodeError) {
                    return .completed(
                        try await calls.ask(call, waitsForDevice: true, clock: ContinuousClock()).map(Reply.json)
                    )
                } catch {
                    return .failed(error)
                }
            }
        }
        while calls.carrierCount == 0 { await Task.yield() }
        async let code = self.code { () throws(NodeError) in try await calls.call(self.call()) }
        _ = await isUnderWay.value(within: .seconds(600), on: ContinuousClock(), late: false, cancelled: false)
        carrier.cancel()
        #expect(await code == .unavailable)
        await carrier.value
        #expect(calls.carrierCount == 0 && self.sessions.heldCount == 0)
    }

    @Test func `the first carrier gets all calls, and the next when it ends`() async throws {
        let calls = self.calls()
        let first = Task { await calls.carry { _ in .completed(.json("first")) } }
        while calls.carrierCount < 1 { await Task.yield() }
        try await self.carrying(
            calls,
            { _ in .completed(.json("second")) },
            {
                let before = try await calls.call(self.call())
                first.cancel()
                await first.value
                let after = try await calls.call(self.call())
                #expect(before == "first" && after == "second")
            }
        )
    }
}

/// A clock whose sleeps are over at once.
private final class InstantClock: Clock {
    typealias Instant = ContinuousClock.Instant

    var now: Instant { ContinuousClock.now }
    var minimumResolution: Duration { .nanoseconds(1) }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws { try Task.checkCancellation() }
}
