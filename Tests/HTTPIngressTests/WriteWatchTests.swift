import NIOCore
import Testing

@testable import HTTPIngress

@Suite struct WriteWatchTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    @Test("a client that takes nothing has its time and not more", arguments: [(9_999, false), (10_000, true)])
    func stalled(milliseconds: Int64, isUp: Bool) {
        var watch = WriteWatch()
        #expect(watch.begin(waiting: 100, at: Self.start, timeout: .seconds(10)) == Self.start + .seconds(10))
        let now = Self.start + .milliseconds(milliseconds)
        #expect((watch.check(waiting: 100, at: now, timeout: .seconds(10)) == nil) == isUp)
    }

    @Test("a client that takes a byte now and then has its time anew each time")
    func slow() {
        var watch = WriteWatch()
        var now = Self.start
        _ = watch.begin(waiting: 100, at: now, timeout: .seconds(10))
        for waiting in (50..<100).reversed() {
            now = now + .seconds(10)
            #expect(watch.check(waiting: waiting, at: now, timeout: .seconds(10)) == now + .seconds(10))
        }
        #expect(watch.check(waiting: 50, at: now + .seconds(10), timeout: .seconds(10)) == nil)
    }
}
