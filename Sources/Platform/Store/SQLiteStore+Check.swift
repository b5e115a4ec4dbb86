import GRDB
import NIOCore
import NodeKit
import OTA

extension SQLiteStore {
    /// Walks the whole store and looks for what must not be.
    ///
    /// Reads every byte of every package, so it may take long; the store may be used meanwhile, but a package that is uploaded or
    /// deleted meanwhile may be reported.
    ///
    /// - Returns: A sentence for each fault; empty if all is well.
    public func check() async throws -> [String] {
        let (rows, packages) = try await self.read { db in
            (try Self.faults(db), try db.rows("SELECT * FROM ota_package").map(OtaPackage.init(row:)))
        }
        let faults = try await offEventLoop { try self.fileFaults(packages) }
        return rows + faults
    }

    private static func faults(_ db: Database) throws -> [String] {
        var faults: [String] = []
        for answer in try String.fetchAll(db, sql: "PRAGMA integrity_check") where answer != "ok" {
            faults.append("the database is damaged: \(answer)")
        }
        for row in try Row.fetchAll(db, sql: "PRAGMA foreign_key_check") {
            faults.append(
                "a row of '\(row["table"] as String)' refers to one of '\(row["parent"] as String)' that is not there"
            )
        }
        for row in try db.rows(
            """
            SELECT title FROM tenant
            WHERE (SELECT count(*) FROM device_profile p WHERE p.tenant_id = tenant.id AND p.is_default = 1) <> 1
            """
        ) {
            faults.append("the tenant '\(row["title"] as String)' has not exactly one default device profile")
        }
        for table in ["device", "device_profile", "ota_package"]
        where try db.exists("SELECT 1 FROM \(table) WHERE tenant_id NOT IN (SELECT id FROM tenant) LIMIT 1") {
            faults.append("a row of '\(table)' belongs to a tenant that does not exist")
        }
        if try db.exists(
            """
            SELECT 1 FROM device d JOIN device_profile p ON p.id = d.device_profile_id WHERE p.tenant_id <> d.tenant_id
            UNION ALL
            SELECT 1 FROM ota_package o JOIN device_profile p ON p.id = o.device_profile_id
            WHERE p.tenant_id <> o.tenant_id LIMIT 1
            """
        ) {
            faults.append("a device or a package belongs to another tenant than its profile")
        }
        if try db.exists("SELECT 1 FROM device WHERE no NOT IN (SELECT device FROM device_credentials)") {
            faults.append("a device has no credentials")
        }
        for type in OtaPackageType.allCases {
            let effective = "coalesce(d.\(type.ownColumn), p.\(type.ownColumn))"
            let devices = "device d JOIN device_profile p ON p.id = d.device_profile_id"
            if try db.exists(
                """
                SELECT 1 FROM \(devices) JOIN update_record r ON r.device = d.no
                WHERE r.type = ? AND r.state NOT IN ('UPDATED', 'FAILED') AND r.package_id IS NOT \(effective)
                """,
                [type.rawValue]
            ) {
                faults.append("an update under way is not that to the device's effective \(type.rawValue) package")
            }
            if try db.exists(
                """
                SELECT 1 FROM \(devices) LEFT JOIN update_record r ON r.device = d.no AND r.type = ?
                WHERE \(effective) IS NOT NULL AND r.package_id IS NOT \(effective)
                """,
                [type.rawValue]
            ) {
                faults.append("a device has an effective \(type.rawValue) package but no update record of it")
            }
            if try db.exists(
                """
                SELECT 1 FROM \(devices) JOIN assignment a ON a.device = d.no
                WHERE a.type = ? AND a.package_id IS NOT \(effective)
                """,
                [type.rawValue]
            ) {
                faults.append("an assignment waits that is not the device's effective \(type.rawValue) package")
            }
        }
        // What is recorded and what was recorded must tell the same story.
        if try db.exists(
            """
            SELECT 1 FROM update_record r WHERE NOT EXISTS (
                SELECT 1 FROM update_history h WHERE h.device = r.device AND h.type = r.type AND h.accepted = 1
                    AND h.state = r.state AND h.title = r.title AND h.version = r.version)
            """
        ) {
            faults.append("the state of an update is not in its history")
        }
        return faults
    }

    private func fileFaults(_ packages: [OtaPackage]) throws -> [String] {
        var faults: [String] = []
        var used: Set<String> = []
        for package in packages {
            guard let sha256 = package.sha256 else { continue }
            let name = "the package '\(package.title) \(package.version)'"
            used.insert(sha256)
            guard let size = try self.files.system.size(self.files.path(sha256)) else {
                faults.append("the file of \(name) is missing")
                continue
            }
            guard size == package.dataSize else {
                faults.append("the file of \(name) has \(size) bytes, not \(package.dataSize ?? 0)")
                continue
            }
            var checksums = ChecksumSet()
            try self.files.forEachPiece(of: sha256) { checksums.update($0) }
            guard let algorithm = package.checksumAlgorithm, checksums[algorithm] == package.checksum,
                checksums[.sha256] == sha256
            else {
                faults.append("the file of \(name) does not have its checksum")
                continue
            }
        }
        for name in try self.files.system.names(in: self.files.directory).sorted() where !used.contains(name) {
            faults.append("the file '\(name)' belongs to no package")
        }
        return faults
    }
}
