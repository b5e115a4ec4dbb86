import GRDB
import NodeKit

extension SQLiteStore {
    /// Gives bytes that came in whole their name and stores what refers to them; see ``ByteStorage``.
    ///
    /// Bytes that are there already, wherever, stay and are used. If anything fails, those that nothing refers to go.
    ///
    /// - Parameters:
    ///   - bytes: The bytes.
    ///   - sha256: Their name.
    ///   - body: Stores what refers to them.
    /// - Returns: What `body` returned.
    /// - Throws: ``NodeError``, or an error of the storage.
    func place<Value: Sendable>(
        _ bytes: any IncomingBytes,
        as sha256: String,
        _ body: @escaping @Sendable (Database, inout Effects) throws -> Value
    ) async throws -> Value {
        do {
            return try await self.storages.withName(sha256) {
                if try await !self.storages.has(sha256) {
                    try await self.noteUnused(sha256)
                    try await bytes.finish(as: sha256)
                }
                return try await self.write { db, effects in
                    let value = try body(db, &effects)
                    try db.run("DELETE FROM unused_file WHERE sha256 = ?", [sha256])
                    return value
                }
            }
        } catch {
            await self.removeUnused([sha256])
            throw error
        }
    }

    /// Notes that there may be bytes with this name which no package uses.
    ///
    /// Called only if there are none, as those that are there are another's to judge.
    func noteUnused(_ sha256: String) async throws {
        try await self.write { db, _ in try db.noteUnused(sha256) }
    }

    /// Removes bytes that were given up, or whose upload did not get as far as its row.
    ///
    /// Nothing else is removed, whatever the rows say: a file without a row may be of a database that is elsewhere at present. What
    /// stays behind because of an error is tried again when the store is opened.
    ///
    /// - Parameter sha256s: Which of them to look at; `nil` for all.
    func removeUnused(_ sha256s: [String]? = nil) async {
        guard let known = try? await self.read({ db in try db.unusedBytes(sha256s) }) else { return }
        for sha256 in known {
            try? await self.storages.withName(sha256) {
                // Looked at in the transaction that takes the note away: the package may be deleted, and the note made, right now.
                let isUsed = try await self.remove { db, _ in
                    guard try db.isUsed(sha256) else { return false }
                    try db.run("DELETE FROM unused_file WHERE sha256 = ?", [sha256])
                    return true
                }
                guard !isUsed else { return }
                try await self.storages.remove(sha256)
                try await self.remove { db, _ in try db.run("DELETE FROM unused_file WHERE sha256 = ?", [sha256]) }
            }
        }
    }
}

extension Database {
    /// The SHA-256 of bytes that may be there without a package, those named or all; see ``Schema/version9``.
    func unusedBytes(_ sha256s: [String]? = nil) throws -> [String] {
        guard let sha256s else { return try String.fetchAll(self, sql: "SELECT sha256 FROM unused_file") }
        return try String.fetchAll(
            self,
            sql: "SELECT sha256 FROM unused_file WHERE sha256 IN (SELECT value FROM json_each(?))",
            arguments: [JSON.array(sha256s.map(JSON.string)).description]
        )
    }

    /// Notes those of these bytes that no package uses any more, in the transaction that took their packages.
    func giveUp(_ sha256s: [String]) throws {
        for sha256 in sha256s where try !self.isUsed(sha256) { try self.noteUnused(sha256) }
    }

    /// Of names of bytes those that the database, which may be of an earlier version, does not know: neither has a package these bytes
    /// nor may they be there without one.
    func unknown(_ sha256s: [String]) throws -> [String] {
        guard !sha256s.isEmpty else { return [] }
        var known: Set<String> = []
        if try self.tableExists("ota_package") {
            known = try String.fetchSet(self, sql: "SELECT DISTINCT sha256 FROM ota_package WHERE sha256 IS NOT NULL")
        }
        if try self.tableExists("unused_file") { known.formUnion(try self.unusedBytes()) }
        return sha256s.filter { !known.contains($0) }
    }

    fileprivate func noteUnused(_ sha256: String) throws {
        try self.run("INSERT OR IGNORE INTO unused_file (sha256) VALUES (?)", [sha256])
    }

    fileprivate func isUsed(_ sha256: String) throws -> Bool {
        try self.exists("SELECT 1 FROM ota_package WHERE sha256 = ?", [sha256])
    }
}
