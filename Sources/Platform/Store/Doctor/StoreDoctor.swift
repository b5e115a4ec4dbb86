import FoundationEssentials
import GRDB
public import NodeKit

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// Looks through the data folder of a host for what must not be there, and mends what can be mended without losing anything.
///
/// It changes nothing unless it is asked to, and may look while a host has the folder open; what it then finds in the middle
/// of a change it looks at twice. Mending is for a folder that nobody has open.
public struct StoreDoctor: Sendable {
    /// What was looked at and found.
    public struct Report: Sendable {
        /// Whether a host had the folder open meanwhile.
        public var isInUse: Bool
        /// How many packages there are.
        public var packages: Int
        /// How many bytes of packages were read and checked.
        public var bytes: Int64
        /// How many devices there are.
        public var devices: Int
        /// The queues that hold messages; whether a node takes them out is known only to a host with its chains.
        public var queues: [WaitingQueue]
        /// What was wrong and is no more.
        public var repaired: [StoreFinding]
        /// What is wrong.
        public var findings: [StoreFinding]
    }

    private let directory: String
    /// How long it waits for another program that has the database locked.
    var lockTimeMax = LockWait.timeMax

    /// Prepares to look through a folder.
    public init(directory: String) { self.directory = directory }

    /// Looks through the folder.
    ///
    /// - Parameter repair: Whether to mend what can be mended.
    /// - Returns: What is there and what is wrong with it.
    /// - Throws: ``NodeError`` if the folder cannot be looked through: it is no data folder, a newer or older version made it,
    ///   or it is to be mended while a host has it open.
    public func examine(repair: Bool) async throws -> Report {
        let files = POSIXFileSystem()
        guard let size = try? files.size(self.folder.database), size > 0 else {
            let packages = PackageFiles(directory: self.folder.packages, system: files)
            if let unknown = try? packages.named(), !unknown.isEmpty {
                throw FolderHome.unknownPackages(unknown.count, in: self.folder, "look through")
            }
            throw NodeError(
                .notFound,
                "there is no store in '\(self.directory)'; name the folder that a host was given with --data"
            )
        }
        let lock = try self.lock()
        if lock == nil, repair {
            throw NodeError(
                .conflict,
                "could not repair '\(self.directory)': a host has it open; stop that first, or look without --repair"
            )
        }
        // Held until the end, so that no host starts in the middle.
        defer { withExtendedLifetime(lock) {} }
        do {
            return try await self.examine(repair: repair, isInUse: lock == nil)
        } catch {
            guard let cause = ((error as? NodeError)?.cause ?? error) as? DatabaseError,
                [.SQLITE_NOTADB, .SQLITE_CORRUPT].contains(cause.resultCode)
            else { throw NodeError(storing: error) }
            return Report(
                isInUse: lock == nil,
                packages: 0,
                bytes: 0,
                devices: 0,
                queues: [],
                repaired: [],
                findings: [
                    StoreFinding(
                        .databaseDamaged,
                        "the database is damaged: \(cause.message ?? "it cannot be read")",
                        remedy: "put a copy of the data folder from before in its place"
                    )
                ]
            )
        }
    }

    private var folder: DataFolder { DataFolder(path: self.directory) }

    /// The lock of the folder; `nil` if a host has it.
    private func lock() throws -> DirectoryLock? {
        do {
            return try DirectoryLock(self.folder.lock, mode: self.folder.fileMode)
        } catch  where error.wouldBlock {
            return nil
        } catch {
            throw NodeError(
                .unavailable,
                "could not look through '\(self.directory)' (\(error)); run this as the user that the host runs as",
                cause: error
            )
        }
    }

    private func examine(repair: Bool, isInUse: Bool) async throws -> Report {
        var configuration = GRDB.Configuration()
        configuration.label = "windlass.doctor"
        configuration.readonly = !repair
        configuration.prepareDatabase { db in
            // What the host's setting is, it need not know.
            db.add(function: SQLiteStore.latestTimeMax({ .now }, ahead: .zero))
        }
        let lockWait = LockWait(self.lockTimeMax)
        configuration.busyMode = .callback { lockWait.wait(tries: $0) }
        let database = try DatabaseQueue(path: self.folder.database, configuration: configuration)
        defer { try? database.close() }
        try await self.checkVersion(database)
        let storages = PackageStorages(
            files: PackageFiles(directory: self.folder.packages, system: POSIXFileSystem()),
            blobs: PackageBlobs(database),
            choice: .files
        )
        let inspection = StoreInspection(reader: database, storages: storages)
        var result = try await inspection.run(isInUse: isInUse)
        var repaired: [StoreFinding] = []
        if repair, result.findings.contains(where: \.isRepairable) {
            let tried = result.findings.filter(\.isRepairable)
            for finding in tried { try await Self.repair(finding, storages) }
            result = try await inspection.run(isInUse: isInUse)
            repaired = tried.filter { !result.findings.contains($0) }
        }
        return Report(
            isInUse: isInUse,
            packages: result.packages,
            bytes: result.bytes,
            devices: result.devices,
            queues: result.queues,
            repaired: repaired,
            findings: result.findings
        )
    }

    private func checkVersion(_ database: DatabaseQueue) async throws {
        let migrator = Schema.migrator
        let (isNewer, isCurrent) = try await database.read { db in
            (try migrator.hasBeenSuperseded(db), try migrator.hasCompletedMigrations(db))
        }
        guard !isNewer else {
            throw NodeError(
                .conflict,
                "could not look through '\(self.directory)': a newer version of Windlass made it; use that version"
            )
        }
        guard isCurrent else {
            throw NodeError(
                .conflict,
                """
                could not look through '\(self.directory)': an older version of Windlass made it; start a host on it once, \
                which brings it up to date
                """
            )
        }
    }

    private static func repair(_ finding: StoreFinding, _ storages: PackageStorages) async throws {
        switch finding.repair {
        case nil: break
        case .removeLeftover(let item, let storage): try await storages[storage].remove(item)
        case .removeBytes(let sha256): try await storages.remove(sha256)
        }
    }
}
