import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: AttributesService {
    /// Attributes of one scope, those named or all, sorted by key.
    public func attributes(
        of device: DeviceId,
        scope: AttributeScope,
        keys: [String]?
    ) async throws -> [AttributeEntry] {
        try await self.read { db in
            var sql = """
                SELECT a.key, a.kind, a.value, a.last_update FROM attribute a JOIN device d ON d.no = a.device
                WHERE d.id = ? AND a.scope = ?
                """
            var arguments: Arguments = [device.uuid, scope.rawValue]
            if let keys {
                sql += " AND a.key IN (SELECT value FROM json_each(?))"
                arguments += [JSON.array(keys.map(JSON.string)).description]
            }
            return try db.rows(sql + " ORDER BY a.key", arguments).map { row in
                AttributeEntry(key: row["key"], value: try JSON(columnsOf: row), lastUpdate: row.time("last_update"))
            }
        }
    }

    /// Writes attributes, and tells the device's sessions of shared ones.
    public func saveAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at time: Timestamp
    ) async throws {
        try await self.beginSavingAttributes(of: device, scope: scope, values, at: time).stored()
    }

    /// Begins to write attributes; once they are stored, tells the device's sessions of shared ones.
    public func beginSavingAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at time: Timestamp
    ) throws -> PendingWrite {
        let values = values.withoutNulls
        guard !values.isEmpty else { return .nothing }
        try ValueRules.checkKeys(values)
        return self.writer.begin { [numbers, statements] db, effects in
            let number = try numbers.number(of: device, db)
            for (key, value) in values.members {
                try statements.insertAttribute(number, scope, key, value, at: time, db)
            }
            if scope == .shared { effects.notifications = [(device, .attributesUpdated(values))] }
        }
    }

    /// Removes attributes, and tells the device's sessions of shared ones that existed.
    @discardableResult
    public func deleteAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        keys: [String]
    ) async throws -> [String] {
        guard !keys.isEmpty else { return [] }
        return try await self.remove { [numbers, statements] db, effects in
            let deleted = try statements.deleteAttributes(numbers.number(of: device, db), scope, keys, db)
            if scope == .shared, !deleted.isEmpty {
                effects.notifications = [(device, .attributesDeleted(deleted))]
            }
            return deleted
        }
    }

    /// The devices that have an attribute with this value, in order of identifier.
    public func devices(
        withAttribute key: String,
        equalTo value: JSON,
        in scope: AttributeScope,
        after: DeviceId?,
        limit: Int
    ) async throws -> [Originator] {
        guard let columns = value.columns else { return [] }
        return try await self.read { db in
            // CROSS JOIN keeps the order of the tables (sqlite.org/optoverview.html, "Manual control"): each device has one
            // search, while the attributes of this name are among all others.
            try db.rows(
                """
                SELECT d.id, d.name, p.name AS type FROM device d
                CROSS JOIN attribute a ON a.device = d.no AND a.scope = ? AND a.key = ?
                JOIN device_profile p ON p.id = d.device_profile_id
                WHERE d.id > coalesce(?, x'') AND a.kind = ? AND a.value = ? ORDER BY d.id LIMIT ?
                """,
                [
                    scope.rawValue, key, after?.uuid, columns.kind,
                    columns.value, max(0, limit),
                ]
            ).map(Originator.init(row:))
        }
    }
}

extension DeviceStatements {
    /// Adds or replaces one attribute; `null` is left out.
    func insertAttribute(
        _ device: Int64,
        _ scope: AttributeScope,
        _ key: String,
        _ value: JSON,
        at time: Timestamp,
        _ db: Database
    ) throws {
        guard value.kind != nil else { return }
        try self.attribute.run(db) { arguments in
            try arguments.add(device)
            try arguments.add(scope.rawValue)
            try arguments.add(key)
            try arguments.add(kindAndValueOf: value)
            try arguments.add(time.rawValue)
        }
    }

    /// Removes attributes and returns the names of those that there were.
    func deleteAttributes(
        _ device: Int64,
        _ scope: AttributeScope,
        _ keys: [String],
        _ db: Database
    ) throws -> [String] {
        try keys.filter { key in
            try self.attributeRemoval.run(db) { arguments in
                try arguments.add(device)
                try arguments.add(scope.rawValue)
                try arguments.add(key)
            }
            return db.changesCount > 0
        }
    }
}
