import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import Testing

@testable import CoAPIngress

private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

private func peer(_ port: Int = 1) throws -> SocketAddress { try SocketAddress(ipAddress: "127.0.0.1", port: port) }

private func key(_ messageID: UInt16, port: Int = 1) throws -> Exchanges.Key {
    Exchanges.Key(peer: try peer(port), messageID: messageID)
}

extension Exchanges {
    fileprivate mutating func new(
        _ key: Key,
        confirmable: Bool = true,
        idempotent: Bool = false,
        at now: NIODeadline = start
    ) throws -> ID {
        guard case .new(let id) = self.arrived(key, isConfirmable: confirmable, isIdempotent: idempotent, now: now)
        else {
            throw NodeError("test", "the request is not new")
        }
        return id
    }
}

@Suite("Requests and their repetitions")
struct ExchangeTests {
    private let bytes = ByteBuffer(string: "answer")

    @Test("a repeated request is ignored while its answer may still come in the acknowledgement, then gets it again")
    func replay() throws {
        var exchanges = Exchanges(limits: .init())
        let id = try exchanges.new(key(1))
        #expect(exchanges.arrived(try key(1), isConfirmable: true, isIdempotent: false, now: start) == .ignore)
        #expect(exchanges.answered(id) == .piggybacked)
        exchanges.keep(self.bytes, for: id, now: start)
        let repeated = exchanges.arrived(try key(1), isConfirmable: true, isIdempotent: false, now: start)
        #expect(repeated == .replay(self.bytes))
        #expect(exchanges.answered(id) == nil)
        #expect(exchanges.activeCount == 0)
    }

    @Test("another peer, or another message ID, is another request")
    func keys() throws {
        var exchanges = Exchanges(limits: .init())
        _ = try exchanges.new(key(1))
        _ = try exchanges.new(key(2))
        _ = try exchanges.new(key(1, port: 2))
        #expect(exchanges.activeCount == 3)
    }

    @Test("a request that takes longer than the window is acknowledged and answered separately")
    func separate() throws {
        var exchanges = Exchanges(limits: .init())
        let id = try exchanges.new(key(1))
        let end = start + .milliseconds(500)
        #expect(exchanges.nextDeadline == end)
        #expect(exchanges.windowsEnded(end - .nanoseconds(1)).isEmpty)
        #expect(exchanges.windowsEnded(end) == [try key(1)])
        #expect(exchanges.windowsEnded(end).isEmpty)
        #expect(exchanges.nextDeadline == nil)
        #expect(exchanges.arrived(try key(1), isConfirmable: true, isIdempotent: false, now: end) == .acknowledge)
        #expect(exchanges.answered(id) == .separate)
        #expect(exchanges.arrived(try key(1), isConfirmable: true, isIdempotent: false, now: end) == .acknowledge)
    }

    @Test("answered requests do not wake the timer")
    func answeredWindows() throws {
        var exchanges = Exchanges(limits: .init())
        for messageID in 1...10 as ClosedRange<UInt16> { _ = exchanges.answered(try exchanges.new(key(messageID))) }
        let last = try exchanges.new(key(11), at: start + .milliseconds(300))
        #expect(exchanges.windowsEnded(start + .milliseconds(500)).isEmpty)
        #expect(exchanges.nextDeadline == start + .milliseconds(800))
        #expect(exchanges.answered(last) == .piggybacked)
    }

    @Test("a non-confirmable request is answered in kind, and repetitions of it are ignored")
    func nonConfirmable() throws {
        var exchanges = Exchanges(limits: .init())
        let id = try exchanges.new(key(1), confirmable: false)
        #expect(exchanges.nextDeadline == nil)
        #expect(exchanges.answered(id) == .nonConfirmable)
        #expect(exchanges.arrived(try key(1), isConfirmable: false, isIdempotent: false, now: start) == .ignore)
    }

    @Test("a message ID is new again once its lifetime is over", arguments: [(true, Int64(247)), (false, 145)])
    func lifetime(confirmable: Bool, seconds: Int64) throws {
        var exchanges = Exchanges(limits: .init())
        let id = try exchanges.new(key(1), confirmable: confirmable)
        _ = exchanges.answered(id)
        exchanges.keep(self.bytes, for: id, now: start)
        let end = start + .seconds(seconds)
        let before = exchanges.arrived(
            try key(1),
            isConfirmable: confirmable,
            isIdempotent: false,
            now: end - .nanoseconds(1)
        )
        #expect(before == (confirmable ? .replay(self.bytes) : .ignore))
        let again = try exchanges.new(key(1), confirmable: confirmable, at: end)
        #expect(again != id)
        #expect(exchanges.count == 1 && exchanges.bytes == 0)
    }

    @Test("what has expired is forgotten when something new comes")
    func expiry() throws {
        var exchanges = Exchanges(limits: .init())
        for messageID in 1...100 as ClosedRange<UInt16> {
            let id = try exchanges.new(key(messageID))
            _ = exchanges.answered(id)
            exchanges.keep(self.bytes, for: id, now: start)
        }
        _ = try exchanges.new(key(101), at: start + .seconds(247))
        #expect(exchanges.count == 1 && exchanges.bytes == 0)
    }

    @Test("as many requests as allowed are carried out at a time, the next is refused")
    func active() throws {
        var exchanges = Exchanges(limits: .init(activeMax: 2))
        let first = try exchanges.new(key(1))
        _ = try exchanges.new(key(2))
        #expect(exchanges.arrived(try key(3), isConfirmable: true, isIdempotent: true, now: start) == .busy)
        #expect(exchanges.arrived(try key(2), isConfirmable: true, isIdempotent: true, now: start) == .ignore)
        _ = exchanges.answered(first)
        _ = try exchanges.new(key(3))
    }

    @Test("the oldest answers go when there are too many, those not given yet stay")
    func entries() throws {
        var exchanges = Exchanges(limits: .init(entriesMax: 3))
        let waiting = try exchanges.new(key(1))
        for messageID in 2...6 as ClosedRange<UInt16> { _ = exchanges.answered(try exchanges.new(key(messageID))) }
        #expect(exchanges.count == 3)
        #expect(exchanges.arrived(try key(6), isConfirmable: true, isIdempotent: false, now: start) == .acknowledge)
        #expect(exchanges.answered(waiting) == .piggybacked)
        _ = try exchanges.new(key(2))
    }

    @Test("the oldest answers go when they take up too many bytes, at the limit none does")
    func keptBytes() throws {
        var exchanges = Exchanges(limits: .init(bytesMax: 12))
        for messageID in 1...2 as ClosedRange<UInt16> {
            let id = try exchanges.new(key(messageID))
            _ = exchanges.answered(id)
            exchanges.keep(self.bytes, for: id, now: start)
        }
        #expect(exchanges.bytes == 12 && exchanges.count == 2)
        let third = try exchanges.new(key(3))
        _ = exchanges.answered(third)
        exchanges.keep(ByteBuffer(string: "x"), for: third, now: start)
        #expect(exchanges.bytes == 7 && exchanges.count == 2)
        _ = try exchanges.new(key(1))
    }

    @Test("a download does not push out the answers to posts")
    func shares() throws {
        var exchanges = Exchanges(limits: .init(entriesMax: 10, bytesMax: 60))
        let post = try exchanges.new(key(1))
        _ = exchanges.answered(post)
        exchanges.keep(self.bytes, for: post, now: start)
        for messageID in 2...1000 as ClosedRange<UInt16> {
            let id = try exchanges.new(key(messageID), idempotent: true)
            _ = exchanges.answered(id)
            exchanges.keep(self.bytes, for: id, now: start)
        }
        let repeated = exchanges.arrived(try key(1), isConfirmable: true, isIdempotent: false, now: start)
        #expect(repeated == .replay(self.bytes))
        #expect(exchanges.count == 11)
    }
}

@Suite("Confirmable messages of ours")
struct TransmissionTests {
    private func transmissions(
        random: Double = 0,
        parameters: Transmissions<String>.Parameters = .init()
    ) -> Transmissions<String> {
        Transmissions(parameters: parameters) { random }
    }

    @Test("a message is sent again after 2, 4, 8, 16 seconds and given up after 32", arguments: [0, 0.5, 1])
    func schedule(random: Double) throws {
        var transmissions = self.transmissions(random: random)
        let bytes = ByteBuffer(string: "x")
        #expect(transmissions.started(try key(1), bytes, owner: "me", now: start))
        // With ACK_RANDOM_FACTOR 1.5 the first time-out is 2 to 3 seconds.
        var timeout = TimeAmount.milliseconds(Int64(2000 + 1000 * random))
        var now = start
        for _ in 0..<4 {
            now = now + timeout
            #expect(transmissions.nextDeadline == now)
            #expect(transmissions.due(now - .nanoseconds(1)).isEmpty)
            guard case .resend(let again, let to)? = transmissions.due(now).first else {
                Issue.record("not sent again")
                return
            }
            let expected = try peer()
            #expect(again == bytes && to == expected)
            timeout = timeout * 2
        }
        now = now + timeout
        guard case .gaveUp(let owner)? = transmissions.due(now).first else {
            Issue.record("not given up")
            return
        }
        #expect(owner == "me" && transmissions.count == 0 && transmissions.nextDeadline == nil)
    }

    @Test("an acknowledged message is not sent again")
    func acknowledged() throws {
        var transmissions = self.transmissions()
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "me", now: start))
        #expect(transmissions.ended(try key(2)) == nil)
        #expect(transmissions.ended(try key(1, port: 2)) == nil)
        #expect(transmissions.ended(try key(1)) == "me")
        #expect(transmissions.ended(try key(1)) == nil)
        #expect(transmissions.due(start + .hours(1)).isEmpty)
    }

    @Test("a message ID that is used again does not inherit the old timer")
    func reuse() throws {
        var transmissions = self.transmissions()
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "old", now: start))
        _ = transmissions.ended(try key(1))
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "new", now: start + .seconds(1)))
        #expect(transmissions.due(start + .seconds(2)).isEmpty)
        #expect(transmissions.due(start + .seconds(3)).count == 1)
    }

    @Test("there is room for as many as allowed and not one more")
    func full() throws {
        var transmissions = self.transmissions(parameters: .init(countMax: 2))
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "1", now: start))
        #expect(transmissions.started(try key(2), ByteBuffer(), owner: "2", now: start))
        #expect(!transmissions.started(try key(3), ByteBuffer(), owner: "3", now: start))
    }

    @Test("without retransmissions a message is given up after the first time-out")
    func noRetransmission() throws {
        var transmissions = self.transmissions(parameters: .init(maxRetransmit: 0))
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "me", now: start))
        guard case .gaveUp? = transmissions.due(start + .seconds(2)).first else {
            Issue.record("not given up")
            return
        }
    }

    @Test("message IDs count up for each peer and wrap around")
    func messageIDs() throws {
        var messageIDs = MessageIDs(peersMax: 2) { 65534 }
        for expected in [65534, 65535, 0, 1] as [UInt16] { #expect(messageIDs.next(for: try peer()) == expected) }
        #expect(messageIDs.next(for: try peer(2)) == 65534)
        // A third peer makes the first two the older ones; they go on counting.
        #expect(messageIDs.next(for: try peer(3)) == 65534)
        #expect(messageIDs.next(for: try peer(1)) == 2)
        // Two more generations and the second, not used since, is forgotten.
        #expect(messageIDs.next(for: try peer(4)) == 65534)
        #expect(messageIDs.next(for: try peer(2)) == 65534)
    }

    @Test("what is due comes out in the order of time", arguments: 0..<4)
    func deadlines(seed: UInt64) {
        var random = SplitMix(state: seed)
        var queue = DeadlineQueue<Int64>()
        let offsets = (0..<500).map { _ in Int64.random(in: 0..<100, using: &random) }
        for offset in offsets { queue.insert(offset, at: start + .seconds(offset)) }
        #expect(queue.popDue(start - .nanoseconds(1)) == nil)
        var popped: [Int64] = []
        while let offset = queue.popDue(start + .seconds(49)) { popped.append(offset) }
        #expect(popped == offsets.filter { $0 <= 49 }.sorted())
        while let offset = queue.popDue(.distantFuture) { popped.append(offset) }
        #expect(popped == offsets.sorted() && queue.count == 0)
    }
}

@Suite("Bodies in blocks")
struct BodyAssemblyTests {
    private func add(
        _ assemblies: inout BodyAssemblies,
        _ number: UInt32,
        more: Bool,
        count: Int = 16,
        exponent: UInt8 = 0,
        announced: UInt32? = nil,
        path: String = "a",
        at now: NIODeadline = start
    ) throws -> BodyAssemblies.Result {
        assemblies.add(
            ByteBuffer(repeating: UInt8(truncatingIfNeeded: number), count: count),
            Block(number: number, more: more, exponent: exponent),
            announced: announced,
            to: .init(peer: try peer(), path: [path]),
            now: now
        )
    }

    @Test("blocks in order become the body")
    func inOrder() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 1, more: true) == .more)
        let body = ByteBuffer(bytes: Array(repeating: 0, count: 16) + Array(repeating: 1, count: 16) + [2, 2, 2])
        #expect(try self.add(&assemblies, 2, more: false, count: 3) == .complete(body))
        #expect(assemblies.count == 0 && assemblies.bytes == 0)
    }

    @Test("a block that does not follow the last is refused, and the transfer can go on")
    func gap() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 1, more: true) == .incomplete)
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 2, more: false) == .incomplete)
        #expect(try self.add(&assemblies, 1, more: true, path: "b") == .incomplete)
        #expect(try self.add(&assemblies, 1, more: true) == .more)
    }

    @Test("a first block begins anew")
    func restart() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(assemblies.bytes == 16 && assemblies.count == 1)
        #expect(try self.add(&assemblies, 0, more: false, count: 2) == .complete(ByteBuffer(bytes: [0, 0])))
        #expect(assemblies.count == 0)
    }

    @Test("the size of blocks may change on the way")
    func otherSize() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true, count: 64, exponent: 2) == .more)
        #expect(try self.add(&assemblies, 4, more: true) == .more)
        #expect(assemblies.bytes == 80)
    }

    @Test("only the last block may be short, none may be long")
    func lengths() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true, count: 15) == .badLength)
        #expect(try self.add(&assemblies, 0, more: false, count: 17) == .badLength)
        #expect(try self.add(&assemblies, 0, more: false, count: 0) == .complete(ByteBuffer()))
    }

    @Test("a body may be as large as the limit and not one byte more")
    func tooLarge() throws {
        var assemblies = BodyAssemblies(limits: .init(bodyBytesMax: 20))
        #expect(try self.add(&assemblies, 0, more: true, announced: 20) == .more)
        guard case .complete = try self.add(&assemblies, 1, more: false, count: 4) else {
            Issue.record("not complete")
            return
        }
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 1, more: false, count: 5) == .tooLarge)
        #expect(assemblies.bytes == 0)
        #expect(try self.add(&assemblies, 0, more: true, announced: 21) == .tooLarge)
        #expect(try self.add(&assemblies, Block.numberMax, more: true, count: 1024, exponent: 6) == .tooLarge)
    }

    @Test("as many bodies as allowed come at a time")
    func tooMany() throws {
        var assemblies = BodyAssemblies(limits: .init(transfersMax: 2))
        #expect(try self.add(&assemblies, 0, more: true, path: "a") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "b") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "c") == .noRoom)
        #expect(try self.add(&assemblies, 0, more: false, count: 1, path: "c") == .complete(ByteBuffer(bytes: [0])))
        #expect(try self.add(&assemblies, 1, more: true, path: "a") == .more)
    }

    @Test("all bodies together take up as many bytes as allowed")
    func total() throws {
        var assemblies = BodyAssemblies(limits: .init(totalBytesMax: 32))
        #expect(try self.add(&assemblies, 0, more: true, path: "a") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "b") == .more)
        #expect(try self.add(&assemblies, 1, more: true, path: "b") == .noRoom)
        #expect(assemblies.bytes == 16)
    }

    @Test("a body whose next block does not come in time is dropped, one that goes on is not")
    func expiry() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true, path: "a") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "b") == .more)
        #expect(try self.add(&assemblies, 1, more: true, path: "b", at: start + .seconds(30)) == .more)
        assemblies.expire(start + .seconds(60) - .nanoseconds(1))
        #expect(assemblies.count == 2)
        #expect(assemblies.nextDeadline == start + .seconds(60))
        assemblies.expire(start + .seconds(60))
        #expect(assemblies.count == 1 && assemblies.bytes == 32)
        #expect(assemblies.nextDeadline == start + .seconds(90))
        assemblies.expire(start + .seconds(90))
        #expect(assemblies.count == 0 && assemblies.nextDeadline == nil)
    }

    @Test("kept bodies are bounded in bytes, the oldest goes first")
    func retained() throws {
        var retained = RetainedBodies(bytesMax: 20)
        let keys = try (1...3).map { RetainedBodies.Key(peer: try peer($0), device: UUID(), resource: .attributes) }
        let body = ByteBuffer(repeating: 1, count: 10)
        retained.keep(body, for: keys[0])
        retained.keep(body, for: keys[1])
        #expect(retained[keys[0]] == body && retained.bytes == 20)
        retained.keep(body, for: keys[0])
        retained.keep(body, for: keys[2])
        #expect(retained[keys[1]] == nil && retained[keys[0]] == body && retained[keys[2]] == body)
        retained.keep(nil, for: keys[0])
        #expect(retained[keys[0]] == nil && retained.bytes == 10)
    }
}
