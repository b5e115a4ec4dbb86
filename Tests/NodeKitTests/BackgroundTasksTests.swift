import NodeKit
import NodeTesting
import Synchronization
import Testing
import Waiting

@Suite(.timeLimit(.minutes(1))) struct BackgroundTasksTests {
    @Test func `a task that was started goes on when the call that started it has ended, and is counted`() async {
        let tasks = BackgroundTasks()
        let (mayEnd, hasEnded) = (Latch(), Latch())
        tasks.spawn {
            await mayEnd.opened()
            hasEnded.open()
        }
        #expect(tasks.count == 1)
        mayEnd.open()
        await tasks.finished()
        #expect(hasEnded.isOpen && tasks.count == 0)
    }

    @Test(arguments: [1, 3]) func `no more are under way than may be`(countMax: Int) async {
        let tasks = BackgroundTasks(countMax: countMax)
        let mayEnd = Latch()
        for _ in 0..<countMax { #expect(tasks.spawn { await mayEnd.opened() }) }
        #expect(!tasks.spawn {})
        mayEnd.open()
        await tasks.finished()
        #expect(tasks.spawn {})
        await tasks.finished()
    }

    @Test func `at the end they are cancelled and waited for, and none begins any more`() async {
        let tasks = BackgroundTasks()
        let ended = Mutex(0)
        for _ in 0..<100 {
            tasks.spawn {
                try? await ManualClock().sleep(for: .seconds(1))
                ended.withLock { $0 += 1 }
            }
        }
        await tasks.close()
        #expect(ended.withLock { $0 } == 100 && tasks.count == 0)
        #expect(!tasks.spawn {})
    }

    @Test func `what must not be cut off is done although the caller is cancelled`() async throws {
        let mayGoOn = Latch()
        let isCancelled = Mutex<Bool?>(nil)
        let tasks = BackgroundTasks()
        let caller = Task {
            try await tasks.withoutCancellation {
                await mayGoOn.opened()
                isCancelled.withLock { $0 = Task.isCancelled }
                return 7
            }
        }
        caller.cancel()
        mayGoOn.open()
        #expect(try await caller.value == 7)
        #expect(isCancelled.withLock { $0 } == false)
    }
}

/// Virtual time, as tests of nodes and chains have it.
@Suite(.timeLimit(.minutes(1))) struct VirtualTimeTests {
    /// Notes when something happened.
    private final class Diary: Sendable {
        private let lines = Mutex<[String]>([])
        var all: [String] { self.lines.withLock { $0 } }
        func note(_ text: String, _ clock: ManualClock) {
            let seconds = Int(ManualClock().now.duration(to: clock.now) / .seconds(1))
            self.lines.withLock { $0.append("\(seconds) \(text)") }
        }
    }

    @Test func `who waits wakes in the order of the deadlines, each at its own time`() async throws {
        let domain = try TestDomain()
        let diary = Diary()
        let start = domain.now()
        var running: [Task<Void, any Error>] = []
        for pause in [5, 2, 3] {
            running.append(
                domain.start {
                    for _ in 0..<2 {
                        try await domain.clock.sleep(for: .seconds(pause))
                        diary.note("\(pause)", domain.clock)
                    }
                }
            )
        }
        await domain.pass(.seconds(1))
        #expect(diary.all == [])
        await domain.pass(.seconds(8))
        #expect(diary.all == ["2 2", "3 3", "4 2", "5 5", "6 3"])
        #expect(start.duration(to: domain.now()) == .seconds(9))
        #expect(await domain.passToNextDeadline() == .seconds(1))
        #expect(await domain.passToNextDeadline() == nil)
        #expect(diary.all.last == "10 5")
        for task in running { try await task.value }
    }

    @Test func `it is quiet only when tasks, their children and what they leave behind wait`() async throws {
        let domain = try TestDomain()
        let services = domain.services()
        let diary = Diary()
        let run = domain.start {
            await withDiscardingTaskGroup { group in
                for _ in 0..<10 { group.addTask { await Self.work(diary, domain, services.tasks) } }
            }
            services.spawn { await Self.work(diary, domain, services.tasks) }
        }
        await domain.idle()
        #expect(diary.all.count == 11)
        try await run.value
    }

    private static func work(_ diary: Diary, _ domain: TestDomain, _ tasks: BackgroundTasks) async {
        for _ in 0..<100 { await Task.yield() }
        try? await tasks.withoutCancellation {
            for _ in 0..<100 { await Task.yield() }
            diary.note("done", domain.clock)
        }
    }

    @Test func `a sleep until a time that is past is over at once, and one that is cancelled throws`() async throws {
        let clock = ManualClock()
        try await clock.sleep(for: .zero)
        try await clock.sleep(until: clock.now.advanced(by: .seconds(-1)), tolerance: nil)
        let sleeping = Task { try await clock.sleep(for: .seconds(1)) }
        await clock.sleeper(for: .seconds(1))
        #expect(clock.nextDeadline == clock.now.advanced(by: .seconds(1)))
        sleeping.cancel()
        await #expect(throws: CancellationError.self) { try await sleeping.value }
        #expect(clock.nextDeadline == nil)
    }
}
