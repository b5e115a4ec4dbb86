import NodeTesting
import Testing
import Waiting

@Suite(.timeLimit(.minutes(5))) struct GateTests {
    @Test func `a gate counts who comes, and keeps all until it is opened`() async {
        let gate = Gate()
        let passed = Signal()
        let passing = (0..<3).map { _ in
            Task {
                await gate.pass()
                passed.raise()
            }
        }
        await gate.arrived(3)
        #expect(passed.count == 0)
        gate.open()
        for task in passing { await task.value }
        #expect(passed.count == 3)
        await gate.pass()
        await gate.arrived(4)
    }

    @Test func `who waits for arrivals is let go when cancelled`() async {
        let gate = Gate()
        let waiting = Task { await gate.arrived() }
        waiting.cancel()
        await waiting.value
    }
}
