import FoundationEssentials
import GRDB
import NodeKit
import Testing

@testable import Store

@Suite struct DirectStatementTests {
    @Test(
        "a value is stored as GRDB stores it",
        arguments: [
            true, false, 0, .integer(.max), .integer(.min), 1.0, -0.5, "", "text", "é\u{1F512}", ["a", 1.5],
            ["b": true],
        ]
            as [JSON]
    )
    func values(value: JSON) throws {
        try DatabaseQueue().write { db in
            try db.execute(sql: "CREATE TABLE value (kind INTEGER NOT NULL, value ANY NOT NULL) STRICT")
            try DirectStatement("INSERT INTO value VALUES (?, ?)").run(db) { arguments in
                try arguments.add(kindAndValueOf: value)
            }
            let row = try #require(try db.row("SELECT kind, value FROM value"))
            #expect(row["kind"] == value.columns?.kind)
            #expect(row["value"] == value.columns?.value)
            #expect(try JSON(columnsOf: row) == value)
        }
    }

    @Test("a query gives the columns of its first row, and nothing if there is none")
    func columns() throws {
        try DatabaseQueue().write { db in
            let id = UUID.random()
            let query = DirectStatement("SELECT ?, ?, ?, ?, ? WHERE ?")
            for isThere in [true, false, true] {
                let found = try query.row(db) { arguments in
                    try arguments.add(7)
                    try arguments.add("a\u{E9}")
                    try arguments.add(id)
                    try arguments.add(nil as Int64?)
                    try arguments.add(nil as String?)
                    try arguments.add(isThere)
                } read: { columns in
                    #expect(columns.integer(0) == 7)
                    #expect(columns.integerIfPresent(0) == 7)
                    #expect(columns.text(1) == "a\u{E9}")
                    #expect(columns.identifier(2) == id)
                    #expect(columns.identifier(1) == nil)
                    #expect(columns.integerIfPresent(3) == nil)
                    #expect(columns.text(4) == nil)
                    return true
                }
                #expect(found == (isThere ? true : nil))
            }
        }
    }

    @Test(
        "a text with U+0000 is refused, an empty one is a text, and one that is there is read whole",
        .bug(id: "D1.3")
    )
    func nullCharacter() throws {
        try DatabaseQueue().write { db in
            let query = DirectStatement("SELECT ?, 'a' || char(0) || 'b'")
            func read(_ text: String) throws -> [String?]? {
                try query.row(db) {
                    try $0.add(text)
                } read: {
                    [$0.text(0), $0.text(1)]
                }
            }
            for text in ["a\u{0}", "\u{0}", String(repeating: "x", count: 1000) + "\u{0}y"] {
                let error = #expect(throws: NodeError.self) { try read(text) }
                #expect(error?.isNullCharacter == true)
                #expect(throws: NodeError.self) { try db.run("SELECT ?", [text]) }
            }
            let whole = try read("")
            #expect(whole == ["", "a\u{0}b"])
        }
    }

    @Test("a statement that fails says why, and can be run again")
    func failure() throws {
        try DatabaseQueue().write { db in
            try db.execute(sql: "CREATE TABLE number (value INTEGER NOT NULL PRIMARY KEY)")
            let insertion = DirectStatement("INSERT INTO number VALUES (?)")
            func insert(_ number: Int64?) throws { try insertion.run(db) { arguments in try arguments.add(number) } }
            try insert(1)
            let twice = #expect(throws: DatabaseError.self) { try insert(1) }
            #expect(twice?.extendedResultCode == .SQLITE_CONSTRAINT_PRIMARYKEY)
            #expect(twice?.message == "UNIQUE constraint failed: number.value")
            #expect(throws: CancellationError.self) { try insertion.run(db) { _ in throw CancellationError() } }
            try insert(2)
            #expect(try db.integer("SELECT sum(value) FROM number") == 3)
            #expect(throws: DatabaseError.self) {
                try DirectStatement("INSERT INTO nowhere VALUES (1)").run(db) { _ in }
            }
        }
    }

    @Test("a connection closes although statements were prepared on it")
    func closing() throws {
        let statement = DirectStatement("SELECT 1")
        // It is prepared anew on another connection.
        for _ in 0..<2 {
            let queue = try DatabaseQueue()
            let value = try queue.read { db in try statement.row(db, { _ in }, read: { $0.integer(0) }) }
            #expect(value == 1)
            try queue.close()
        }
    }
}
