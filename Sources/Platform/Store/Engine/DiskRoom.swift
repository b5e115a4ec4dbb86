import NodeKit
import Synchronization

/// How much of the disk is kept free, and for what.
///
/// Packages are large and come rarely, so uploads stop while there is still room for what devices report. To delete takes some room
/// too, until the log of the database is emptied: for that there is a file which nothing is in, and which goes when it is needed.
struct DiskRoom: Sendable {
    /// How many bytes uploads leave free unless told otherwise.
    static let reserveBytes: Int64 = 64 << 20

    let directory: String
    let system: any FileSystem
    /// How many bytes uploads leave free.
    let reserve: Int64
    let deletion: DeletionRoom

    init(_ folder: DataFolder, reserve: Int64, system: any FileSystem) {
        self.directory = folder.path
        self.system = system
        self.reserve = reserve
        self.deletion = DeletionRoom(folder, bytes: min(reserve / 4, DeletionRoom.bytesMax), system: system)
    }

    /// How many bytes are free, with those that are kept for deletions; `nil` if the system does not say.
    var freeBytes: Int64? { self.system.freeBytes(in: self.directory).map { $0 + self.deletion.bytes } }

    /// Whether so many bytes of a package may be written.
    ///
    /// - Parameters:
    ///   - bytes: How many.
    ///   - reusable: How many of them may take the place of others, without the disk. They go through the log of the database
    ///     all the same, so half of the reserve must be free.
    /// - Returns: `true` also if the system does not say what is free.
    func has(_ bytes: Int64, reusing reusable: Int64 = 0) -> Bool {
        guard let free = self.freeBytes else { return true }
        return free + reusable - bytes >= self.reserve && free >= self.reserve / 2
    }

    /// Refuses bytes of an upload that would go into the reserve; `what` could not be done.
    func check(_ bytes: Int, reusing reusable: Int64, _ what: String) throws(NodeError) {
        guard !self.has(Int64(bytes), reusing: reusable) else { return }
        throw NodeError(
            .storageFull,
            """
            \(what): \(Self.text(self.freeBytes ?? 0)) are free in the data folder, and uploads leave \(Self.text(self.reserve)) for reports \
            and deletions; delete packages that nothing uses, make room on the disk, or set 'data.reserve.bytes' lower
            """
        )
    }

    private static func text(_ bytes: Int64) -> String {
        bytes < 1 << 20 ? "\(bytes) bytes" : "\(bytes >> 20) MiB"
    }
}

/// Room on the disk that only deletions get, in the form of a file that can be removed.
///
/// Without it, a disk that is full, of whatever, could not be emptied by deleting: SQLite writes down what it removes before it
/// does (sqlite.org/wal.html).
final class DeletionRoom: Sendable {
    static let fileName = "windlass.reserve"
    /// The most that is kept: a hundred times what deleting a package takes, and enough for a device with half a million points, of
    /// which a million take 24 MiB of the log.
    static let bytesMax: Int64 = 16 << 20
    /// The least that is kept; with less on the disk there is nothing to keep.
    static let bytesMin: Int64 = 256 << 10

    private let folder: DataFolder
    private let wanted: Int64
    private let system: any FileSystem
    private let held = Mutex<Int64>(0)

    init(_ folder: DataFolder, bytes: Int64, system: any FileSystem) {
        self.folder = folder
        self.wanted = bytes
        self.system = system
    }

    /// How many bytes are kept now.
    var bytes: Int64 { self.held.withLock { $0 } }

    private var path: String { "\(self.folder.path)/\(Self.fileName)" }

    /// Takes what is wanted, or as much of it as is free; blocks, but not for long.
    func take() {
        self.held.withLock { held in
            guard held < self.wanted else { return }
            // To try for more, what is held is given up for a moment.
            if held > 0, (self.system.freeBytes(in: self.folder.path) ?? 0) < self.wanted - held { return }
            held = 0
            var bytes = self.wanted
            while bytes >= min(Self.bytesMin, self.wanted) {
                if self.make(bytes) {
                    held = bytes
                    return
                }
                bytes /= 2
            }
        }
    }

    /// Gives the room to a deletion that follows; `false` if there is none.
    func give() -> Bool {
        self.held.withLock { held in
            defer { held = 0 }
            return (try? self.system.remove(self.path)) != nil
        }
    }

    /// Makes the file anew with so many bytes; if anything fails, the file does not exist.
    private func make(_ bytes: Int64) -> Bool {
        try? self.system.remove(self.path)
        guard let file = try? self.system.create(self.path, mode: self.folder.fileMode) else { return false }
        defer { posixClose(file) }
        if (try? self.system.allocate(bytes, for: file)) != nil { return true }
        try? self.system.remove(self.path)
        return false
    }
}
