import FoundationEssentials
import GRDB
import NodeKit
import OTA

extension Database {
    /// Carries out a statement that is prepared once.
    func run(_ sql: String, _ arguments: Arguments = []) throws {
        try self.cachedStatement(sql: sql).execute(arguments: arguments.checked())
    }

    /// The first row of a query that is prepared once.
    func row(_ sql: String, _ arguments: Arguments = []) throws -> Row? {
        try Row.fetchOne(self.cachedStatement(sql: sql), arguments: arguments.checked())
    }

    /// All rows of a query that is prepared once.
    func rows(_ sql: String, _ arguments: Arguments = []) throws -> [Row] {
        try Row.fetchAll(self.cachedStatement(sql: sql), arguments: arguments.checked())
    }

    /// The first column of the first row.
    func integer(_ sql: String, _ arguments: Arguments = []) throws -> Int64? {
        try Int64.fetchOne(self.cachedStatement(sql: sql), arguments: arguments.checked())
    }

    /// Whether a query has any row.
    func exists(_ sql: String, _ arguments: Arguments = []) throws -> Bool {
        try self.row(sql, arguments) != nil
    }

    /// The row number of a device.
    func number(of device: DeviceId) throws -> Int64 {
        guard let number = try self.integer("SELECT no FROM device WHERE id = ?", [device.uuid]) else {
            throw EntityRules.missing(device)
        }
        return number
    }
}

/// The arguments of a statement, in the order of their places.
struct Arguments: ExpressibleByArrayLiteral {
    private var values: [DatabaseValue]

    init(_ values: [(any DatabaseValueConvertible)?]) { self.values = values.map { $0?.databaseValue ?? .null } }

    init(arrayLiteral elements: (any DatabaseValueConvertible)?...) { self.init(elements) }

    static func += (arguments: inout Self, more: Self) { arguments.values += more.values }

    static func + (arguments: Self, more: Self) -> Self {
        var all = arguments
        all += more
        return all
    }

    /// What GRDB takes, which would end a text at its first U+0000: such a text is refused.
    func checked() throws(NodeError) -> StatementArguments {
        guard !self.values.isEmpty else { return StatementArguments() }
        for value in self.values {
            if case .string(let text) = value.storage { try NullCharacter.refuse(in: text, "a text to be stored") }
        }
        return StatementArguments(self.values)
    }
}

extension JSON {
    /// The kind of a value that is stored; `nil` for `null`, which is not.
    var kind: Int64? {
        switch self {
        case .null: nil
        case .bool: 0
        case .integer: 1
        case .double: 2
        case .string: 3
        case .array, .object: 4
        }
    }

    /// How a value is stored: its kind and what is in the column; `nil` for `null`, which is not stored.
    var columns: (kind: Int64, value: DatabaseValue)? {
        guard let kind = self.kind else { return nil }
        return switch self {
        case .null: nil
        case .bool(let value): (kind, (value ? 1 : 0).databaseValue)
        case .integer(let value): (kind, value.databaseValue)
        case .double(let value): (kind, value.databaseValue)
        case .string(let value): (kind, value.databaseValue)
        case .array, .object: (kind, self.description.databaseValue)
        }
    }

    /// The value of the columns `kind` and `value` of a row.
    init(columnsOf row: Row) throws { try self.init(columnsOf: row, kind: "kind", value: "value") }

    /// The value of two columns of a row.
    init(columnsOf row: Row, kind: String, value: String) throws {
        self =
            switch row[kind] as Int {
            case 0: .bool(row[value] as Int64 != 0)
            case 1: .integer(row[value])
            case 2: .double(row[value])
            case 3: .string(row[value])
            default: try JSON(stored: row[value])
            }
    }

    /// The value of a column with JSON text.
    init(stored text: String) throws {
        do {
            // The store wraps what clients sent, so it may be somewhat deeper than what is taken from them. Before U+0000 was
            // refused, it came to be stored within objects.
            self = try JSON(parsing: text, depthMax: JSON.depthMax + 8, allowsNull: true)
        } catch {
            throw NodeError(
                .internalError,
                "the database holds JSON that cannot be read; check the store",
                cause: error
            )
        }
    }
}

extension Row {
    /// The JSON in a column of text, if there is any.
    func json(_ column: String) throws -> JSON? {
        guard let text: String = self[column] else { return nil }
        return try JSON(stored: text)
    }

    func time(_ column: String) -> Timestamp { Timestamp(milliseconds: self[column]) }

    func id<Entity>(_ column: String) -> EntityID<Entity> { EntityID(self[column] as UUID) }

    func idIfPresent<Entity>(_ column: String) -> EntityID<Entity>? { (self[column] as UUID?).map(EntityID.init) }

    /// The case of an enumeration whose raw value a column holds.
    func choice<Choice: RawRepresentable<String>>(_ column: String) throws -> Choice {
        guard let choice = Choice(rawValue: self[column]) else {
            throw NodeError(.internalError, "the database holds an unknown '\(column)'; check the store")
        }
        return choice
    }
}

/// The page that a link asks for, as SQL.
struct PageQuery {
    /// What is selected, from `SELECT` on.
    var select: String
    /// Table and joins, from `FROM` on.
    var from: String
    /// What rows must fulfil, joined by `AND`.
    var conditions: [String] = []
    /// Values for the conditions.
    var arguments: Arguments = []
    /// The column to search text in.
    var searched: String
    /// The columns to sort by, by member of the REST API; `createdTime` must be there.
    var sortable: [String: String]
    /// What makes the order of equal rows certain.
    var tieBreaker: String

    /// Reads the page and counts all pages.
    func page<Element: Sendable>(_ link: PageLink, _ db: Database, _ map: (Row) throws -> Element) throws -> Page<
        Element
    > {
        var conditions = self.conditions
        var arguments = self.arguments
        if let text = link.textSearch, !text.isEmpty {
            conditions.append("\(self.searched) LIKE ? ESCAPE '\\'")
            arguments += ["%\(Self.escaped(text))%"]
        }
        let filter = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
        let total = try db.integer("SELECT count(*) \(self.from)\(filter)", arguments) ?? 0
        let column = link.sortProperty.flatMap { self.sortable[$0] } ?? self.sortable["createdTime"] ?? self.tieBreaker
        let direction = link.ascending ? "ASC" : "DESC"
        let bounds = try link.rows()
        let order = "ORDER BY \(column) \(direction), \(self.tieBreaker) \(direction)"
        let data = try db.rows(
            "\(self.select) \(self.from)\(filter) \(order) LIMIT ? OFFSET ?",
            arguments + [bounds.limit, bounds.offset]
        ).map(map)
        return Page(data: data, totalElements: Int(total), link: link)
    }

    /// The text with the wildcards of `LIKE` made ordinary.
    static func escaped(_ text: String) -> String {
        var escaped = ""
        for character in text.unicodeScalars {
            if character == "%" || character == "_" || character == "\\" { escaped.unicodeScalars.append("\\") }
            escaped.unicodeScalars.append(character)
        }
        return escaped
    }
}

extension DatabaseReader {
    /// Reads the database as of one commit, also when the task is cancelled meanwhile.
    func readToEnd<Value: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            self.asyncRead { database in
                do {
                    continuation.resume(returning: try body(database.get()))
                } catch {
                    continuation.resume(throwing: NodeError(storing: error))
                }
            }
        }
    }
}
