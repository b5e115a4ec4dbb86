import NIOCore
import NodeTesting
import Testing

@testable import IngressKit

@Suite struct RateLimiterTests {
    private static func time(_ milliseconds: Int64) -> NIODeadline {
        .uptimeNanoseconds(10_000_000_000) + .milliseconds(milliseconds)
    }

    @Test("a key that was idle may a second's worth at once and not once more; then its share comes back evenly")
    func limit() {
        let limiter = RateLimiter<String>(perSecond: 10)
        for _ in 0..<10 { #expect(limiter.admit("a", at: Self.time(0))) }
        #expect(!limiter.admit("a", at: Self.time(0)))
        #expect(!limiter.admit("a", at: Self.time(99)))
        #expect(limiter.admit("a", at: Self.time(100)))
        #expect(!limiter.admit("a", at: Self.time(100)))
        for _ in 0..<10 { #expect(limiter.admit("a", at: Self.time(5000))) }
        #expect(!limiter.admit("a", at: Self.time(5000)))
    }

    @Test("keys do not share")
    func keys() {
        let limiter = RateLimiter<String>(perSecond: 1)
        #expect(limiter.admit("a", at: Self.time(0)))
        #expect(limiter.admit("b", at: Self.time(0)))
        #expect(!limiter.admit("a", at: Self.time(0)))
    }

    @Test("without a limit nothing is kept")
    func unlimited() {
        let limiter = RateLimiter<Int>(perSecond: 0)
        for _ in 0..<1000 { #expect(limiter.admit(1, at: Self.time(0))) }
        #expect(limiter.keyCount == 0)
    }

    @Test("as many keys are kept as the limit; those that rest make room, and others are let through")
    func bounded() {
        let limiter = RateLimiter<Int>(perSecond: 1, keysMax: 3)
        for key in 0..<3 { #expect(limiter.admit(key, at: Self.time(0))) }
        for _ in 0..<2 { #expect(limiter.admit(3, at: Self.time(10)), "one too many is not kept apart") }
        #expect(limiter.keyCount == 3)
        #expect(!limiter.admit(0, at: Self.time(10)))
        #expect(limiter.admit(3, at: Self.time(1000)))
        #expect(!limiter.admit(3, at: Self.time(1000)))
        #expect(limiter.keyCount == 1)
    }
}
