import NIOCore
import NodeKit
import OTA
import NodeTesting
import Testing

@testable import CoAPIngress

private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

private func peer(_ port: Int = 1) throws -> Endpoint { try Endpoint("127.0.0.1", port) }

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

    @Test("strangers leave a quarter of the room to those who have shown an access token")
    func strangers() throws {
        var exchanges = Exchanges(limits: .init(activeMax: 8))
        func arrive(_ messageID: UInt16, isStranger: Bool) throws -> Exchanges.Arrival {
            exchanges.arrived(
                try key(messageID),
                isConfirmable: true,
                isIdempotent: true,
                isStranger: isStranger,
                now: start
            )
        }
        for messageID in 1...6 as ClosedRange<UInt16> {
            #expect(!exchanges.isCrowded)
            guard case .new = try arrive(messageID, isStranger: true) else {
                Issue.record("not taken")
                return
            }
        }
        #expect(exchanges.isCrowded)
        #expect(try arrive(7, isStranger: true) == .busy)
        for messageID in 7...8 as ClosedRange<UInt16> {
            guard case .new = try arrive(messageID, isStranger: false) else {
                Issue.record("not taken")
                return
            }
        }
        #expect(try arrive(9, isStranger: false) == .busy)
    }

    @Test("a refused request is forgotten, so refusals push out no answers; one that was acknowledged is not")
    func refused() throws {
        var exchanges = Exchanges(limits: .init(entriesMax: 3))
        let kept = try exchanges.new(key(1))
        _ = exchanges.answered(kept)
        exchanges.keep(self.bytes, for: kept, now: start)
        for messageID in 2...1000 as ClosedRange<UInt16> {
            #expect(exchanges.answered(try exchanges.new(key(messageID)), isRefused: true) == .piggybacked)
            let other = try exchanges.new(key(messageID, port: 2), confirmable: false)
            #expect(exchanges.answered(other, isRefused: true) == .nonConfirmable)
        }
        #expect(exchanges.count == 1 && exchanges.activeCount == 0)
        let repeated = exchanges.arrived(try key(1), isConfirmable: true, isIdempotent: false, now: start)
        #expect(repeated == .replay(self.bytes))
        let slow = try exchanges.new(key(2))
        _ = exchanges.windowsEnded(start + .milliseconds(500))
        #expect(exchanges.answered(slow, isRefused: true) == .separate)
        #expect(exchanges.arrived(try key(2), isConfirmable: true, isIdempotent: false, now: start) == .acknowledge)
    }

    @Test("nothing is kept of an answer that was at hand, unless the request was acknowledged or is non-confirmable")
    func atHand() throws {
        var exchanges = Exchanges(limits: .init())
        let slow = try exchanges.new(key(1), idempotent: true)
        for messageID in 2...1000 as ClosedRange<UInt16> {
            let id = try exchanges.new(key(messageID), idempotent: true, at: start + .milliseconds(1))
            #expect(exchanges.answered(id, isAtHand: true) == .piggybacked)
            #expect(exchanges.answered(id, isAtHand: true) == nil)
        }
        #expect(exchanges.count == 1 && exchanges.activeCount == 1)
        #expect(exchanges.windowsEnded(start + .milliseconds(500)) == [try key(1)])
        #expect(exchanges.nextDeadline == nil)
        #expect(exchanges.answered(slow, isAtHand: true) == .separate)
        #expect(exchanges.arrived(try key(1), isConfirmable: true, isIdempotent: true, now: start) == .acknowledge)
        let other = try exchanges.new(key(2), confirmable: false, idempotent: true)
        #expect(exchanges.answered(other, isAtHand: true) == .nonConfirmable)
        #expect(exchanges.arrived(try key(2), isConfirmable: false, isIdempotent: true, now: start) == .ignore)
        #expect(exchanges.count == 2)
    }

    @Test("the oldest answers go when there are too many, those not given yet stay")
    func entries() throws {
        var exchanges = Exchanges(limits: .init(entriesMax: 3))
        let waiting = try exchanges.new(key(1))
        for messageID in 2...6 as ClosedRange<UInt16> { _ = exchanges.answered(try exchanges.new(key(messageID))) }
        // One more is there until the next request.
        #expect(exchanges.count == 1 + 4)
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
        var exchanges = Exchanges(
            limits: .init(entriesMax: 10, bytesMax: 60, idempotentEntriesMax: 10, idempotentBytesMax: 60)
        )
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
        #expect(transmissions.started(try key(1), bytes, owner: "me", isAnswer: true, now: start) == .send)
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
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "me", isAnswer: true, now: start) == .send)
        #expect(transmissions.ended(try key(2), now: start) == nil)
        #expect(transmissions.ended(try key(1, port: 2), now: start) == nil)
        #expect(transmissions.ended(try key(1), now: start)?.owner == "me")
        #expect(transmissions.ended(try key(1), now: start) == nil)
        #expect(transmissions.due(start + .hours(1)).isEmpty)
    }

    @Test("a message ID that is used again does not inherit the old timer")
    func reuse() throws {
        var transmissions = self.transmissions()
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "old", isAnswer: true, now: start) == .send)
        _ = transmissions.ended(try key(1), now: start)
        #expect(
            transmissions.started(try key(1), ByteBuffer(), owner: "new", isAnswer: true, now: start + .seconds(1))
                == .send
        )
        #expect(transmissions.due(start + .seconds(2)).isEmpty)
        #expect(transmissions.due(start + .seconds(3)).count == 1)
    }

    @Test("there is room for as many as allowed and not one more")
    func full() throws {
        var transmissions = self.transmissions(parameters: .init(countMax: 2))
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "1", isAnswer: true, now: start) == .send)
        #expect(transmissions.started(try key(2), ByteBuffer(), owner: "2", isAnswer: true, now: start) == .send)
        #expect(transmissions.started(try key(3), ByteBuffer(), owner: "3", isAnswer: true, now: start) == .noRoom)
    }

    @Test("what a peer did not ask for is under way to it one at a time; answers and other peers do not wait")
    func lanes() throws {
        var transmissions = self.transmissions()
        func start(_ messageID: UInt16, port: Int = 1, isAnswer: Bool = false) throws -> Transmissions<String>.Start {
            let bytes = ByteBuffer(string: "\(messageID)")
            return transmissions.started(
                try key(messageID, port: port),
                bytes,
                owner: "\(messageID)",
                isAnswer: isAnswer,
                now: CoAPIngressTests.start
            )
        }
        #expect(try start(1) == .send && start(2) == .wait && start(3) == .wait)
        #expect(try start(4, isAnswer: true) == .send && start(1, port: 2) == .send)
        // What was not sent cannot be acknowledged.
        #expect(transmissions.ended(try key(2), now: CoAPIngressTests.start) == nil)
        let later = CoAPIngressTests.start + .seconds(1)
        let first = transmissions.ended(try key(1), now: later)
        #expect(first?.owner == "1" && first?.next == ByteBuffer(string: "2"))
        // Its time begins when it is sent: the three others are due at 2 s, this one at 3 s.
        #expect(transmissions.due(CoAPIngressTests.start + .seconds(2)).count == 2)
        #expect(transmissions.due(CoAPIngressTests.start + .seconds(3)).count == 1)
        let second = transmissions.ended(try key(2), now: later)
        #expect(second?.owner == "2" && second?.next == ByteBuffer(string: "3"))
        let third = transmissions.ended(try key(3), now: later)
        #expect(third?.owner == "3" && third?.next == nil)
        #expect(try start(5) == .send)
    }

    @Test("a peer that does not acknowledge is given up with all that waits for it")
    func lanesOfTheGone() throws {
        var transmissions = self.transmissions(parameters: .init(maxRetransmit: 0))
        for messageID in 1...3 as ClosedRange<UInt16> {
            _ = transmissions.started(
                try key(messageID),
                ByteBuffer(),
                owner: "\(messageID)",
                isAnswer: false,
                now: start
            )
        }
        #expect(
            transmissions.started(try key(1, port: 2), ByteBuffer(), owner: "there", isAnswer: false, now: start)
                == .send
        )
        #expect(transmissions.ended(try key(1, port: 2), now: start)?.owner == "there")
        let owners = transmissions.due(start + .seconds(2)).map { due in
            if case .gaveUp(let owner) = due { owner } else { "sent again" }
        }
        #expect(owners == ["1", "2", "3"] && transmissions.count == 0)
        #expect(transmissions.started(try key(4), ByteBuffer(), owner: "4", isAnswer: false, now: start) == .send)
    }

    @Test("acknowledged messages do not pile up among what is due")
    func pruning() throws {
        var transmissions = self.transmissions()
        for messageID in 0..<20_000 as Range<UInt16> {
            _ = transmissions.started(try key(messageID), ByteBuffer(), owner: "", isAnswer: true, now: start)
            _ = transmissions.ended(try key(messageID), now: start)
        }
        #expect(transmissions.deadlineCount < 2000)
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "me", isAnswer: true, now: start) == .send)
        #expect(transmissions.due(start + .seconds(2)).count == 1)
    }

    @Test("without retransmissions a message is given up after the first time-out")
    func noRetransmission() throws {
        var transmissions = self.transmissions(parameters: .init(maxRetransmit: 0))
        #expect(transmissions.started(try key(1), ByteBuffer(), owner: "me", isAnswer: true, now: start) == .send)
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
