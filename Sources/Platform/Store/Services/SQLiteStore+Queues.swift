import FoundationEssentials
import GRDB
import NIOCore
public import NodeKit
import OTA
import Synchronization
import Waiting

extension SQLiteStore: MessageQueues {
    /// How many messages are moved or dropped in one transaction.
    static let queueStepMax = 1000

    /// The queue with this name.
    public func queue(named name: String) -> any MessageQueue { StoredMessageQueue(store: self, name: name) }

    /// The queues that hold messages.
    public func waitingQueues() async throws -> [WaitingQueue] {
        try await self.read { db in try db.waitingQueues() }
    }

    /// Moves all messages of a queue to the end of another one.
    public func move(from name: String, to other: String) async throws -> Int {
        guard name != other else { return 0 }
        let now = self.now()
        return try await self.inSteps(of: name) { db, rows in
            var addedCount = 0
            for row in rows { addedCount += try db.move(row, to: other, at: now) ? 1 : 0 }
            return addedCount
        } done: { [queues] addedCount in
            queues.add(addedCount, to: other)
            queues.signal(of: other).raise()
        }
    }

    /// Removes all messages of a queue.
    public func drop(_ name: String) async throws -> Int {
        let now = self.now()
        let reason = HoldReason(code: "dropped", text: "its message was dropped from the queue '\(name)'")
        return try await self.inSteps(of: name) { db, rows in
            for row in rows {
                guard let device: UUID = row["originator"], let key: String = row["key"] else { continue }
                try db.note(reason, of: device, Precedence(key: key, generation: row["generation"] ?? 0), at: now)
            }
            return 0
        } done: { _ in
        }
    }

    /// Takes all messages out of a queue, a number of them in each transaction.
    private func inSteps(
        of name: String,
        _ body: @escaping @Sendable (Database, [Row]) throws -> Int,
        done: (Int) -> Void
    ) async throws -> Int {
        var count = 0
        while true {
            let now = self.now()
            let (taken, value) = try await self.remove { [statements] db, _ in
                let rows = try db.rows(
                    "SELECT * FROM message_queue WHERE queue = ? ORDER BY id LIMIT ?",
                    [name, Self.queueStepMax]
                )
                for row in rows { try db.run("DELETE FROM message_queue WHERE id = ?", [row["id"] as Int64]) }
                // Where this step ends, the next of an originator may be the first, also if there is no other step.
                for originator in Set(
                    rows.filter { $0["key"] as String? == nil }.compactMap { $0["originator"] as UUID? }
                ) {
                    try statements.queueAdvance.run(db) { arguments in
                        try arguments.add(now.rawValue)
                        try arguments.add(originator)
                        try arguments.add(name)
                    }
                }
                return (rows.count, try body(db, rows))
            }
            if taken > 0 { self.queues.removed(taken, from: name) }
            done(value)
            count += taken
            if taken < Self.queueStepMax { return count }
            try await self.clock.sleep(for: Self.stepPause)
        }
    }
}

extension Database {
    /// The queues that hold messages, in the order of their names; looks at indices, and at one message of each.
    func waitingQueues() throws -> [WaitingQueue] {
        var held: [String: [String: Int]] = [:]
        let reasons = try self.rows(
            "SELECT queue, code, count(*) AS count FROM message_queue WHERE code IS NOT NULL GROUP BY queue, code"
        )
        for row in reasons { held[row["queue"], default: [:]][row["code"]] = row["count"] }
        return try self.rows(
            """
            SELECT q.queue, q.count, (SELECT nullif(since, 0) FROM message_queue WHERE id = q.oldest) AS since
            FROM (SELECT queue, count(*) AS count, min(id) AS oldest FROM message_queue GROUP BY queue) q ORDER BY q.queue
            """
        ).map { row in
            WaitingQueue(
                name: row["queue"],
                count: row["count"],
                oldest: (row["since"] as Int64?).map(Timestamp.init(milliseconds:)),
                held: held[row["queue"]] ?? [:]
            )
        }
    }
}

/// What the store knows of queues beside their rows.
final class QueueTable: Sendable {
    private struct Entry {
        let signal = Signal()
        /// How many messages there are; `nil` while nobody asked.
        var count: Int?
        /// How often messages were moved or dropped.
        var removals: UInt64 = 0
    }

    private let entries = Mutex<[String: Entry]>([:])

    /// Raised when messages were added to a queue.
    func signal(of name: String) -> Signal {
        self.entries.withLock { entries in
            let entry = entries[name] ?? Entry()
            entries[name] = entry
            return entry.signal
        }
    }

    /// How often messages of a queue were moved or dropped.
    func removals(of name: String) -> UInt64 { self.entries.withLock { $0[name]?.removals ?? 0 } }

    /// Messages of a queue were moved or dropped.
    func removed(_ count: Int, from name: String) {
        self.add(-count, to: name)
        self.entries.withLock { entries in
            var entry = entries[name] ?? Entry()
            entry.removals += 1
            entries[name] = entry
        }
        self.signal(of: name).raise()
    }

    /// Messages of any queue may be due that were not.
    func signalAll() {
        for signal in self.entries.withLock({ $0.values.map(\.signal) }) { signal.raise() }
    }

    /// How many messages a queue holds, if that is known.
    func count(of name: String) -> Int? { self.entries.withLock { $0[name]?.count } }

    /// Notes how many there are, unless that is known by now.
    func found(_ count: Int, in name: String) {
        self.entries.withLock { entries in
            if entries[name]?.count == nil { entries[name, default: Entry()].count = count }
        }
    }

    /// Takes places for more, if the count is known and leaves room for them.
    ///
    /// - Returns: Whether there was room.
    func take(_ count: Int, of name: String, max: Int) -> Bool {
        self.entries.withLock { entries in
            guard let present = entries[name]?.count, present + count <= max else { return false }
            entries[name]?.count = present + count
            return true
        }
    }

    /// Notes that there are more, or fewer, if the count is known.
    func add(_ count: Int, to name: String) {
        self.entries.withLock { entries in
            if let present = entries[name]?.count { entries[name]?.count = max(0, present + count) }
        }
    }
}

/// A queue in the table `message_queue`.
private struct StoredMessageQueue: MessageQueue {
    let store: SQLiteStore
    let name: String

    func append(_ message: Message, countMax: Int) async throws {
        try await self.load()
        let isReserved = self.store.queues.take(1, of: self.name, max: countMax)
        do {
            let isNew = try await self.store(message, isReserved: isReserved, countMax: countMax)
            if isReserved, !isNew { self.store.queues.add(-1, to: self.name) }
        } catch {
            if isReserved { self.store.queues.add(-1, to: self.name) }
            throw error
        }
        self.store.queues.signal(of: self.name).raise()
    }

    /// Stores a message.
    ///
    /// - Returns: Whether there is one more than before; otherwise it took the place of another, or was dropped.
    private func store(_ message: Message, isReserved: Bool, countMax: Int) async throws -> Bool {
        let text = message.stored.description
        let now = self.store.now()
        return try await self.store.write { [name, statements = self.store.statements] db, _ in
            guard let precedence = message.precedence else {
                guard isReserved else { throw Self.full(countMax) }
                try statements.queueEntry.run(db) { arguments in
                    try arguments.add(name)
                    try arguments.add(text)
                    try arguments.add(message.originator.id)
                    try arguments.add(now.rawValue)
                }
                return true
            }
            let isNew =
                try statements.queuedGeneration.row(db) { arguments in
                    try arguments.add(message.originator.id)
                    try arguments.add(precedence.key)
                    try arguments.add(name)
                } read: { _ in
                    false
                } ?? true
            guard isReserved || !isNew else { throw Self.full(countMax) }
            try statements.queueReplacement.run(db) { arguments in
                try arguments.add(name)
                try arguments.add(text)
                try arguments.add(message.originator.id)
                try arguments.add(Int64(precedence.priority))
                try arguments.add(now.rawValue)
                try arguments.add(precedence.key)
                try arguments.add(precedence.generation)
            }
            return isNew
        }
    }

    private static func full(_ countMax: Int) -> NodeError {
        NodeError(
            .unavailable,
            "\(countMax) messages wait already; raise 'waiting-max' or lower 'interval-milliseconds'"
        )
    }

    func due(at now: Timestamp, limit: Int, without held: Set<Int64>) async throws -> DueMessages {
        try await self.store.read { [name] db in
            var due = DueMessages()
            var priority = try db.integer("SELECT max(priority) FROM message_queue WHERE queue = ?", [name])
            while let level = priority {
                try db.messages(of: name, level, dueAt: now, limit: limit, without: held, into: &due)
                priority = try db.integer(
                    "SELECT max(priority) FROM message_queue WHERE queue = ? AND priority < ?",
                    [name, level]
                )
            }
            return due
        }
    }

    func settle(_ messages: [SettledMessage]) async throws {
        guard !messages.isEmpty else { return }
        let now = self.store.now()
        let count = try await self.store.write { [name, statements = self.store.statements] db, _ in
            var count = 0
            for settled in messages {
                let message = settled.message
                let precedence = message.message.precedence
                try statements.queueRemoval.run(db) { arguments in
                    try arguments.add(message.id)
                    try arguments.add(precedence?.generation)
                }
                count += db.changesCount
                if precedence == nil {
                    try statements.queueAdvance.run(db) { arguments in
                        try arguments.add(now.rawValue)
                        try arguments.add(message.message.originator.id)
                        try arguments.add(name)
                    }
                }
                try db.note(settled, at: now)
            }
            return count
        }
        self.store.queues.add(-count, to: self.name)
    }

    func postpone(_ messages: [PostponedMessage]) async throws {
        guard !messages.isEmpty else { return }
        try await self.store.write(repeatable: true) { [statements = self.store.statements] db, _ in
            for message in messages {
                try statements.queueRetry.run(db) { arguments in
                    try arguments.add(message.due.rawValue)
                    try arguments.add(message.reason.code)
                    try arguments.add(message.reason.text)
                    try arguments.add(message.message.id)
                    try arguments.add(message.message.message.precedence?.generation)
                }
            }
        }
    }

    var removals: UInt64 { self.store.queues.removals(of: self.name) }

    func arrivals(since mark: UInt64?) async -> UInt64 {
        await self.store.queues.signal(of: self.name).next(after: mark)
    }

    func count() async throws -> Int {
        try await self.store.read { [name] db in
            Int(try db.integer("SELECT count(*) FROM message_queue WHERE queue = ?", [name]) ?? 0)
        }
    }

    /// Counts the messages, once: to count the rows for every message would cost more than it.
    private func load() async throws {
        guard self.store.queues.count(of: self.name) == nil else { return }
        self.store.queues.found(try await self.count(), in: self.name)
    }
}

extension Database {
    /// The messages of a queue and a priority that are due.
    fileprivate func messages(
        of queue: String,
        _ priority: Int64,
        dueAt now: Timestamp,
        limit: Int,
        without held: Set<Int64>,
        into due: inout DueMessages
    ) throws {
        let rows = try self.rows(
            """
            SELECT w.*, d.no AS device, CASE w.key WHEN 'FIRMWARE' THEN d.firmware_generation
                WHEN 'SOFTWARE' THEN d.software_generation END AS newest
            FROM message_queue w LEFT JOIN device d ON d.id = w.originator
            WHERE w.queue = ? AND w.priority = ? AND w.due <= ? AND w.id NOT IN (SELECT value FROM json_each(?))
            ORDER BY w.due, w.id LIMIT ?
            """,
            [queue, priority, now.rawValue, JSON.array(held.map(JSON.integer)).description, limit]
        )
        for row in rows {
            let message = try WaitingMessage(row: row)
            guard let precedence = message.message.precedence, let type = OtaPackageType(rawValue: precedence.key),
                (row["newest"] as Int64?).map({ $0 > precedence.generation }) ?? true
            else {
                due.messages.append(message)
                continue
            }
            // Something newer is to be told to the device, or the device is gone. What is told later itself takes no place.
            let succeeds = try self.exists(
                "SELECT 1 FROM assignment WHERE device = ? AND type = ? AND due <= ?",
                [row["device"] as Int64?, type.rawValue, now.rawValue]
            )
            if succeeds {
                let reason = HoldReason(code: "superseded", text: "a newer assignment takes its place in a moment")
                let pause = Duration.seconds(min(30, 1 << min(message.tries, 5)))
                due.postponed.append(PostponedMessage(message, due: now.adding(pause), reason: reason))
            } else {
                due.superseded.append(message)
            }
        }
        let next = try self.integer(
            "SELECT min(due) FROM message_queue WHERE queue = ? AND priority = ? AND due > ?",
            [queue, priority, now.rawValue]
        )
        if let next { due.next = min(due.next ?? Timestamp(milliseconds: next), Timestamp(milliseconds: next)) }
    }

    /// What queues hold for devices and is pointless from now on is due at once, so that it is passed over and does not stay until
    /// the time for which it was held.
    func hastenQueued(of devices: [Int64], type: OtaPackageType, at now: Timestamp) throws {
        // Only what was tried waits for a time, and mostly nothing does.
        guard try self.exists("SELECT 1 FROM message_queue WHERE code IS NOT NULL LIMIT 1") else { return }
        try self.run(
            """
            UPDATE message_queue SET due = ?1 WHERE key = ?2 AND due > ?1
                AND originator IN (SELECT id FROM device WHERE no IN (SELECT value FROM json_each(?3)))
            """,
            [now.rawValue, type.rawValue, JSON.array(devices.map(JSON.integer)).description]
        )
    }

    /// Adds a message that was taken out of a queue to another one.
    ///
    /// - Returns: Whether there is one more in that than before.
    fileprivate func move(_ row: Row, to queue: String, at now: Timestamp) throws -> Bool {
        let (originator, key): (UUID?, String?) = (row["originator"], row["key"])
        guard let key else {
            try self.run(
                """
                INSERT INTO message_queue (queue, message, originator, since, due)
                SELECT ?1, ?2, ?3, ?4, CASE WHEN ?3 IS NULL OR EXISTS (SELECT 1 FROM message_queue
                    WHERE originator = ?3 AND queue = ?1 AND key IS NULL) THEN NULL ELSE ?5 END
                """,
                [queue, row["message"] as String, originator, row["since"] as Int64, now.rawValue]
            )
            return true
        }
        let isNew = try !self.exists(
            "SELECT 1 FROM message_queue WHERE originator = ? AND key = ? AND queue = ?",
            [originator, key, queue]
        )
        try self.run(
            """
            INSERT INTO message_queue (queue, message, originator, key, generation, priority, since, due)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
            ON CONFLICT (originator, key, queue) WHERE key IS NOT NULL DO UPDATE SET message = excluded.message,
                priority = excluded.priority, generation = excluded.generation, due = since, tries = 0, code = NULL, reason = NULL
            WHERE excluded.generation > generation
            """,
            [
                queue, row["message"] as String, originator, key, row["generation"] as Int64?, row["priority"] as Int64,
                row["since"] as Int64, now.rawValue,
            ]
        )
        return isNew
    }
}

extension WaitingMessage {
    fileprivate init(row: Row) throws {
        var message = try Message(stored: try JSON(stored: row["message"]))
        if let key: String = row["key"] {
            message.precedence = Precedence(key: key, generation: row["generation"] ?? 0, priority: row["priority"])
        }
        self.init(
            id: row["id"],
            message: message,
            since: row.time("since"),
            due: row.time("due"),
            tries: row["tries"]
        )
    }
}

extension Message {
    /// All of the message that outlives the process, as one JSON value.
    fileprivate var stored: JSON {
        var object: JSON.Object = [
            "originator": [
                "id": .string(self.originator.id.uuidString), "name": .string(self.originator.name),
                "type": .string(self.originator.type),
            ],
            "type": .string(self.type.rawValue),
            "metadata": .object(self.metadata.object),
            "timestamp": .integer(self.timestamp.rawValue),
        ]
        switch self.data {
        case .none: break
        case .json(let value): object["json"] = value
        case .bytes(let buffer):
            object["bytes"] = .string(Data(buffer.readableBytesView).base64EncodedString())
        }
        return .object(object)
    }

    fileprivate init(stored: JSON) throws {
        guard let id = stored["originator"]?["id"]?.string.flatMap(UUID.init(uuidString:)),
            let name = stored["originator"]?["name"]?.string,
            let deviceType = stored["originator"]?["type"]?.string,
            let type = stored["type"]?.string,
            let metadata = stored["metadata"]?.object,
            let time = stored["timestamp"]?.integer
        else { throw NodeError(.internalError, "a queue holds a message that cannot be read; check the store") }
        var data = MessageData.none
        if let value = stored["json"] {
            data = .json(value)
        } else if let bytes = stored["bytes"]?.string.flatMap({ Data(base64Encoded: $0) }) {
            data = .bytes(ByteBuffer(bytes: bytes))
        }
        self.init(
            originator: Originator(id: id, name: name, type: deviceType),
            type: MessageType(rawValue: type),
            metadata: Metadata(metadata),
            data: data,
            timestamp: Timestamp(milliseconds: time)
        )
    }
}
