import FoundationEssentials
import Logging
import NodeKit

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// The folder with all that a host keeps: where everything in it is, and who may open it.
///
/// The files hold what lets others in as devices and users, so they belong to the host's user alone unless an operator lets
/// the folder's group read them.
struct DataFolder: Sendable {
    let path: String
    /// Whether the group of the folder may read it.
    var isGroupReadable = false

    var database: String { "\(self.path)/windlass.sqlite" }
    var packages: String { "\(self.path)/packages" }
    var lock: String { "\(self.path)/windlass.lock" }
    var served: String { "\(self.path)/windlass.served" }

    /// The mode of files.
    var fileMode: mode_t { self.isGroupReadable ? 0o640 : 0o600 }
    /// The mode of the folder and of those in it.
    var folderMode: mode_t { self.isGroupReadable ? 0o750 : 0o700 }
    /// The mode of the signing keys: a user who can read them can make logins, so the group never may.
    static let keyMode: mode_t = 0o600

    /// Makes the folder, takes its lock, and gives all that is in it the mode that it is to have.
    ///
    /// - Throws: ``NodeError`` with a sentence for the operator.
    func open(_ logger: Logger) throws -> DirectoryLock {
        do {
            try self.make()
            let lock = try DirectoryLock(self.lock, mode: self.fileMode)
            self.mend(logger)
            return lock
        } catch let error as SystemError where error.wouldBlock {
            throw NodeError(
                .conflict,
                "could not open the data folder '\(self.path)': another process has it open; stop that or choose another folder with --data",
                cause: error
            )
        } catch let error as SystemError where error.call != "mkdir" {
            throw NodeError(
                .unavailable,
                "could not write in the data folder '\(self.path)' (\(error)); choose one that can be written, with --data",
                cause: error
            )
        } catch {
            throw NodeError(
                .unavailable,
                "could not make the data folder '\(self.path)'; choose one that can be written, with --data",
                cause: error
            )
        }
    }

    private func make() throws {
        let parent = URL(filePath: self.path).deletingLastPathComponent().path
        if !parent.isEmpty {
            try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        }
        for folder in [self.path, self.packages] where !Self.isFolder(folder) {
            _ = try POSIXFileSystem.check("mkdir") { mkdir(folder, self.folderMode) }
            // The umask may have taken bits away (man 2 umask).
            _ = try POSIXFileSystem.check("mkdir") { chmod(folder, self.folderMode) }
        }
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Gives what the store made the modes of today.
    ///
    /// Earlier versions left most of it to the umask. What cannot be changed, as it belongs to another user, stays as it is:
    /// then the log says so, and the host starts all the same.
    private func mend(_ logger: Logger) {
        var wanted: [(path: String, mode: mode_t)] = [(self.path, self.folderMode), (self.packages, self.folderMode)]
        for name in (try? FileManager.default.contentsOfDirectory(atPath: self.path)) ?? []
        where name.hasPrefix("windlass.") {
            let isKey = name.hasPrefix(SigningKeys.fileName)
            wanted.append(("\(self.path)/\(name)", isKey ? Self.keyMode : self.fileMode))
        }
        for name in (try? FileManager.default.contentsOfDirectory(atPath: self.packages)) ?? []
        where PackageFiles.kind(of: name) != .foreign {
            wanted.append(("\(self.packages)/\(name)", self.fileMode))
        }
        var closed = 0
        var open: [String] = []
        for (path, mode) in wanted {
            guard let now = Self.mode(of: path), now & 0o777 != mode else { continue }
            let isWider = now & 0o777 & ~mode != 0
            // The set-group-identifier bit of a folder says which group new files get (man 7 inode).
            if chmod(path, now & 0o7000 | mode) == 0 {
                if isWider { closed += 1 }
            } else if isWider {
                open.append(path)
            }
        }
        if closed > 0 {
            logger.warning(
                "the data folder was open to other users and is not any more; they may have read access tokens and keys",
                metadata: ["data.folder": "\(self.path)", "data.mended": "\(closed)"]
            )
        }
        if let first = open.first {
            logger.warning(
                "the data folder is open to other users; make the host's user its owner",
                metadata: ["data.folder": "\(self.path)", "data.open": "\(open.count)", "data.path": "\(first)"]
            )
        }
    }

    /// The mode of a file or folder; `nil` for what is neither.
    ///
    /// The packages may be on another disk, behind a link.
    static func mode(of path: String) -> mode_t? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        let kind = status.st_mode & S_IFMT
        return kind == S_IFREG || kind == S_IFDIR ? status.st_mode & 0o7777 : nil
    }

    /// Makes the file of the database, so that SQLite gives its mode to the log and the index beside it as well
    /// (sqlite.org/src, `findCreateFileMode`).
    ///
    /// Nothing in this process may have the file open: closing it would give up the locks of SQLite (man 2 fcntl).
    func makeDatabase(_ system: any FileSystem) throws {
        guard try system.size(self.database) == nil else { return }
        posixClose(try system.create(self.database, mode: self.fileMode))
    }
}
