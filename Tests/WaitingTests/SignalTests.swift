import Testing

@testable import Waiting

@Suite(.timeLimit(.minutes(5))) struct SignalTests {
    @Test func `what was raised since the count was read ends a wait at once`() async {
        let signal = Signal()
        let seen = signal.count
        signal.raise()
        signal.raise()
        #expect(signal.count == seen + 2)
        await signal.wait(since: seen)
        await signal.wait(since: seen + 1)
        #expect(signal.waitingCount == 0)
    }

    @Test func `all who wait go on when it is raised`() async {
        let signal = Signal()
        let seen = signal.count
        let waiting = (0..<3).map { _ in Task { await signal.wait(since: seen) } }
        while signal.waitingCount < 3 { await Task.yield() }
        signal.raise()
        for task in waiting { await task.value }
        #expect(signal.waitingCount == 0)
    }

    @Test func `a cancelled task does not wait, and does not wake others`() async {
        let signal = Signal()
        let seen = signal.count
        let cancelled = Task { await signal.wait(since: seen) }
        let other = Task { await signal.wait(since: seen) }
        while signal.waitingCount < 2 { await Task.yield() }
        cancelled.cancel()
        await cancelled.value
        #expect(signal.waitingCount == 1)
        let late = Task {
            while !Task.isCancelled { await Task.yield() }
            await signal.wait(since: seen)
        }
        late.cancel()
        await late.value
        #expect(signal.waitingCount == 1)
        signal.raise()
        await other.value
    }

    /// A wait that is never resumed would hang, one that is resumed twice would trap.
    @Test func `a wait ends once when it is raised and cancelled at the same time`() async {
        for _ in 0..<2000 {
            let signal = Signal()
            let seen = signal.count
            let waiting = Task { await signal.wait(since: seen) }
            async let raised: Void = signal.raise()
            waiting.cancel()
            await raised
            await waiting.value
            #expect(signal.waitingCount == 0)
        }
    }
}
