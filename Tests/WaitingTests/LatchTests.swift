import Testing

@testable import Waiting

@Suite(.timeLimit(.minutes(5))) struct LatchTests {
    @Test func `a latch keeps all who come before it is opened, and nobody after`() async {
        let latch = Latch()
        let waiting = (0..<3).map { _ in Task { await latch.opened() } }
        while latch.waitingCount < 3 { await Task.yield() }
        #expect(!latch.isOpen)
        latch.open()
        latch.open()
        for task in waiting { await task.value }
        await latch.opened()
        #expect(latch.isOpen)
        #expect(latch.waitingCount == 0)
    }

    @Test func `cancellation does not end a wait for a latch`() async {
        let latch = Latch()
        let waiting = Task { await latch.opened() }
        while latch.waitingCount < 1 { await Task.yield() }
        waiting.cancel()
        #expect(latch.waitingCount == 1)
        latch.open()
        await waiting.value
    }
}
