import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: OtaPackageService {
    /// The package with this identifier, if it exists.
    public func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage? {
        try await self.read { db in try db.package(id) }
    }

    /// The package of a type that a profile assigns to its devices, if any.
    public func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage? {
        try await self.read { db in
            try db.profile(profileId)?.packageId(of: type).flatMap { try db.package($0) }
        }
    }

    /// A page of a tenant's packages.
    public func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage> {
        var query = PageQuery(
            select: "SELECT *",
            from: "FROM ota_package",
            conditions: ["tenant_id = ?"],
            arguments: [tenant.uuid],
            searched: "title",
            sortable: [
                "createdTime": "created_time", "title": "title", "name": "title", "version": "version", "tag": "tag",
                "type": "type",
                "url": "url", "fileName": "file_name", "dataSize": "data_size", "checksum": "checksum",
                "contentType": "content_type",
                "checksumAlgorithm": "checksum_algorithm",
            ],
            tieBreaker: "id"
        )
        if let deviceProfileId {
            query.conditions.append("device_profile_id = ?")
            query.arguments += [deviceProfileId.uuid]
        }
        if let type {
            query.conditions.append("type = ?")
            query.arguments += [type.rawValue]
        }
        if let hasData { query.conditions.append("(url IS NOT NULL OR sha256 IS NOT NULL) = \(hasData ? 1 : 0)") }
        return try await self.read { [query] db in try query.page(page, db, OtaPackage.init(row:)) }
    }

    /// Creates a package that is not saved yet, or updates what may change of one that is.
    public func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage {
        try OtaPackageRules.check(package)
        return try await self.write { db, effects in
            let old = package.isSaved ? try db.package(package.id) : nil
            guard package.isSaved == (old != nil) else { throw Self.missing(package.id) }
            try Self.checkProfile(of: package, tenant: old?.tenantId ?? package.tenantId, db)
            guard let old else {
                try Self.checkNew(package, db)
                return try Self.create(package, db)
            }
            var wanted = package
            // The file is the store's own business, which the REST API does not show.
            wanted.sha256 = old.sha256
            try OtaPackageRules.checkChange(from: old, to: wanted)
            var saved = old
            saved.additionalInfo = package.additionalInfo
            try db.run(
                "UPDATE ota_package SET additional_info = ? WHERE id = ?",
                [package.additionalInfo?.description, package.id.uuid]
            )
            effects.packages = [package.id]
            return saved
        }
    }

    /// Removes a package and, if no other uses them, its bytes.
    public func deleteOtaPackage(_ id: OtaPackageId) async throws {
        try await self.remove { [storages] db, effects in
            guard let package = try db.package(id) else { throw Self.missing(id) }
            let column = package.type.ownColumn
            guard try !db.exists("SELECT 1 FROM device WHERE \(column) = ? LIMIT 1", [id.uuid]) else {
                throw OtaPackageRules.usedByDevices(package.type)
            }
            guard try !db.exists("SELECT 1 FROM device_profile WHERE \(column) = ? LIMIT 1", [id.uuid]) else {
                throw OtaPackageRules.usedByProfile(package.type)
            }
            try db.run("DELETE FROM ota_package WHERE id = ?", [id.uuid])
            effects.packages = [id]
            if let file = package.sha256 { effects.files = [file] }
            try storages.release(effects.files, db)
        }
    }

    /// Begins to store the bytes of a saved package.
    public func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload {
        guard let package = try await self.findOtaPackageById(id) else { throw Self.missing(id) }
        guard package.url == nil else { throw OtaPackageRules.uploadToURL }
        return try await PackageUpload(store: self, package: package)
    }

    /// Begins to store the bytes of a package that is made with them, in one transaction.
    public func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload {
        try OtaPackageRules.check(package)
        guard package.url == nil else { throw OtaPackageRules.uploadToURL }
        // Once more when the bytes are there; but nobody sends a gigabyte to learn that the title is taken.
        try await self.read { db in try Self.checkNew(package, db) }
        return try await PackageUpload(store: self, package: package, isNew: true)
    }

    /// The bytes of a package, if they are stored here.
    public func content(of id: OtaPackageId) async throws -> (any Content)? {
        try await self.package(id)?.content
    }

    /// The package with this identifier and its bytes.
    public func package(_ id: OtaPackageId) async throws -> EffectivePackage? {
        if let known = self.caches.package(id) { return known }
        let version = self.caches.version
        guard let read = try await self.openPackage(id, attempts: 2) else { return nil }
        return self.caches.keep(read, readAt: version)
    }

    /// The package that a device should have: its own, or its profile's.
    public func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage? {
        let key = StoreCaches.DevicePackage(device: device, type: type)
        if let known = self.caches.effectivePackage(key) {
            guard let id = known else { return nil }
            return try await self.package(id)
        }
        let version = self.caches.version
        let id = try await self.read { db -> OtaPackageId?? in
            try db.row(
                """
                SELECT coalesce(d.\(type.ownColumn), p.\(type.ownColumn)) AS id
                FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE d.id = ?
                """,
                [device.uuid]
            ).map { $0.idIfPresent("id") }
        }
        guard let id else { return nil }
        self.caches.keep(id, for: key, readAt: version)
        guard let id else { return nil }
        return try await self.package(id)
    }

    /// The package with this identifier and its bytes, if that is in memory.
    public func known(_ id: OtaPackageId) -> EffectivePackage? { self.caches.package(id) }

    /// The package that a device should have, if that is in memory.
    public func known(effectiveFor device: DeviceId, type: OtaPackageType) -> EffectivePackage?? {
        self.caches.package(effectiveFor: StoreCaches.DevicePackage(device: device, type: type))
    }

    /// Reads a package and opens its bytes.
    private func openPackage(_ id: OtaPackageId, attempts: Int) async throws -> EffectivePackage? {
        do {
            return try await self.read { [storages, hotPages] db in
                guard let package = try db.package(id) else { return nil }
                guard let sha256 = package.sha256, let size = package.dataSize else {
                    return EffectivePackage(package: package, content: nil)
                }
                let content = try storages.content(of: sha256, size: size, db)
                return EffectivePackage(package: package, content: PagedContent(content, in: hotPages))
            }
        } catch {
            // The package may have been deleted after its row was read; then the row is gone by now.
            if attempts > 1 { return try await self.openPackage(id, attempts: attempts - 1) }
            let cause = (error as? NodeError)?.cause ?? error
            throw NodeError(
                file: cause,
                "could not open the bytes of the package '\(id)'; upload the same file to it again"
            )
        }
    }

    private static func missing(_ id: OtaPackageId) -> NodeError {
        NodeError(.notFound, "Ota package with id [\(id)] is not found")
    }

    private static func checkProfile(of package: OtaPackage, tenant: TenantId, _ db: Database) throws {
        guard let profile = package.deviceProfileId, try db.profile(profile)?.tenantId != tenant else { return }
        throw OtaPackageRules.profileMissing
    }

    /// Refuses a package that cannot be made.
    private static func checkNew(_ package: OtaPackage, _ db: Database) throws {
        try Self.checkProfile(of: package, tenant: package.tenantId, db)
        let taken = try db.exists(
            "SELECT 1 FROM ota_package WHERE tenant_id = ? AND title = ? AND version = ?",
            [package.tenantId.uuid, package.title, package.version]
        )
        guard !taken else { throw OtaPackageRules.duplicate }
    }

    private static func create(_ package: OtaPackage, _ db: Database) throws -> OtaPackage {
        var created = package
        created.isSaved = true
        created.sha256 = nil
        created.hasData = package.url != nil
        if package.url == nil {
            // These come with the bytes.
            created.fileName = nil
            created.contentType = nil
            created.dataSize = nil
        }
        try db.run(
            """
            INSERT INTO ota_package (id, created_time, tenant_id, device_profile_id, type, title, version, tag, url,
                file_name, content_type, checksum_algorithm, checksum, data_size, additional_info)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                created.id.uuid, created.createdTime.rawValue, created.tenantId.uuid, created.deviceProfileId?.uuid,
                created.type.rawValue, created.title, created.version, created.tag, created.url, created.fileName,
                created.contentType, created.checksumAlgorithm?.rawValue, created.checksum, created.dataSize,
                created.additionalInfo?.description,
            ]
        )
        return created
    }

    /// Refuses bytes of a package that would go into what is kept free; `what` could not be done.
    func checkRoom(_ bytes: Int, _ what: String) async throws {
        // What was deleted from the database leaves pages that are written again; the file does not get shorter.
        let reusable =
            self.options.packageStorage == .files
            ? 0
            : try await self.read { db in
                try (db.integer("PRAGMA freelist_count") ?? 0) * (db.integer("PRAGMA page_size") ?? 0)
            }
        try await offEventLoop { [room] in try room.check(bytes, reusing: reusable, what) }
    }

    /// Makes bytes that came in whole those of a package, which is made in the same step if it is new.
    func place(
        _ upload: PackageUpload.Complete,
        in package: OtaPackage,
        isNew: Bool,
        fileName: String?,
        contentType: String?,
        algorithm: ChecksumAlgorithm
    ) async throws -> OtaPackage {
        let id = package.id
        let computed = upload.checksums[algorithm]
        let sha256 = upload.checksums[.sha256]
        return try await self.write { [storages] db, effects in
            // Known as unused since it is complete; whatever fails from here on, it goes.
            effects.files = [sha256]
            if isNew { try Self.checkNew(package, db) }
            guard let old = try isNew ? Self.create(package, db) : db.package(id) else { throw Self.missing(id) }
            guard old.url == nil else { throw OtaPackageRules.uploadToURL }
            // A checksum that was given when the package was made is a promise about these bytes.
            if old.sha256 == nil, old.checksumAlgorithm == algorithm, let promised = old.checksum, promised != computed
            {
                throw OtaPackageRules.wrongFile
            }
            var saved = old
            saved.fileName = fileName
            saved.contentType = contentType
            saved.checksumAlgorithm = algorithm
            saved.checksum = computed
            saved.sha256 = sha256
            saved.dataSize = upload.size
            saved.hasData = true
            try OtaPackageRules.checkChange(from: old, to: saved)
            if old.sha256 == nil { try db.checkQuota(of: old.tenantId, adding: upload.size) }
            effects.packages = [id]
            do {
                // Also if the package has these bytes already: should they be lost, this brings them back.
                try storages.place(upload.bytes, as: sha256, db)
            } catch {
                throw NodeError(file: error, PackageUpload.failure(old))
            }
            if old.sha256 != nil { return saved }
            try db.run(
                """
                UPDATE ota_package SET file_name = ?, content_type = ?, checksum_algorithm = ?, checksum = ?, sha256 = ?,
                    data_size = ?
                WHERE id = ?
                """,
                [
                    saved.fileName, saved.contentType, algorithm.rawValue, computed, sha256, saved.dataSize, id.uuid,
                ]
            )
            return saved
        }
    }
}
