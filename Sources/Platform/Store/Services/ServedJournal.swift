import FoundationEssentials
import NodeKit
import OTA

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// A file that keeps what was served and is not in the database yet.
///
/// What is served is stored every few seconds, as a transaction for each chunk would cost more than the chunk. That all bytes were
/// served must be known after `kill -9`, too: such a process loses its memory, but not what it wrote to pages that it shares with the
/// system. So the file is mapped, and to note a chunk is to write some bytes of memory. After a loss of power the last seconds are
/// missing.
///
/// The file has two halves. One takes what is served now; the other has what is being stored, and is emptied when that is
/// committed. Not thread-safe: its owner has a lock. `@unchecked`: it is used under that lock alone.
final class ServedJournal: @unchecked Sendable {
    /// The most ranges in one half.
    ///
    /// What is served beyond that before the next time it is stored is in memory alone.
    static let entriesMax = 32_768

    /// A range of bytes that was served.
    struct Entry: Equatable {
        var device: DeviceId
        var type: OtaPackageType
        var package: OtaPackageId
        var range: Range<Int64>
        /// When its first byte was served, by the host's clock.
        var time: Timestamp
    }

    /// Where an entry is.
    struct Place {
        fileprivate var half: Int
        fileprivate var index: Int
    }

    private static let entryBytes = 64
    /// The number of entries, and padding up to the size of an entry.
    private static let halfBytes = entryBytes * (1 + ServedJournal.entriesMax)
    private static let fileBytes = 2 * halfBytes

    private let memory: UnsafeMutableRawPointer
    /// The half that takes what is served now.
    private var current = 0

    /// Opens or makes the file.
    ///
    /// Its place on the disk is taken at once: to write a mapped page for which there is no room would end the process
    /// (`man 2 mmap`, SIGBUS).
    ///
    /// - Parameters:
    ///   - path: Where it is.
    ///   - mode: Who may read it.
    /// - Throws: ``SystemError`` if the file cannot be made or mapped.
    init(path: String, mode: mode_t = 0o600) throws {
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, mode)
        guard file >= 0 else { throw SystemError(call: "open", number: errno) }
        defer { close(file) }
        // The umask may have taken bits away (man 2 umask).
        guard fchmod(file, mode) == 0 else { throw SystemError(call: "fchmod", number: errno) }
        let code = posix_fallocate(file, 0, off_t(Self.fileBytes))
        guard code == 0 else { throw SystemError(call: "posix_fallocate", number: code) }
        let memory = mmap(nil, Self.fileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
        guard let memory, memory != MAP_FAILED else { throw SystemError(call: "mmap", number: errno) }
        self.memory = memory
    }

    deinit { munmap(self.memory, Self.fileBytes) }

    /// All that was noted and not emptied, such as by a process that ended early.
    var entries: [Entry] { (0..<2).flatMap { half in (0..<self.count(half)).compactMap { self.entry(half, $0) } } }

    /// Notes a range; `nil` if there is no room.
    func append(_ entry: Entry) -> Place? {
        let count = self.count(self.current)
        guard count < Self.entriesMax else { return nil }
        let start = self.offset(self.current, count)
        self.memory.storeBytes(of: entry.device.uuid.uuid, toByteOffset: start, as: uuid_t.self)
        self.memory.storeBytes(of: entry.package.uuid.uuid, toByteOffset: start + 16, as: uuid_t.self)
        self.memory.storeBytes(of: entry.range.lowerBound, toByteOffset: start + 32, as: Int64.self)
        self.memory.storeBytes(of: entry.range.upperBound, toByteOffset: start + 40, as: Int64.self)
        self.memory.storeBytes(of: entry.type == .firmware ? 1 : 2, toByteOffset: start + 48, as: Int64.self)
        self.memory.storeBytes(of: entry.time.rawValue, toByteOffset: start + 56, as: Int64.self)
        self.setCount(self.current, count + 1)
        return Place(half: self.current, index: count)
    }

    /// Notes that a range goes on.
    ///
    /// - Returns: `false` if its half is not the one that takes what is served now; then it needs an entry of its own.
    func extend(_ place: Place, to end: Int64) -> Bool {
        guard place.half == self.current, place.index < self.count(place.half) else { return false }
        self.memory.storeBytes(of: end, toByteOffset: self.offset(place.half, place.index) + 40, as: Int64.self)
        return true
    }

    /// Whether nothing is noted.
    var isEmpty: Bool { self.count(0) == 0 && self.count(1) == 0 }

    /// Puts what follows into the other half, if that is empty.
    ///
    /// It is not if what it has could not be committed.
    ///
    /// - Returns: The half that takes nothing now: to be emptied when all that is in memory is committed.
    func turn() -> Int {
        if self.count(1 - self.current) == 0 { self.current = 1 - self.current }
        return 1 - self.current
    }

    /// Forgets what a half has.
    func empty(_ half: Int) { self.setCount(half, 0) }

    private func entry(_ half: Int, _ index: Int) -> Entry? {
        let start = self.offset(half, index)
        let lower = self.memory.load(fromByteOffset: start + 32, as: Int64.self)
        let upper = self.memory.load(fromByteOffset: start + 40, as: Int64.self)
        guard 0 <= lower, lower < upper else { return nil }
        return Entry(
            device: DeviceId(UUID(uuid: self.memory.load(fromByteOffset: start, as: uuid_t.self))),
            type: self.memory.load(fromByteOffset: start + 48, as: Int64.self) == 1 ? .firmware : .software,
            package: OtaPackageId(UUID(uuid: self.memory.load(fromByteOffset: start + 16, as: uuid_t.self))),
            range: lower..<upper,
            time: Timestamp(milliseconds: self.memory.load(fromByteOffset: start + 56, as: Int64.self))
        )
    }

    private func offset(_ half: Int, _ index: Int) -> Int { half * Self.halfBytes + (1 + index) * Self.entryBytes }

    /// What the file says, which may be anything.
    private func count(_ half: Int) -> Int {
        Int(
            clamping: min(
                max(self.memory.load(fromByteOffset: half * Self.halfBytes, as: Int64.self), 0),
                Int64(Self.entriesMax)
            )
        )
    }

    private func setCount(_ half: Int, _ count: Int) {
        self.memory.storeBytes(of: Int64(count), toByteOffset: half * Self.halfBytes, as: Int64.self)
    }
}
