import NIOCore
import NIOPosix
import Testing

@testable import HTTPKit

@Suite(.timeLimit(.minutes(5))) struct WriteWatchTests {
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

    @Test("what the client's side takes counts at once, also while the system takes nothing more from us")
    func taking() async throws {
        let group = MultiThreadedEventLoopGroup.singleton
        let accepted = group.next().makePromise(of: (any Channel).self)
        let listener = try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                accepted.succeed(channel)
                return channel.eventLoop.makeSucceededVoidFuture()
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let client = try await ClientBootstrap(group: group)
            .channelOption(.autoRead, value: false)
            .channelOption(.socketOption(.so_rcvbuf), value: 64 * 1024)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 16 * 1024))
            .channelOption(.maxMessagesPerRead, value: 1)
            .connect(to: try #require(listener.localAddress)).get()
        let server = try await accepted.futureResult.get()
        server.writeAndFlush(ByteBuffer(repeating: 0x78, count: 64 << 20), promise: nil)

        /// What we hold, and what waits in all.
        func counts() async throws -> (held: Int, waiting: Int) {
            try await server.eventLoop.submit {
                let held = try server.syncOptions?.getOption(.bufferedWritableBytes)
                return (held ?? 0, WriteWatch.waiting(in: server))
            }.get()
        }
        // Reads a little until that is noticed although we hold as much as before.
        var before = try await counts()
        while true {
            client.read()
            try await Task.sleep(for: .milliseconds(5))
            let now = try await counts()
            if now.held == before.held, now.waiting < before.waiting { break }
            before = now
        }
        #expect(before.held > 0)
        try await client.close()
        try? await server.close()
        try await listener.close()
    }
}
