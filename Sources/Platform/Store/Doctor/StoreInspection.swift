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
    }

    /// Looks at everything; blocks.
    ///
    /// An upload under way is no fault if a host uses the store meanwhile.
    func run(isInUse: Bool) throws -> Result {
        var result = Result()
        // Listed before the rows are read: bytes that are placed later have their row by then.
        let inventories = try PackageStorage.allCases.map { ($0, try self.inventory(of: $0)) }
        let packages: [OtaPackage]
        let released: Set<String>
        do {
            let read = try self.reader.read { db in
                (
                    try Self.faults(db), try db.rows("SELECT * FROM ota_package").map(OtaPackage.init(row:)),
                    try db.integer("SELECT count(*) FROM device") ?? 0, try db.unusedFiles()
                )
            }
            result.findings = read.0
            packages = read.1
            result.devices = Int(read.2)
            released = Set(read.3)
        }
        result.packages = packages.count
        let used = Set(packages.compactMap(\.sha256))
        let strange = Self.strangeFiles(inventories, used: used, released: released)
        for package in packages {
            guard let sha256 = package.sha256 else { continue }
            guard let finding = try self.fault(of: package, sha256, &result.bytes) else { continue }
            if try self.isUsed(sha256) { result.findings.append(finding) }
        }
        for (storage, items) in inventories {
            for item in items {
                guard let finding = Self.fault(of: item, in: storage, used: used, isInUse: isInUse) else { continue }
                if storage == .files, strange.contains(item) {
                    result.findings.append(Self.strange(item))
                    continue
                }
                if case .named(let sha256) = item.kind, try self.isUsed(sha256) { continue }
                result.findings.append(finding)
            }
        }
        return result
    }

    private func inventory(of storage: PackageStorage) throws -> [StoredBytes] {
        try self.reader.read { db in try self.storages[storage].inventory(db) }
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

    private func isUsed(_ sha256: String) throws -> Bool {
        try self.reader.read { db in try db.exists("SELECT 1 FROM ota_package WHERE sha256 = ?", [sha256]) }
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

    private func fault(of package: OtaPackage, _ sha256: String, _ bytes: inout Int64) throws -> StoreFinding? {
        let name = "the package '\(package.title) \(package.version)'"
        let again = "upload the same file to the package again"
        let storage = try self.reader.read { db in try self.storages.all.first { try $0.has(sha256, db) } }
        guard let storage else {
            return StoreFinding(.bytesMissing, "the bytes of \(name) are missing", remedy: again)
        }
        var checksums = ChecksumSet()
        var size: Int64 = 0
        do {
            try storage.forEachPiece(of: sha256) { piece in
                checksums.update(piece)
                size += Int64(piece.count)
            }
        } catch let error as SystemError {
            return StoreFinding(
                .bytesUnreadable,
                "the bytes of \(name) cannot be read (\(error))",
                remedy: "look after the disk; then \(again)"
            )
        }
        bytes += size
        let remedy = "remove them with --repair, then \(again)"
        guard size == package.dataSize else {
            return StoreFinding(
                .bytesSize,
                "the package '\(package.title) \(package.version)' has \(size) bytes, not \(package.dataSize ?? 0)",
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

extension PackageStorages {
    subscript(storage: PackageStorage) -> any ByteStorage {
        switch storage {
        case .files: self.files
        case .sqlite: self.blobs
        }
    }
}

extension SQLiteStore {
    /// Walks the whole store and looks for what must not be.
    ///
    /// - Returns: A sentence for each fault; empty if all is well.
    public func check() async throws -> [String] {
        let inspection = StoreInspection(reader: self.database, storages: self.storages)
        return try await offEventLoop { try inspection.run(isInUse: false).findings.map(\.sentence) }
    }
}
