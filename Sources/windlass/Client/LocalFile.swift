import NIOCore
import NIOPosix

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// A file that is read piece by piece, off the event loops.
final class LocalFile: Sendable {
    /// Size in bytes when it was opened.
    let size: Int
    private let path: String
    private let descriptor: Int32

    /// Opens a file for reading.
    init(_ path: String) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure("open", path) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            let error = CommandFailure(.failed, "'\(path)' is not a file; name another")
            close(descriptor)
            throw error
        }
        self.size = Int(status.st_size)
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(self.descriptor) }

    /// The bytes from an offset on, at most so many; none at the end.
    func read(from offset: Int, count: Int) async throws -> ByteBuffer {
        try await NIOThreadPool.singleton.runIfActive {
            var bytes = ByteBufferAllocator().buffer(capacity: count)
            let got = bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { room in
                max(0, pread(self.descriptor, room.baseAddress, count, off_t(offset)))
            }
            guard got > 0 || offset >= self.size else { throw Self.failure("read", self.path) }
            return bytes
        }
    }

    /// Hands on the bytes from start to end, at most so many at a time, each piece with the offset where it ends.
    func pieces(of count: Int, _ body: (ByteBuffer, Int) async throws -> Void) async throws {
        var offset = 0
        while offset < self.size {
            let bytes = try await self.read(from: offset, count: min(count, self.size - offset))
            guard bytes.readableBytes > 0 else {
                throw CommandFailure(.failed, "'\(self.path)' became shorter while it was read")
            }
            offset += bytes.readableBytes
            try await body(bytes, offset)
        }
    }

    private static func failure(_ what: String, _ path: String) -> CommandFailure {
        let why = String(cString: strerror(errno))
        return CommandFailure(.failed, "cannot \(what) '\(path)': \(why); name another file")
    }
}
