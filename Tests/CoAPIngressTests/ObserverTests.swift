import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import Testing

@testable import CoAPIngress

private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

@Suite("Observers")
struct ObserverTests {
    private let device = UUID.random()

    private func key(_ port: Int = 1, token: UInt64 = 1) throws -> Observers.Key {
        Observers.Key(
            peer: try Endpoint("127.0.0.1", port),
            token: CoAPMessage.Token(value: token, length: 1)
        )
    }

    private func register(
        _ observers: inout Observers,
        _ key: Observers.Key,
        device: UUID? = nil,
        resource: Observers.Resource = .attributes
    ) throws -> Observers.Registration {
        let registration = observers.register(
            key,
            device: device ?? self.device,
            resource: resource,
            exponent: nil,
            now: start
        )
        return try #require(registration)
    }

    private func update(_ values: JSON.Object) -> DeviceNotification { .attributesUpdated(values) }

    @Test("an observer is told nothing before its registration is answered, then what happened meanwhile")
    func registering() throws {
        var observers = Observers(limits: .init())
        let id = try self.register(&observers, key()).id
        #expect(observers.happened(id, self.update(["a": 1]), now: start) == nil)
        #expect(observers.firstSequence(id) == 0)
        let started = observers.started(id, now: start)
        let first = try #require(started)
        #expect(first.content == .updated(["a": 1]) && first.sequence == 1)
        #expect(try first.key == self.key())
        #expect(observers.acknowledged(id, now: start) == nil)
        let second = observers.happened(id, self.update(["a": 2]), now: start)
        #expect(second?.content == .updated(["a": 2]) && second?.sequence == 2)
    }

    @Test("changes while a notification is under way are merged: the newest value of each key, no key lost")
    func merging() throws {
        var observers = Observers(limits: .init())
        let id = try self.register(&observers, key()).id
        #expect(observers.started(id, now: start) == nil)
        #expect(observers.happened(id, self.update(["a": 1]), now: start) != nil)
        #expect(observers.happened(id, self.update(["a": 2, "b": 1]), now: start) == nil)
        #expect(observers.happened(id, self.update(["b": 2, "c": 3]), now: start) == nil)
        let merged = observers.acknowledged(id, now: start)
        #expect(merged?.content == .updated(["a": 2, "b": 2, "c": 3]))
    }

    @Test("what is gone is told before what is new, and a key is told as it ended up")
    func deletions() throws {
        var observers = Observers(limits: .init())
        let id = try self.register(&observers, key()).id
        #expect(observers.happened(id, .attributesDeleted(["a", "b"]), now: start) == nil)
        #expect(observers.happened(id, self.update(["b": 1, "c": 1]), now: start) == nil)
        #expect(observers.happened(id, .attributesDeleted(["c", "a"]), now: start) == nil)
        #expect(observers.started(id, now: start)?.content == .deleted(["a", "c"]))
        #expect(observers.acknowledged(id, now: start)?.content == .updated(["b": 1]))
        #expect(observers.acknowledged(id, now: start) == nil)
    }

    @Test("calls queue, as many as allowed")
    func calls() throws {
        var observers = Observers(limits: .init(waitingCallsMax: 2))
        let id = try self.register(&observers, key(), resource: .rpc).id
        for call in 1...3 {
            #expect(observers.happened(id, .rpcRequest(id: call, method: "m", params: 1), now: start) == nil)
        }
        #expect(observers.happened(id, self.update(["a": 1]), now: start) == nil)
        #expect(observers.started(id, now: start)?.content == .call(["id": 1, "method": "m", "params": 1]))
        #expect(observers.acknowledged(id, now: start)?.content == .call(["id": 2, "method": "m", "params": 1]))
        #expect(observers.acknowledged(id, now: start) == nil)
    }

    @Test("the same observation registered again goes on counting and keeps its calls")
    func again() throws {
        var observers = Observers(limits: .init())
        let first = try self.register(&observers, key(), resource: .rpc)
        #expect(observers.started(first.id, now: start) == nil)
        #expect(observers.happened(first.id, .rpcRequest(id: 1, method: "m", params: nil), now: start)?.sequence == 1)
        #expect(observers.happened(first.id, .rpcRequest(id: 2, method: "m", params: nil), now: start) == nil)
        let second = try self.register(&observers, key(), resource: .rpc)
        #expect(second.replaced?.id == first.id && second.ended.isEmpty)
        #expect(observers.firstSequence(second.id) == 2)
        #expect(observers.firstSequence(first.id) == nil)
        let told = observers.started(second.id, now: start)
        #expect(told?.content == .call(["id": 2, "method": "m", "params": nil]) && told?.sequence == 3)
        #expect(observers.count == 1)
    }

    @Test("sequence numbers have 24 bits")
    func wrap() throws {
        var observers = Observers(limits: .init())
        var id = try self.register(&observers, key()).id
        #expect(Observers.sequenceMask == 0xFF_FFFF)
        for _ in 0..<10 { id = try self.register(&observers, key()).id }
        #expect(observers.firstSequence(id) == 10)
    }

    @Test("another token of the same peer for the same resource takes the place of the first")
    func superseded() throws {
        var observers = Observers(limits: .init())
        let first = try self.register(&observers, key(token: 1))
        let other = try self.register(&observers, key(token: 2), resource: .rpc)
        #expect(other.ended.isEmpty)
        let second = try self.register(&observers, key(token: 3))
        #expect(second.ended.map(\.id) == [first.id])
        #expect(observers.count == 2)
    }

    @Test("a device may have as many observers as allowed; one more ends the oldest")
    func perDevice() throws {
        var observers = Observers(limits: .init(perDeviceMax: 2))
        let first = try self.register(&observers, key(1))
        #expect(try self.register(&observers, key(2)).ended.isEmpty)
        #expect(try self.register(&observers, key(3), device: UUID.random()).ended.isEmpty)
        #expect(try self.register(&observers, key(4)).ended.map(\.id) == [first.id])
        #expect(observers.count == 3)
    }

    @Test("there may be as many observers as allowed; one more is not added, one of them may register again")
    func total() throws {
        var observers = Observers(limits: .init(countMax: 2))
        _ = try self.register(&observers, key(1), device: UUID.random())
        let second = try self.register(&observers, key(2))
        #expect(observers.register(try key(3), device: UUID.random(), resource: .rpc, exponent: nil, now: start) == nil)
        #expect(try self.register(&observers, key(2)).replaced?.id == second.id)
        #expect(observers.count == 2)
    }

    @Test("who has heard nothing for long is asked whether it is there, before it may stop trusting what it knows")
    func refresh() throws {
        let limits = Observers.Limits(refresh: .seconds(1600))
        var observers = Observers(limits: limits)
        #expect(observers.nextDeadline == nil)
        let quiet = try self.register(&observers, key(1)).id
        let told = try self.register(&observers, key(2), resource: .rpc).id
        #expect(observers.started(quiet, now: start) == nil && observers.started(told, now: start) == nil)
        let half = start + .seconds(800)
        #expect(observers.due(half).isEmpty)
        #expect(observers.happened(told, .rpcRequest(id: 1, method: "m", params: nil), now: half) != nil)
        #expect(observers.acknowledged(told, now: half) == nil)
        var now = half
        while now < start + .seconds(1600) {
            now = try #require(observers.nextDeadline)
            let due = observers.due(now)
            guard !due.isEmpty else { continue }
            #expect(due.map(\.id) == [quiet] && due.map(\.content) == [.refresh])
            #expect(now <= start + .seconds(1600))
            #expect(limits.maxAge == 1600 + 247)
            return
        }
        Issue.record("not asked")
    }

    @Test("who is gone is told nothing")
    func removed() throws {
        var observers = Observers(limits: .init())
        let id = try self.register(&observers, key()).id
        #expect(observers.started(id, now: start) == nil)
        #expect(observers.remove(try key(2)) == nil)
        #expect(observers.remove(try key())?.id == id)
        #expect(observers.happened(id, self.update(["a": 1]), now: start) == nil)
        #expect(observers.acknowledged(id, now: start) == nil)
        #expect(observers.count == 0)
    }
}
