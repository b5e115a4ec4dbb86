import CSystemShims
import NIOCore
import NodeKit

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// The bytes of a file that stays open as long as anyone may read it, also when its name is gone.
final class FileContent: Content {
    let size: Int64
    private let file: Int32

    /// Opens a file of which `size` bytes are expected.
    ///
    /// - Throws: ``SystemError``.
    init(path: String, size: Int64, system: any FileSystem) throws {
        self.file = try system.open(path)
        self.size = size
    }

    deinit { posixClose(self.file) }

    /// Reads bytes all of which are in the page cache.
    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        guard self.contains(range) else { return nil }
        var buffer = ByteBufferAllocator().buffer(capacity: range.count)
        return self.readCached(range, into: &buffer) == range.count ? buffer : nil
    }

    private func contains(_ range: Range<Int64>) -> Bool { range.lowerBound >= 0 && range.upperBound <= self.size }

    /// Reads at once what is in the page cache; only what is not is read by another thread.
    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        guard self.contains(range) else { throw NodeError(range, notWithin: self.size) }
        var buffer = ByteBufferAllocator().buffer(capacity: range.count)
        let count = self.readCached(range, into: &buffer)
        if count == range.count { return buffer }
        let (first, rest) = (buffer, range.lowerBound + Int64(count)..<range.upperBound)
        return try await offEventLoop {
            var buffer = first
            try self.readWaiting(rest, into: &buffer)
            return buffer
        }
    }

    /// Appends what can be had without waiting, from the start of the range on; returns how many bytes that is.
    private func readCached(_ range: Range<Int64>, into buffer: inout ByteBuffer) -> Int {
        guard !range.isEmpty else { return 0 }
        return buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: range.count) { bytes in
            var count = 0
            // A read ends where the page cache does not go on, and sometimes in between.
            while count < range.count {
                let read = windlass_pread_cached(
                    self.file,
                    bytes.baseAddress?.advanced(by: count),
                    range.count - count,
                    range.lowerBound + Int64(count)
                )
                if read < 0 && errno == EINTR { continue }
                if read <= 0 { break }
                count += read
            }
            return count
        }
    }

    private func readWaiting(_ range: Range<Int64>, into buffer: inout ByteBuffer) throws {
        do {
            let count = try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: range.count) { bytes in
                try self.readWaiting(range, into: bytes)
            }
            guard count == range.count else {
                throw NodeError(
                    .internalError,
                    "the file of a package is shorter than its \(self.size) bytes; upload it again"
                )
            }
        } catch {
            throw NodeError(file: error, "could not read the bytes of a package")
        }
    }

    private func readWaiting(_ range: Range<Int64>, into bytes: UnsafeMutableRawBufferPointer) throws -> Int {
        var count = 0
        while count < range.count {
            let offset = off_t(range.lowerBound + Int64(count))
            let target = bytes.baseAddress?.advanced(by: count)
            let read = try POSIXFileSystem.check("pread") { pread(self.file, target, range.count - count, offset) }
            if read == 0 { break }
            count += read
        }
        return count
    }
}
