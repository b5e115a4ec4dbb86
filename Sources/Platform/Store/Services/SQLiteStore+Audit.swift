import FoundationEssentials
import GRDB
import NodeKit
public import OTA

extension SQLiteStore: AuditService {
    /// Appends an entry; returns when it is stored.
    public func record(_ entry: AuditEntry) async throws {
        try await self.write { db, _ in try Self.insert(entry, db) }
    }

    /// Appends an entry soon.
    public func recordLater(_ entry: AuditEntry) {
        self.writer.writeLater { db, _ in try Self.insert(entry, db) }
    }

    private static func insert(_ entry: AuditEntry, _ db: Database) throws {
        try db.run(
            """
            INSERT INTO audit_log (id, created_time, tenant_id, user_id, user_name, entity_type, entity_id, entity_name,
                action, data, failure)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                entry.id.uuid, entry.createdTime.rawValue, entry.tenantId.uuid, entry.userId?.uuid, entry.userName,
                entry.entity?.type, entry.entity?.id, entry.entity?.name, entry.action.rawValue,
                entry.data.description, entry.failure,
            ]
        )
    }

    /// A page of a tenant's entries.
    public func findAuditEntries(
        of tenant: TenantId,
        _ query: AuditQuery,
        page: PageLink
    ) async throws -> Page<AuditEntry> {
        // What `AuditEntry.status` says.
        let (success, failure) = (AuditEntry.Status.success.rawValue, AuditEntry.Status.failure.rawValue)
        let status = "iif(failure IS NULL, '\(success)', '\(failure)')"
        var sql = PageQuery(
            select: "SELECT *",
            from: "FROM audit_log",
            conditions: ["tenant_id = ?"],
            arguments: [tenant.uuid],
            searched: """
                coalesce(entity_type, '') || ' ' || coalesce(entity_name, '') || ' ' || coalesce(user_name, '') || ' '
                || action || ' ' || \(status)
                """,
            sortable: [
                "createdTime": "created_time", "entityType": "entity_type", "entityName": "entity_name",
                "userName": "user_name", "actionType": "action", "actionStatus": status,
            ],
            tieBreaker: "no"
        )
        func demand(_ condition: String, _ arguments: Arguments) {
            sql.conditions.append(condition)
            sql.arguments += arguments
        }
        if let user = query.userId { demand("user_id = ?", [user.uuid]) }
        if let type = query.entityType { demand("entity_type = ?", [type]) }
        if let id = query.entityId { demand("entity_id = ?", [id]) }
        if let start = query.start { demand("created_time >= ?", [start.rawValue]) }
        if let end = query.end { demand("created_time <= ?", [end.rawValue]) }
        if let actions = query.actions {
            let marks = Array(repeating: "?", count: actions.count).joined(separator: ", ")
            demand("action IN (\(marks))", Arguments(actions.map(\.rawValue)))
        }
        return try await self.read { [sql] db in try sql.page(page, db, AuditEntry.init(row:)) }
    }

    /// Removes entries of the audit log that are too old, or too many of one tenant; the oldest go first.
    ///
    /// - Parameters:
    ///   - retention: What is kept.
    ///   - countMax: The most entries that go at once, so that others' writes do not wait for long.
    /// - Returns: How many went; call it again until none did.
    /// - Throws: ``NodeError`` if the store cannot be written.
    func removeAuditEntries(beyond retention: Retention, countMax: Int) async throws -> Int {
        let now = self.believedTime()
        return try await self.remove { db, _ in
            if let age = retention.auditAge {
                let oldest = now.rawValue - Int64(age.components.seconds) * 1000
                try db.run(
                    """
                    DELETE FROM audit_log WHERE no IN
                        (SELECT no FROM audit_log WHERE created_time < ? ORDER BY created_time LIMIT ?)
                    """,
                    [oldest, countMax]
                )
                if db.changesCount > 0 { return db.changesCount }
            }
            for row in try db.rows("SELECT DISTINCT tenant_id FROM audit_log") {
                let tenant: UUID = row["tenant_id"]
                let last = try db.row(
                    """
                    SELECT created_time, no FROM audit_log WHERE tenant_id = ?
                    ORDER BY created_time DESC, no DESC LIMIT 1 OFFSET ?
                    """,
                    [tenant, retention.auditCount]
                )
                guard let last else { continue }
                try db.run(
                    """
                    DELETE FROM audit_log WHERE no IN (
                        SELECT no FROM audit_log WHERE tenant_id = ? AND (created_time, no) <= (?, ?)
                        ORDER BY created_time, no LIMIT ?)
                    """,
                    [tenant, last["created_time"] as Int64, last["no"] as Int64, countMax]
                )
                return db.changesCount
            }
            return 0
        }
    }
}

extension AuditEntry {
    fileprivate init(row: Row) throws {
        var entity: AuditEntity?
        if let id: UUID = row["entity_id"] {
            entity = AuditEntity(type: row["entity_type"], id: id, name: row["entity_name"])
        }
        self.init(
            id: row.id("id"),
            createdTime: row.time("created_time"),
            tenantId: row.id("tenant_id"),
            userId: row.idIfPresent("user_id"),
            userName: row["user_name"],
            entity: entity,
            action: try row.choice("action"),
            data: try JSON(stored: row["data"]),
            failure: row["failure"]
        )
    }
}
