import GRDB
import NIOCore
import NodeKit
import OTA

/// Walks a whole store and looks for what must not be.
///
/// Reads every byte of every package, so it may take long. The store may be used meanwhile, so what is found is looked at
/// twice.
struct StoreInspection {
    let reader: any DatabaseReader
    let storages: PackageStorages

    /// What was found and how much was looked at.
    struct Result {
        var findings: [StoreFinding] = []
        var packages = 0
        var bytes: Int64 = 0
        var devices = 0
        var queues: [WaitingQueue] = []
    }

    /// Looks at everything.
    ///
    /// An upload under way is no fault if a host uses the store meanwhile.
    func run(isInUse: Bool) async throws -> Result {
        var result = Result()
        // Listed before the rows are read: bytes that are placed later have their row by then.
        var inventories: [(PackageStorage, [StoredBytes])] = []
        for name in PackageStorage.allCases { inventories.append((name, try await self.storages[name].inventory())) }
        let packages: [OtaPackage]
        let released: Set<String>
        do {
            let read = try await self.reader.read { db in
                (
                    try Self.faults(db), try db.rows("SELECT * FROM ota_package").map(OtaPackage.init(row:)),
                    try db.integer("SELECT count(*) FROM device") ?? 0, try db.unusedBytes(), try db.waitingQueues()
                )
            }
            result.findings = read.0
            packages = read.1
            result.devices = Int(read.2)
            released = Set(read.3)
            result.queues = read.4
        }
        result.packages = packages.count
        let used = Set(packages.compactMap(\.sha256))
        let strange = Self.strangeFiles(inventories, used: used, released: released)
        for package in packages {
            guard let sha256 = package.sha256 else { continue }
            guard let finding = try await self.fault(of: package, sha256, &result.bytes) else { continue }
            if try await self.isUsed(sha256) { result.findings.append(finding) }
        }
        for (storage, items) in inventories {
            for item in items {
                guard let finding = Self.fault(of: item, in: storage, used: used, isInUse: isInUse) else { continue }
                if storage == .files, strange.contains(item) {
                    result.findings.append(Self.strange(item))
                    continue
                }
                if case .named(let sha256) = item.kind, try await self.isUsed(sha256) { continue }
                result.findings.append(finding)
            }
        }
        return result
    }

    /// Files of packages that may be another database's: none of them is this one's, and it has not given them up.
    ///
    /// They stay, since the database that knows them may come back.
    private static func strangeFiles(
        _ inventories: [(PackageStorage, [StoredBytes])],
        used: Set<String>,
        released: Set<String>
    ) -> Set<StoredBytes> {
        var strange: Set<StoredBytes> = []
        for item in inventories.first(where: { $0.0 == .files })?.1 ?? [] {
            guard case .named(let sha256) = item.kind else { continue }
            if used.contains(sha256) { return [] }
            if !released.contains(sha256) { strange.insert(item) }
        }
        return strange
    }

    private static func strange(_ item: StoredBytes) -> StoreFinding {
        StoreFinding(
            .orphan,
            "\(item.label) belongs to no package, and no file belongs to one of this database",
            remedy: "put the database back that belongs to the files, or move them out of the folder 'packages'"
        )
    }

    private func isUsed(_ sha256: String) async throws -> Bool {
        try await self.reader.read { db in try db.exists("SELECT 1 FROM ota_package WHERE sha256 = ?", [sha256]) }
    }

    /// The bytes that are there, however many.
    private func content(of sha256: String) async throws -> (any Content, Int64)? {
        for storage in self.storages.all {
            guard let size = try await storage.size(of: sha256) else { continue }
            if let content = try await storage.content(of: sha256, size: size) { return (content, size) }
        }
        return nil
    }

    private static func fault(
        of item: StoredBytes,
        in storage: PackageStorage,
        used: Set<String>,
        isInUse: Bool
    ) -> StoreFinding? {
        let repair = StoreFinding.Repair.removeLeftover(item, storage)
        switch item.kind {
        case .named(let sha256):
            guard !used.contains(sha256) else { return nil }
            return StoreFinding(
                .orphan,
                "\(item.label) belongs to no package",
                remedy: "remove it with --repair, or put the database back that knows it",
                repair: repair
            )
        case .unfinished:
            guard !isInUse else { return nil }
            return StoreFinding(
                .unfinishedUpload,
                "\(item.label) is of an upload that was cut off",
                remedy: "it goes when a host starts, or with --repair",
                repair: repair
            )
        case .foreign:
            return StoreFinding(
                .foreignFile,
                "\(item.label) belongs to no package",
                remedy: "move it out of the folder 'packages'"
            )
        }
    }

    /// How many bytes are read at once.
    private static let pieceBytes: Int64 = 256 * 1024

    private func fault(of package: OtaPackage, _ sha256: String, _ bytes: inout Int64) async throws -> StoreFinding? {
        let name = "the package '\(package.title) \(package.version)'"
        let again = "upload the same file to the package again"
        let remedy = "remove them with --repair, then \(again)"
        var checksums = ChecksumSet()
        var stored: Int64 = 0
        do {
            guard let (content, size) = try await self.content(of: sha256) else {
                return StoreFinding(.bytesMissing, "the bytes of \(name) are missing", remedy: again)
            }
            stored = size
            for start in stride(from: 0, to: size, by: Int(Self.pieceBytes)) {
                let piece = try await content.read(start..<min(size, start + Self.pieceBytes))
                piece.withUnsafeReadableBytes { checksums.update($0) }
            }
        } catch {
            let cause = (error as? NodeError)?.cause ?? error
            // The database itself is looked at by others.
            if cause is DatabaseError { throw cause }
            // Bytes that are missing in between are told by the size, below.
            if cause is SystemError || stored == package.dataSize {
                return StoreFinding(
                    .bytesUnreadable,
                    "the bytes of \(name) cannot be read (\(cause))",
                    remedy: "look after the disk; then \(again)"
                )
            }
        }
        bytes += stored
        guard stored == package.dataSize else {
            return StoreFinding(
                .bytesSize,
                "\(name) has \(stored) bytes, not \(package.dataSize ?? 0)",
                remedy: remedy,
                repair: .removeBytes(sha256)
            )
        }
        guard let algorithm = package.checksumAlgorithm, checksums[algorithm] == package.checksum,
            checksums[.sha256] == sha256
        else {
            return StoreFinding(
                .bytesChecksum,
                "the bytes of \(name) do not have its checksum",
                remedy: remedy,
                repair: .removeBytes(sha256)
            )
        }
        return nil
    }
}

extension SQLiteStore {
    /// Walks the whole store and looks for what must not be.
    ///
    /// - Returns: A sentence for each fault; empty if all is well.
    public func check() async throws -> [String] {
        let inspection = StoreInspection(reader: self.database, storages: self.storages)
        return try await inspection.run(isInUse: false).findings.map(\.sentence)
    }
}
