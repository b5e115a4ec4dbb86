import FoundationEssentials
import GRDB
import GRDBSQLite
import NodeKit

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A statement that devices cause all the time, run through SQLite's own interface.
///
/// GRDB looks for a statement by its text, puts each argument into a box, and finds each column of a row by its name, which
/// together takes longer than what SQLite does with the statement. What is prepared is GRDB's still: it keeps it as long as the
/// connection is open.
///
/// `@unchecked`: it is for writes, of which one is under way at a time, on one connection; that it is no other is checked.
final class DirectStatement: @unchecked Sendable {
    private let sql: String
    private weak var prepared: Statement?
    private var connection: OpaquePointer?

    /// A statement that is prepared when it is first run.
    init(_ sql: String) { self.sql = sql }

    /// Runs the statement, which has no rows.
    func run(_ db: Database, _ bind: (inout Arguments) throws -> Void) throws {
        let handle = try self.bound(db, bind)
        defer { Self.reset(handle) }
        guard sqlite3_step(handle) == SQLITE_DONE else { throw Self.error(of: db) }
    }

    /// Runs a query and reads its first row; `nil` if there is none.
    func row<Value>(
        _ db: Database,
        _ bind: (inout Arguments) throws -> Void,
        read: (Columns) throws -> Value
    ) throws -> Value? {
        let handle = try self.bound(db, bind)
        defer { Self.reset(handle) }
        switch sqlite3_step(handle) {
        case SQLITE_ROW: return try read(Columns(statement: handle))
        case SQLITE_DONE: return nil
        default: throw Self.error(of: db)
        }
    }

    private func bound(_ db: Database, _ bind: (inout Arguments) throws -> Void) throws -> OpaquePointer {
        var arguments = Arguments(statement: try self.handle(db))
        do {
            try bind(&arguments)
        } catch {
            Self.reset(arguments.statement)
            throw error
        }
        return arguments.statement
    }

    private func handle(_ db: Database) throws -> OpaquePointer {
        if let prepared = self.prepared {
            precondition(self.connection == db.sqliteConnection, "a statement belongs to one connection")
            return prepared.sqliteStatement
        }
        let statement = try db.cachedStatement(sql: self.sql)
        self.prepared = statement
        self.connection = db.sqliteConnection
        return statement.sqliteStatement
    }

    /// Ends a run; what went wrong in it was told by the last step (sqlite.org/c3ref/reset.html).
    ///
    /// Arguments that stay bound until the next run would keep their memory, and GRDB, if it runs the same text, binds all anew.
    private static func reset(_ handle: OpaquePointer) {
        sqlite3_reset(handle)
        sqlite3_clear_bindings(handle)
    }

    private static func error(of db: Database) -> DatabaseError {
        let code = ResultCode(rawValue: sqlite3_extended_errcode(db.sqliteConnection))
        return DatabaseError(resultCode: code, message: db.lastErrorMessage)
    }

    /// The arguments of a run, in the order of their places.
    struct Arguments {
        fileprivate let statement: OpaquePointer
        private var place: Int32 = 0

        fileprivate init(statement: OpaquePointer) { self.statement = statement }

        mutating func add(_ value: Int64?) throws {
            self.place += 1
            guard let value else { return try self.check(sqlite3_bind_null(self.statement, self.place)) }
            try self.check(sqlite3_bind_int64(self.statement, self.place, value))
        }

        mutating func add(_ value: Bool) throws { try self.add(Int64(value ? 1 : 0)) }

        /// A decimal; by its name, so that a number in the text of a program is an integer.
        mutating func add(decimal value: Double) throws {
            self.place += 1
            try self.check(sqlite3_bind_double(self.statement, self.place, value))
        }

        /// A text; one with U+0000 in it is refused, as ``Arguments/checked()`` does.
        mutating func add(_ value: String?) throws {
            self.place += 1
            guard var value else { return try self.check(sqlite3_bind_null(self.statement, self.place)) }
            let code = value.withUTF8 { bytes -> Int32? in
                guard let start = bytes.baseAddress else {
                    return sqlite3_bind_text(self.statement, self.place, "", 0, Self.copied)
                }
                // No time beside what SQLite does with the text.
                guard memchr(start, 0, bytes.count) == nil else { return nil }
                return start.withMemoryRebound(to: CChar.self, capacity: bytes.count) { text in
                    sqlite3_bind_text(self.statement, self.place, text, Int32(bytes.count), Self.copied)
                }
            }
            guard let code else { throw NullCharacter(in: "a text to be stored").refusal }
            try self.check(code)
        }

        mutating func add(_ value: UUID?) throws {
            self.place += 1
            guard let value else { return try self.check(sqlite3_bind_null(self.statement, self.place)) }
            let code = withUnsafeBytes(of: value.uuid) { bytes in
                sqlite3_bind_blob(self.statement, self.place, bytes.baseAddress, Int32(bytes.count), Self.copied)
            }
            try self.check(code)
        }

        /// The columns `kind` and `value`; see ``Schema``.
        mutating func add(kindAndValueOf value: JSON) throws {
            try self.add(value.kind)
            switch value {
            case .null: try self.add(nil as String?)
            case .bool(let value): try self.add(value)
            case .integer(let value): try self.add(value)
            case .double(let value): try self.add(decimal: value)
            case .string(let value): try self.add(value)
            case .array, .object: try self.add(value.description)
            }
        }

        /// Tells SQLite to copy a text or bytes before the call returns (sqlite.org/c3ref/c_static.html).
        private static let copied = unsafeBitCast(-1, to: sqlite3_destructor_type.self)

        private func check(_ code: Int32) throws {
            guard code == SQLITE_OK else { throw DatabaseError(resultCode: ResultCode(rawValue: code)) }
        }
    }

    /// The row of a query, valid until the next step.
    struct Columns {
        fileprivate let statement: OpaquePointer

        /// A number; 0 if the column is `NULL`.
        func integer(_ index: Int32) -> Int64 { sqlite3_column_int64(self.statement, index) }

        func integerIfPresent(_ index: Int32) -> Int64? {
            sqlite3_column_type(self.statement, index) == SQLITE_NULL ? nil : self.integer(index)
        }

        /// An identifier; `nil` if the column is `NULL`.
        func identifier(_ index: Int32) -> UUID? {
            guard let bytes = sqlite3_column_blob(self.statement, index),
                sqlite3_column_bytes(self.statement, index) == MemoryLayout<uuid_t>.size
            else { return nil }
            return UUID(uuid: bytes.loadUnaligned(as: uuid_t.self))
        }

        /// A text; `nil` if the column is `NULL`.
        func text(_ index: Int32) -> String? {
            guard let bytes = sqlite3_column_text(self.statement, index) else { return nil }
            let count = Int(sqlite3_column_bytes(self.statement, index))
            return String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
        }
    }
}
