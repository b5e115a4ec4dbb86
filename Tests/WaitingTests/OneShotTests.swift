import NodeTesting
import Testing

@testable import Waiting

@Suite(.timeLimit(.minutes(5))) struct OneShotTests {
    @Test func `the first value counts, for those who wait and for those who come later`() async {
        let shot = OneShot<Int>()
        #expect(shot.current == nil)
        let waiting = (0..<3).map { _ in Task { await shot.value() } }
        while shot.waitingCount < 3 { await Task.yield() }
        #expect(shot.finish(1))
        #expect(!shot.finish(2))
        for task in waiting { #expect(await task.value == 1) }
        #expect(await shot.value() == 1)
        #expect(shot.current == 1)
        #expect(shot.waitingCount == 0)
    }

    @Test func `cancellation does not end a wait for a value`() async {
        let shot = OneShot<Int>()
        let waiting = Task { await shot.value() }
        while shot.waitingCount < 1 { await Task.yield() }
        waiting.cancel()
        #expect(shot.waitingCount == 1)
        shot.finish(1)
        #expect(await waiting.value == 1)
    }

    /// The value of a limited wait, which has begun when `body` is called.
    private static func value(
        _ body: (OneShot<String>, Task<String, Never>, ManualClock) async -> Void
    ) async -> String {
        let shot = OneShot<String>()
        let clock = ManualClock()
        let waiting = Task {
            await shot.value(within: .seconds(5), on: clock, late: "late", cancelled: "cancelled")
        }
        await clock.sleeper(for: .seconds(5))
        await body(shot, waiting, clock)
        let value = await waiting.value
        #expect(shot.current == value)
        return value
    }

    @Test func `a limited wait ends with the value, the time or the task, whichever is first`() async {
        let came = await Self.value { shot, _, clock in
            clock.advance(by: .milliseconds(4999))
            shot.finish("came")
        }
        #expect(came == "came")
        let late = await Self.value { _, _, clock in clock.advance(by: .seconds(5)) }
        #expect(late == "late")
        let cancelled = await Self.value { _, waiting, _ in waiting.cancel() }
        #expect(cancelled == "cancelled")
    }

    @Test func `a limited wait of a task that is cancelled already does not begin`() async {
        let shot = OneShot<Int>()
        let waiting = Task {
            while !Task.isCancelled { await Task.yield() }
            return await shot.value(within: .seconds(5), on: ManualClock(), late: 1, cancelled: 2)
        }
        waiting.cancel()
        #expect(await waiting.value == 2)
    }

    /// A wait that is never resumed would hang, one that is resumed twice would trap.
    @Test func `a wait ends once when the value, the time and the cancellation come at the same time`() async {
        for _ in 0..<1000 {
            let shot = OneShot<Int>()
            let waiting = Task {
                await shot.value(within: .nanoseconds(1), on: ContinuousClock(), late: 1, cancelled: 2)
            }
            async let isFirst = shot.finish(3)
            waiting.cancel()
            let value = await waiting.value
            #expect(await isFirst == (value == 3))
            #expect(shot.current == value)
        }
    }
}
