import FoundationEssentials
import NIOPosix
import NodeKit

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// What the store does with files, so that tests can make any of it fail.
protocol FileSystem: Sendable {
    /// Makes a file that did not exist, to be written, with exactly this mode, whatever the umask of the process is.
    func create(_ path: String, mode: mode_t) throws -> Int32
    /// Opens a file to be read.
    func open(_ path: String) throws -> Int32
    /// Writes all bytes.
    func write(_ bytes: UnsafeRawBufferPointer, to file: Int32) throws
    /// Returns when the file's bytes are on the disk.
    func sync(_ file: Int32) throws
    /// Returns when the names in a folder are on the disk.
    func syncDirectory(_ path: String) throws
    /// Gives a file another name.
    func rename(_ old: String, to new: String) throws
    /// Removes a file.
    func remove(_ path: String) throws
    /// The size of a file in bytes; `nil` if there is none.
    func size(_ path: String) throws -> Int64?
    /// The names in a folder.
    func names(in path: String) throws -> [String]
    /// Gives a file that is being written room on the disk, so many bytes of it.
    func allocate(_ bytes: Int64, for file: Int32) throws
    /// How many bytes may still be written on the disk of a folder; `nil` if the system does not say.
    func freeBytes(in path: String) -> Int64?
}

extension FileSystem {
    /// Puts bytes in the place of a file's, in one step: after a crash the file has the old ones or the new ones.
    func replace(_ name: String, in folder: String, with bytes: [UInt8], mode: mode_t) throws {
        let path = "\(folder)/\(name)"
        let part = "\(path).part"
        if try self.size(part) != nil { try self.remove(part) }
        try self.make(part, of: bytes, mode: mode)
        try self.rename(part, to: path)
        try self.syncDirectory(folder)
    }

    private func make(_ path: String, of bytes: [UInt8], mode: mode_t) throws {
        let file = try self.create(path, mode: mode)
        defer { posixClose(file) }
        try bytes.withUnsafeBytes { try self.write($0, to: file) }
        try self.sync(file)
    }

    /// The bytes of a small file; `nil` if there is none.
    ///
    /// - Throws: ``SystemError``; `EFBIG` if the file is longer than `max` bytes.
    func contents(of path: String, max: Int) throws -> [UInt8]? {
        guard try self.size(path) != nil else { return nil }
        let file = try self.open(path)
        defer { posixClose(file) }
        var contents: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: max + 1)
        while true {
            let count = try bytes.withUnsafeMutableBytes { try POSIXFileSystem.read(file, into: $0) }
            if count == 0 { return contents }
            contents += bytes[..<count]
            guard contents.count <= max else { throw SystemError(call: "read", number: EFBIG) }
        }
    }
}

/// A system call that failed.
struct SystemError: Error, CustomStringConvertible {
    /// The call, such as `write`.
    var call: String
    /// What was the matter (man 3 errno).
    var number: Int32

    /// The reason in the words of the system.
    var description: String { "\(self.call): \(String(cString: strerror(self.number)))" }
}

extension NodeError {
    /// Says what an error of the file system means; `what` could not be done.
    init(file error: any Error, _ what: String) {
        guard let system = error as? SystemError else {
            self.init(wrapping: error)
            return
        }
        switch system.number {
        case ENOSPC, EDQUOT:
            self.init(.storageFull, "\(what): the disk is full; make room in the data folder", cause: error)
        case EMFILE, ENFILE:
            self.init(.unavailable, "\(what): too many files are open; raise the limit (ulimit -n)", cause: error)
        default:
            self.init(.internalError, "\(what): \(system)", cause: error)
        }
    }
}

/// The files of the system.
struct POSIXFileSystem: FileSystem {
    func create(_ path: String, mode: mode_t) throws -> Int32 {
        try Self.create(path, O_WRONLY, mode: mode)
    }

    /// Makes a file that did not exist; its mode is never wider than it is to be, also for a moment.
    fileprivate static func create(_ path: String, _ access: Int32, mode: mode_t) throws(SystemError) -> Int32 {
        let file = try Self.check("create") { posixOpen(path, access | O_CREAT | O_EXCL | O_CLOEXEC, mode) }
        do {
            // The umask may have taken bits away (man 2 umask).
            _ = try Self.check("fchmod") { fchmod(file, mode) }
        } catch {
            posixClose(file)
            throw error
        }
        return file
    }

    func open(_ path: String) throws -> Int32 {
        try Self.check("open") { posixOpen(path, O_RDONLY | O_CLOEXEC, 0) }
    }

    func write(_ bytes: UnsafeRawBufferPointer, to file: Int32) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = try Self.check("write") {
                posixWrite(file, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
            }
            rest = rest.dropFirst(written)
        }
    }

    func sync(_ file: Int32) throws {
        _ = try Self.check("fsync") { fsync(file) }
    }

    func syncDirectory(_ path: String) throws {
        let folder = try Self.check("open") { posixOpen(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) }
        defer { _ = posixClose(folder) }
        try self.sync(folder)
    }

    func rename(_ old: String, to new: String) throws {
        _ = try Self.check("rename") { posixRename(old, new) }
    }

    func remove(_ path: String) throws {
        _ = try Self.check("unlink") { unlink(path) }
    }

    func size(_ path: String) throws -> Int64? {
        var status = stat()
        while lstat(path, &status) < 0 {
            if errno == ENOENT { return nil }
            if errno != EINTR { throw SystemError(call: "stat", number: errno) }
        }
        return Int64(status.st_size)
    }

    func names(in path: String) throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path) }

    func allocate(_ bytes: Int64, for file: Int32) throws {
        // Returns the error instead of setting it (man 3 posix_fallocate).
        var error = posix_fallocate(file, 0, off_t(bytes))
        while error == EINTR { error = posix_fallocate(file, 0, off_t(bytes)) }
        if error != 0 { throw SystemError(call: "posix_fallocate", number: error) }
    }

    func freeBytes(in path: String) -> Int64? {
        var status = statvfs()
        guard posixStatvfs(path, &status) == 0 else { return nil }
        return Int64(clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).0)
    }

    /// Reads bytes from where the last read of an open file ended; returns how many, 0 at the end.
    static func read(_ file: Int32, into bytes: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        try Self.check("read") { posixRead(file, bytes.baseAddress, bytes.count) }
    }

    /// Makes a system call until no signal interrupts it (man 7 signal).
    static func check<Number: SignedInteger>(_ call: String, _ body: () -> Number) throws(SystemError) -> Number {
        while true {
            let result = body()
            if result >= 0 { return result }
            if errno != EINTR { throw SystemError(call: call, number: errno) }
        }
    }
}

// The calls whose names are also those of methods here.
private func posixOpen(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 { open(path, flags, mode) }
private func posixWrite(_ file: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(file, bytes, count) }
private func posixRead(_ file: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    read(file, bytes, count)
}
private func posixRename(_ old: String, _ new: String) -> Int32 { rename(old, new) }
private func posixStatvfs(_ path: String, _ status: inout statvfs) -> Int32 { statvfs(path, &status) }

/// Closes a file; nothing can be done about an error here, and whoever needs the bytes safe has synced before.
@discardableResult
func posixClose(_ file: Int32) -> Int32 { close(file) }

/// A lock that one process holds on a folder until it ends, however it ends (man 2 flock).
final class DirectoryLock: Sendable {
    private let file: Int32

    /// Takes the lock, or throws a ``SystemError`` with `EWOULDBLOCK` if another has it.
    init(_ path: String, mode: mode_t) throws(SystemError) {
        let file = try Self.open(path, mode: mode)
        do {
            _ = try POSIXFileSystem.check("flock") { flock(file, LOCK_EX | LOCK_NB) }
        } catch {
            posixClose(file)
            throw error
        }
        self.file = file
    }

    private static func open(_ path: String, mode: mode_t) throws(SystemError) -> Int32 {
        do {
            return try POSIXFileSystem.create(path, O_RDWR, mode: mode)
        } catch  where error.number == EEXIST {
            return try POSIXFileSystem.check("open") { posixOpen(path, O_RDWR | O_CLOEXEC, 0) }
        }
    }

    deinit {
        // Closing alone would leave the lock with a child that was forked just now and has not begun its own program yet.
        flock(self.file, LOCK_UN)
        posixClose(self.file)
    }
}

/// Runs what waits for a disk or computes long on a thread where that harms nobody.
///
/// Goes on when the task is cancelled, so that cleaning up is never left out.
func offEventLoop<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        NIOThreadPool.singleton.submit { state in
            guard case .active = state else {
                continuation.resume(throwing: NodeError(.unavailable, "the host is shutting down"))
                return
            }
            continuation.resume(with: Result { try body() })
        }
    }
}

extension SystemError {
    /// There is nothing with the name.
    static let missing = SystemError(call: "open", number: ENOENT)

    /// Whether another process holds what was asked for.
    var wouldBlock: Bool { self.number == EWOULDBLOCK }
}
