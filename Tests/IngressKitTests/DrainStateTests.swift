import FoundationEssentials
import NodeKit
import NodeTesting
import Testing

@testable import IngressKit

/// The part of a drain that decides, in a time that the test says.
@Suite struct DrainStateTests {
    private let clock = ManualClock()
    private let today = Timestamp(milliseconds: 1_700_000_000_000)

    private func state(_ interval: Duration = .zero) -> DrainState<ManualClock.Instant> {
        DrainState(interval: interval, now: self.clock.now)
    }

    private func waiting(_ id: Int64, priority: Int = 0) -> WaitingMessage {
        var message = Message(
            originator: Originator(id: .random(), name: "d", type: "t"),
            type: "T",
            timestamp: self.today
        )
        message.precedence = Precedence(key: "k", generation: 1, priority: priority)
        return WaitingMessage(id: id, message: message, since: self.today, due: self.today, tries: 0)
    }

    /// The identifiers of as many messages as may begin, each of them done before the next.
    private func sent(_ count: Int, _ state: inout DrainState<ManualClock.Instant>) -> [Int64] {
        var ids: [Int64] = []
        while ids.count < count, let message = state.next(at: self.clock.now) {
            ids.append(message.id)
            state.settle(message, at: self.clock.now)
        }
        return ids
    }

    @Test("of each priority three go before one of those below, among which the same holds", .bug(id: "Q2"))
    func turns() {
        var state = self.state()
        let messages = [9, 5, 0].flatMap { priority in
            (0..<64).map { self.waiting(Int64(priority * 100 + $0), priority: priority) }
        }
        state.take(DueMessages(messages: messages))
        let levels = self.sent(32, &state).map { $0 / 100 }
        let round: [Int64] = [9, 9, 9, 5, 9, 9, 9, 5, 9, 9, 9, 5, 9, 9, 9, 0]
        #expect(levels == round + round)
    }

    @Test("what is urgent goes first also after many that were not", .bug(id: "Q2"))
    func firstUrgent() {
        var state = self.state(.milliseconds(600))
        state.take(DueMessages(messages: (0..<10).map { self.waiting($0) }))
        #expect(self.sent(10, &state) == Array(0..<10))
        state.take(DueMessages(messages: [self.waiting(99, priority: 9)] + (20..<30).map { self.waiting($0) }))
        #expect(self.sent(2, &state).first == 99)
    }

    @Test("when all of a priority that were read have gone, more are read before less urgent ones go", .bug(id: "Q2"))
    func readAgain() {
        var state = self.state()
        let messages = (0..<2).map { self.waiting($0, priority: 9) } + (10..<20).map { self.waiting($0) }
        state.take(DueMessages(messages: messages))
        #expect(self.sent(12, &state) == [0, 1])
        #expect(state.wantsMore)
        #expect(state.held == [0, 1], "what was read and did not begin is read again")
    }

    @Test("a time that has come wakes once, also if there is nothing to read for", .bug(id: "Q3"))
    func wakesOnce() {
        var state = self.state(.seconds(600))
        let next = self.today.adding(.seconds(5))
        state.take(DueMessages(messages: [self.waiting(1), self.waiting(2)], next: next))
        #expect(self.sent(1, &state) == [1])
        _ = state.takeDone()
        #expect(state.wakeTime(at: self.clock.now, today: self.today) == self.clock.now.advanced(by: .seconds(5)))
        self.clock.advance(by: .seconds(5))
        state.look(at: next)
        // The second message is the next that may go.
        #expect(state.wakeTime(at: self.clock.now, today: next) == self.clock.now.advanced(by: .seconds(595)))
    }
}
