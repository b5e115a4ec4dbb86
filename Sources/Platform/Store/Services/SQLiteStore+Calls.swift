public import FoundationEssentials
import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: PersistentCallService {
    /// Stores a call.
    public func addCall(_ call: PersistentCall) async throws {
        try await self.write { db, _ in
            let number = try db.number(of: DeviceId(call.device.id))
            // The column `is_over` says what `PersistentCall.Status.isOver` does.
            try PersistentCallRules.checkRoom(
                besides: db.integer("SELECT count(*) FROM rpc WHERE device = ? AND is_over = 0", [number]) ?? 0,
                of: db.integer("SELECT count(*) FROM rpc WHERE is_over = 0") ?? 0
            )
            try db.run(
                """
                DELETE FROM rpc WHERE device = ?1 AND is_over = 1 AND no <= (
                    SELECT no FROM rpc WHERE device = ?1 AND is_over = 1 ORDER BY no DESC LIMIT 1 OFFSET ?2)
                """,
                [number, PersistentCallRules.finishedCallsMax - 1]
            )
            try db.run(
                """
                INSERT INTO rpc (id, device, created_time, expiration_time, status, one_way, method, params, timeout,
                    retries_left, additional_info, response)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    call.id.uuid, number, call.createdTime.rawValue, call.expirationTime.rawValue, call.status.rawValue,
                    call.isOneWay, call.method, call.params.description,
                    Int64(call.timeout / .milliseconds(1)), call.retriesLeft, call.additionalInfo?.description,
                    call.response?.description,
                ]
            )
        }
        self.newCalls.add(call.device.id)
    }

    /// The call with this identifier.
    public func call(_ id: PersistentCallId) async throws -> PersistentCall? {
        try await self.read { db in
            try db.row("\(PersistentCall.select) \(PersistentCall.from) WHERE c.id = ?", [id.uuid])
                .map(PersistentCall.init(row:))
        }
    }

    /// A page of a device's calls.
    public func calls(
        of device: DeviceId,
        status: PersistentCall.Status?,
        page: PageLink
    ) async throws -> Page<PersistentCall> {
        var query = PageQuery(
            select: PersistentCall.select,
            from: PersistentCall.from,
            conditions: ["d.id = ?"],
            arguments: [device.uuid],
            searched: "c.method",
            sortable: ["createdTime": "c.no", "expirationTime": "c.expiration_time", "status": "c.status"],
            tieBreaker: "c.no"
        )
        if let status {
            query.conditions.append("c.status = ?")
            query.arguments += [status.rawValue]
        }
        return try await self.read { [query] db in try query.page(page, db, PersistentCall.init(row:)) }
    }

    /// Removes a call.
    public func deleteCall(_ id: PersistentCallId) async throws -> Bool {
        try await self.remove { db, _ in
            try db.run("DELETE FROM rpc WHERE id = ?", [id.uuid])
            return db.changesCount > 0
        }
    }

    /// The oldest call of a device that waits for it.
    public func nextCall(of device: DeviceId) async throws -> PersistentCall? {
        try await self.read { db in
            try db.row(
                """
                \(PersistentCall.select) \(PersistentCall.from)
                WHERE d.id = ? AND c.is_over = 0 AND c.status = 'QUEUED' ORDER BY c.no LIMIT 1
                """,
                [device.uuid]
            ).map(PersistentCall.init(row:))
        }
    }

    /// The devices for which calls were added since the last time.
    public func devicesWithNewCalls() async -> Set<UUID> { await self.newCalls.next() }

    /// Notes how far a call is.
    public func noteCall(
        _ id: PersistentCallId,
        _ status: PersistentCall.Status,
        response: JSON?,
        retriesLeft: Int?
    ) async throws {
        try await self.write { db, _ in
            try db.run(
                """
                UPDATE rpc SET status = ?, response = coalesce(?, response), retries_left = coalesce(?, retries_left)
                WHERE id = ? AND is_over = 0
                """,
                [status.rawValue, response?.description, retriesLeft, id.uuid]
            )
        }
    }

    /// Notes that a session took a call.
    public func noteTaken(_ id: PersistentCallId) {
        self.writer.writeLater { db, _ in
            try db.run("UPDATE rpc SET status = 'SENT' WHERE id = ? AND status = 'QUEUED'", [id.uuid])
        }
    }

    /// Lets calls wait again that were on their way when the host stopped.
    public func requeueCalls() async throws {
        try await self.write { db, _ in
            try db.run("UPDATE rpc SET status = 'QUEUED' WHERE is_over = 0 AND status <> 'QUEUED'")
        }
    }

    /// Gives up what waits and whose time has run out.
    public func expireCalls(at now: Timestamp) async throws {
        try await self.followClock()
        let due = self.due(now)
        let condition = "is_over = 0 AND \(ClockLeap.isDue("expiration_time")) AND status = 'QUEUED'"
        let isDue = try await self.read { db in try db.exists("SELECT 1 FROM rpc WHERE \(condition)", due) }
        guard isDue else { return }
        try await self.write { db, _ in try db.run("UPDATE rpc SET status = 'EXPIRED' WHERE \(condition)", due) }
    }
}

extension PersistentCall {
    fileprivate static let select = "SELECT c.*, d.id AS device_id, d.name AS device_name, p.name AS profile_name"
    fileprivate static let from =
        "FROM rpc c JOIN device d ON d.no = c.device JOIN device_profile p ON p.id = d.device_profile_id"

    fileprivate init(row: Row) throws {
        self.init(
            id: row.id("id"),
            device: Originator(id: row["device_id"], name: row["device_name"], type: row["profile_name"]),
            createdTime: row.time("created_time"),
            expirationTime: row.time("expiration_time"),
            status: try row.choice("status"),
            method: row["method"],
            params: try JSON(stored: row["params"]),
            isOneWay: row["one_way"],
            timeout: .milliseconds(row["timeout"] as Int64),
            retriesLeft: row["retries_left"],
            additionalInfo: try row.json("additional_info"),
            response: try row.json("response")
        )
    }
}
