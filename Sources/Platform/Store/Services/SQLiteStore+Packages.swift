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
            guard package.isSaved else { return try Self.create(package, db) }
            let old = try EntityRules.found(db.package(package.id), package.id)
            let saved = try OtaPackageRules.changed(old, to: package, profile: db.profile(of: package))
            try db.run(
                "UPDATE ota_package SET additional_info = ? WHERE id = ?",
                [saved.additionalInfo?.description, saved.id.uuid]
            )
            effects.packages = [package.id]
            return saved
        }
    }

    /// Removes a package and, if no other uses them, its bytes.
    public func deleteOtaPackage(_ id: OtaPackageId) async throws {
        try await self.removeInSteps { db, effects in
            let package = try EntityRules.found(db.package(id), id)
            let column = package.type.ownColumn
            try OtaPackageRules.checkRemoval(
                of: package.type,
                isUsedByDevices: db.exists("SELECT 1 FROM device WHERE \(column) = ? LIMIT 1", [id.uuid]),
                isUsedByProfile: db.exists("SELECT 1 FROM device_profile WHERE \(column) = ? LIMIT 1", [id.uuid])
            )
            guard try db.clearRecords(ofPackages: "k.id = ?", [id.uuid]) else { return nil }
            try db.run("DELETE FROM ota_package WHERE id = ?", [id.uuid])
            effects.packages = [id]
            return package.sha256.map { [$0] } ?? []
        }
    }

    /// Removes what has packages, in as many transactions as it takes, and the bytes of those that are gone.
    ///
    /// - Parameter step: Removes, and returns the names of the bytes that had a package; `nil` if it is to be called again.
    /// - Throws: ``NodeError``, that of `step` among others.
    func removeInSteps(_ step: @escaping @Sendable (Database, inout Effects) throws -> [String]?) async throws {
        while true {
            let files = try await self.remove { db, effects in
                let files = try step(db, &effects)
                try db.giveUp(files ?? [])
                return files
            }
            if let files { return await self.removeUnused(files) }
        }
    }

    /// Begins to store the bytes of a saved package.
    public func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload {
        let package = try await EntityRules.found(self.findOtaPackageById(id), id)
        try OtaPackageRules.checkTakesBytes(package)
        return try await PackageUpload(store: self, package: package)
    }

    /// Begins to store the bytes of a package that is made with them, in one transaction.
    public func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload {
        try OtaPackageRules.check(package)
        try OtaPackageRules.checkTakesBytes(package)
        // Once more when the bytes are there; but nobody sends a gigabyte to learn that the title is taken.
        _ = try await self.read { db in try Self.created(package, db) }
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
        switch self.caches.effectivePackage(key) {
        case .hit(let id): return try await self.package(id)
        case .absent: return nil
        case .unknown: break
        }
        let version = self.caches.version
        let id = try await self.read { db -> OtaPackageId?? in
            try db.row(
                """
                SELECT d.\(type.ownColumn) AS own, p.\(type.ownColumn) AS of_profile
                FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE d.id = ?
                """,
                [device.uuid]
            ).map {
                AssignmentRules.effective(own: $0.idIfPresent("own"), ofProfile: $0.idIfPresent("of_profile"))
            }
        }
        guard let id else { return nil }
        self.caches.keep(id, for: key, readAt: version)
        guard let id else { return nil }
        return try await self.package(id)
    }

    /// The package with this identifier and its bytes, if that is in memory.
    public func known(_ id: OtaPackageId) -> Cached<EffectivePackage> { Cached(self.caches.package(id)) }

    /// The package that a device should have, if that is in memory.
    public func known(effectiveFor device: DeviceId, type: OtaPackageType) -> Cached<EffectivePackage> {
        self.caches.package(effectiveFor: StoreCaches.DevicePackage(device: device, type: type))
    }

    /// Reads a package and opens its bytes.
    private func openPackage(_ id: OtaPackageId, attempts: Int) async throws -> EffectivePackage? {
        do {
            guard let package = try await self.findOtaPackageById(id) else { return nil }
            guard let sha256 = package.sha256, let size = package.dataSize else {
                return EffectivePackage(package: package, content: nil)
            }
            let content = try await self.storages.content(of: sha256, size: size)
            return EffectivePackage(package: package, content: PagedContent(content, in: self.hotPages))
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

    /// A package that can be made, as it is stored.
    private static func created(_ package: OtaPackage, _ db: Database) throws -> OtaPackage {
        try OtaPackageRules.created(
            package,
            profile: db.profile(of: package),
            isTaken: db.exists(
                "SELECT 1 FROM ota_package WHERE tenant_id = ? AND title = ? AND version = ?",
                [package.tenantId.uuid, package.title, package.version]
            )
        )
    }

    private static func create(_ package: OtaPackage, _ db: Database) throws -> OtaPackage {
        let created = try Self.created(package, db)
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
        guard let room = self.room else { return }
        // What was deleted from the database leaves pages that are written again; the file does not get shorter.
        let reusable =
            self.options.packageStorage == .files
            ? 0
            : try await self.read { db in
                try (db.integer("PRAGMA freelist_count") ?? 0) * (db.integer("PRAGMA page_size") ?? 0)
            }
        try await offEventLoop { try room.check(bytes, reusing: reusable, what) }
    }

    /// Makes bytes that came in whole those of a package, which is made in the same step if it is new.
    func place(
        _ bytes: any IncomingBytes,
        _ upload: UploadedBytes,
        in package: OtaPackage,
        isNew: Bool
    ) async throws -> OtaPackage {
        let id = package.id
        return try await self.place(bytes, as: upload.sha256) { db, effects in
            let old = try isNew ? Self.create(package, db) : EntityRules.found(db.package(id), id)
            let saved = try OtaPackageRules.filled(old, with: upload)
            if old.sha256 == nil { try db.checkQuota(of: old.tenantId, adding: upload.size) }
            effects.packages = [id]
            // Its bytes are there; had they been lost, they are back.
            if old.sha256 != nil { return saved }
            try db.run(
                """
                UPDATE ota_package SET file_name = ?, content_type = ?, checksum_algorithm = ?, checksum = ?, sha256 = ?,
                    data_size = ?
                WHERE id = ?
                """,
                [
                    saved.fileName, saved.contentType, upload.algorithm.rawValue, saved.checksum, saved.sha256,
                    saved.dataSize, id.uuid,
                ]
            )
            return saved
        }
    }
}

extension Database {
    /// Takes packages that nothing has out of the records of their updates, which keep title and version.
    ///
    /// - Parameters:
    ///   - condition: What rows `k` of `ota_package` must fulfil.
    ///   - arguments: Its arguments.
    /// - Returns: Whether there were fewer records than one transaction may change.
    /// - Throws: What the database throws.
    func clearRecords(ofPackages condition: String, _ arguments: Arguments) throws -> Bool {
        try self.run(
            """
            UPDATE update_record SET package_id = NULL WHERE (device, type) IN (
                SELECT r.device, r.type FROM ota_package k JOIN update_record r ON r.package_id = k.id
                WHERE \(condition) LIMIT ?)
            """,
            arguments + [MassAssignments.stepMax]
        )
        return self.changesCount < MassAssignments.stepMax
    }

    /// The profile that a package names, if it names one that exists.
    fileprivate func profile(of package: OtaPackage) throws -> DeviceProfile? {
        try package.deviceProfileId.flatMap { try self.profile($0) }
    }

    /// Checks that a tenant may store so many bytes more; see ``OtaPackageRules/checkQuota(adding:used:max:)``.
    fileprivate func checkQuota(of tenant: TenantId, adding size: Int64) throws {
        guard let max = try self.tenant(tenant)?.packageBytesMax else { return }
        let used = try self.integer(
            "SELECT sum(data_size) FROM ota_package WHERE tenant_id = ? AND sha256 IS NOT NULL",
            [tenant.uuid]
        )
        try OtaPackageRules.checkQuota(adding: size, used: used ?? 0, max: max)
    }
}
