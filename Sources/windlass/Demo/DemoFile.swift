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
final class DemoFile: Sendable {
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
            let error = DemoError("'\(path)' is not a file; name one with --file")
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

    private static func failure(_ what: String, _ path: String) -> DemoError {
        let why = String(cString: strerror(errno))
        return DemoError("cannot \(what) '\(path)': \(why); name another file with --file")
    }
}
