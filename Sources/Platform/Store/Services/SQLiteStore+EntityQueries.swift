import GRDB
import NodeKit
public import OTA

extension SQLiteStore: EntityQueryService {
    /// A page of devices, with the values that the query wants.
    public func findEntities(_ query: EntityQuery) async throws -> Page<EntityRow> {
        try query.check()
        let keys = query.answeredOnce
        return try await self.read { db in
            var statement = try EntityStatement(query, profiles: Self.profiles(of: query, db))
            let total = try Self.count(statement, db)
            let sql = try statement.page(answering: keys)
            // Not prepared once and kept: there are as many statements as clients can think of.
            let rows = try Row.fetchAll(db, sql: sql, arguments: Arguments(statement.arguments).checked())
            let data = try rows.map { row in try EntityRow(row: row, keys: keys) }
            return Page(data: data, totalElements: total, link: query.link)
        }
    }

    /// How many devices fulfil the query.
    public func countEntities(_ query: EntityQuery) async throws -> Int {
        try query.check()
        return try await self.read { db in
            try Self.count(EntityStatement(query, profiles: Self.profiles(of: query, db)), db)
        }
    }

    /// The devices that fulfil the query, in order of identifier.
    public func entities(matching query: EntityQuery, after: DeviceId?, limit: Int) async throws -> [DeviceId] {
        try query.check()
        return try await self.read { db in
            var statement = try EntityStatement(query, profiles: Self.profiles(of: query, db))
            let sql = statement.identifiers(after: after, limit: limit)
            return try Row.fetchAll(db, sql: sql, arguments: Arguments(statement.arguments).checked())
                .map { $0.id("id") }
        }
    }

    private static func count(_ statement: EntityStatement, _ db: Database) throws -> Int {
        try Int.fetchOne(db, sql: statement.count, arguments: Arguments(statement.arguments).checked()) ?? 0
    }

    /// The profiles that are the device types of a query: with their identifiers the statement can use an index.
    private static func profiles(of query: EntityQuery, _ db: Database) throws -> [DeviceProfileId]? {
        guard case .types(let names, _) = query.filter else { return nil }
        return try db.rows(
            "SELECT id FROM device_profile WHERE tenant_id = ? AND name IN (SELECT value FROM json_each(?)) ORDER BY name",
            [query.tenantId.uuid, JSON.array(names.map(JSON.string)).description]
        ).map { $0.id("id") }
    }
}

extension EntityRow {
    fileprivate init(row: Row, keys: [EntityKey]) throws {
        var values: [EntityKey: Value] = [:]
        for (index, key) in keys.enumerated() where row["k\(index)"] as Int? != nil {
            values[key] = Value(
                timestamp: (row["t\(index)"] as Int64?).map(Timestamp.init(milliseconds:)),
                value: try JSON(columnsOf: row, kind: "k\(index)", value: "x\(index)")
            )
        }
        self.init(id: row.id("id"), values: values)
    }
}
