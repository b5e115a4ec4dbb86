import NIOCore
import NIOPosix

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Tells a client that reads slowly from one that does not read: by how many bytes wait for it.
struct WriteWatch: Hashable {
    private var waiting = 0
    private var deadline = NIODeadline.distantFuture

    /// Begins to watch, with so many bytes waiting.
    ///
    /// - Parameters:
    ///   - waiting: How many bytes wait for the client.
    ///   - now: The present time.
    ///   - timeout: How long none of them may be taken.
    /// - Returns: When to look again.
    mutating func begin(waiting: Int, at now: NIODeadline, timeout: TimeAmount) -> NIODeadline {
        self.waiting = waiting
        self.deadline = now + timeout
        return self.deadline
    }

    /// Looks again: another number than before means that the client reads, and that the time begins anew.
    ///
    /// - Parameters:
    ///   - waiting: How many bytes wait for the client.
    ///   - now: The present time.
    ///   - timeout: How long none of them may be taken.
    /// - Returns: When to look again; `nil` if the time is up.
    mutating func check(waiting: Int, at now: NIODeadline, timeout: TimeAmount) -> NIODeadline? {
        if waiting != self.waiting { return self.begin(waiting: waiting, at: now, timeout: timeout) }
        return now < self.deadline ? self.deadline : nil
    }

    /// How many bytes wait for the client of a connection: those that we hold, and those that the system holds.
    ///
    /// Ours alone would not do. The system takes some megabytes at once, and then nothing until about a third of them is
    /// gone, for which a slow client may need longer than the time it has. The system's become fewer whenever the client's
    /// side acknowledges some.
    static func waiting(in channel: any Channel) -> Int {
        // Every socket channel has the option and the handle; without them the deadline is a plain one.
        let held = (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
        let operations = channel.pipeline.syncOperations
        let sent = try? operations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { socket in
            Self.unacknowledged(socket)
        }
        return held + (sent ?? 0)
    }

    private static func unacknowledged(_ socket: NIOBSDSocket.Handle) -> Int {
        var count: CInt = 0
        #if canImport(Darwin)
            var size = socklen_t(MemoryLayout<CInt>.size)
            return getsockopt(socket, SOL_SOCKET, SO_NWRITE, &count, &size) == 0 ? Int(count) : 0
        #else
            // Also called SIOCOUTQ: for TCP, what the other side has not acknowledged (tcp(7)).
            return ioctl(socket, UInt(TIOCOUTQ), &count) == 0 ? Int(count) : 0
        #endif
    }
}
