import FoundationEssentials
import Glibc
import NodeKit

/// A folder of this process alone, with the copies of plugins that it runs.
///
/// What is mapped from a file changes with the file, and is gone where the file gets shorter: an access there ends the process
/// (`man 2 mmap`, SIGBUS). A copy that nobody else writes keeps a host running while its plugins are replaced. The copies stay
/// until the process ends, so that a debugger and the runtime's report of a crash find names and lines in them.
struct PluginCopies: Sendable {
    /// How many times another folder is made where one vanished as it was made.
    private static let attemptsMax = 10
    private static let prefix = "windlass-plugins-"

    private let folder: String
    private let lock: Int32

    /// Makes the folder, where temporary files are (`TMPDIR`, else `/tmp`), and removes those of processes that were killed.
    init() throws(NodeError) {
        let parent = FileManager.default.temporaryDirectory.path
        Self.removeStale(in: parent)
        for _ in 0..<Self.attemptsMax {
            let folder = try Self.makeFolder(in: parent)
            let lock = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            // Another process that begins may have taken it for one of a process that was killed before it had its lock.
            if lock >= 0, flock(lock, LOCK_EX) == 0, Self.status(lock).st_nlink > 0 {
                self.folder = folder
                self.lock = lock
                return
            }
            if lock >= 0 { close(lock) }
        }
        throw NodeError(.unavailable, "each folder that is made in '\(parent)' vanishes at once")
    }

    /// Removes the folder, at the end of the process: the code stays loaded.
    func remove() {
        try? FileManager.default.removeItem(atPath: self.folder)
        close(self.lock)
    }

    /// Writes a copy of a library, and links to the libraries beside it, among which it looks for those that it needs (`man 8
    /// ld.so`, `$ORIGIN`).
    ///
    /// - Parameters:
    ///   - bytes: What was read from the file.
    ///   - path: The file; the copy has its name.
    /// - Returns: The copy's path, another one for each call.
    /// - Throws: ``NodeError`` with the code `unavailable` if there is no room, for example.
    func copy(_ bytes: [UInt8], of path: String) throws(NodeError) -> String {
        let (source, name) = Self.split(path)
        let folder = try Self.makeFolder(in: self.folder)
        for other in (try? FileManager.default.contentsOfDirectory(atPath: source)) ?? []
        where other != name && other.hasPrefix("lib") && other.contains(".so") {
            symlink("\(source)/\(other)", "\(folder)/\(other)")
        }
        let copy = "\(folder)/\(name)"
        let descriptor = Glibc.open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o500)
        guard descriptor >= 0 else { throw Self.failure(to: "make '\(copy)'") }
        defer { close(descriptor) }
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes {
                write(descriptor, $0.baseAddress.map { $0 + written }, $0.count - written)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Self.failure(to: "write '\(copy)'") }
            written += count
        }
        return copy
    }

    /// Removes folders that are not locked: the processes that made them were killed.
    private static func removeStale(in parent: String) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
        where name.hasPrefix(Self.prefix) {
            let folder = "\(parent)/\(name)"
            let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            // Those of another user may change under our hands.
            if Self.status(descriptor).st_uid == geteuid(), flock(descriptor, LOCK_EX | LOCK_NB) == 0 {
                try? FileManager.default.removeItem(atPath: folder)
            }
        }
    }

    /// Makes a folder that only this user may enter, with a name that no other has (`man 3 mkdtemp`).
    private static func makeFolder(in parent: String) throws(NodeError) -> String {
        var template = Array("\(parent)/\(Self.prefix)XXXXXX".utf8CString)
        guard template.withUnsafeMutableBufferPointer({ $0.baseAddress.flatMap { mkdtemp($0) } }) != nil else {
            throw Self.failure(to: "make a folder in '\(parent)'")
        }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        return (String(path[..<slash]), String(path[path.index(after: slash)...]))
    }

    private static func status(_ descriptor: Int32) -> stat {
        var status = stat()
        fstat(descriptor, &status)
        return status
    }

    private static func failure(to attempt: String) -> NodeError {
        NodeError(.unavailable, "cannot \(attempt): \(String(cString: strerror(errno)))")
    }
}
