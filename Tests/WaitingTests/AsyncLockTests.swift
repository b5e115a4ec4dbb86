import Synchronization
import Testing

@testable import Waiting

@Suite(.timeLimit(.minutes(5))) struct AsyncLockTests {
    private struct Refused: Error {}

    /// Who had a turn, and how many have one now.
    private final class Log: Sendable {
        private let state = Mutex((turns: [Int](), insideCount: 0))
        var turns: [Int] { self.state.withLock { $0.turns } }
        func enter(_ number: Int) {
            self.state.withLock { state in
                state.turns.append(number)
                state.insideCount += 1
                #expect(state.insideCount == 1)
            }
        }
        func leave() { self.state.withLock { $0.insideCount -= 1 } }
    }

    @Test func `tasks have their turns one at a time, in the order in which they came`() async {
        let lock = AsyncLock()
        let log = Log()
        let (isHeld, isDone) = (Latch(), Latch())
        let holder = Task {
            await lock.withLock {
                isHeld.open()
                await isDone.opened()
            }
        }
        await isHeld.opened()
        var waiting: [Task<Void, Never>] = []
        for number in 0..<5 {
            waiting.append(
                Task {
                    await lock.withLock {
                        log.enter(number)
                        for _ in 0..<10 { await Task.yield() }
                        log.leave()
                    }
                }
            )
            while lock.waitingCount != number + 1 { await Task.yield() }
        }
        #expect(log.turns.isEmpty)
        isDone.open()
        await holder.value
        for task in waiting { await task.value }
        #expect(log.turns == [0, 1, 2, 3, 4])
        #expect(await lock.withLock { true })
    }

    @Test func `a body that throws lets the next one go on`() async {
        let lock = AsyncLock()
        await #expect(throws: Refused.self) { try await lock.withLock { throw Refused() } }
        #expect(await lock.withLock { true })
    }

    @Test func `a task that is cancelled while it waits gets its turn all the same`() async {
        let lock = AsyncLock()
        let (isHeld, isDone) = (Latch(), Latch())
        let holder = Task {
            await lock.withLock {
                isHeld.open()
                await isDone.opened()
            }
        }
        await isHeld.opened()
        let waiting = Task { await lock.withLock { Task.isCancelled } }
        while lock.waitingCount != 1 { await Task.yield() }
        waiting.cancel()
        #expect(lock.waitingCount == 1)
        isDone.open()
        #expect(await waiting.value)
        await holder.value
        #expect(await lock.withLock { true })
    }

    @Test func `turns neither overlap nor get lost when tasks come and are cancelled at the same time`() async {
        let lock = AsyncLock()
        let log = Log()
        let tasks = (0..<500).map { number in
            Task {
                await lock.withLock {
                    log.enter(number)
                    await Task.yield()
                    log.leave()
                }
            }
        }
        for task in tasks where Bool.random() { task.cancel() }
        for task in tasks { await task.value }
        #expect(Set(log.turns).count == 500)
        #expect(lock.waitingCount == 0)
    }
}
