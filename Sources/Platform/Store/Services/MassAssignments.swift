import GRDB
import Logging
import NodeKit
import OTA
import Synchronization
import Waiting

/// Assignments of packages to all devices of a profile, which go on in steps, so that no report waits for a whole fleet.
///
/// What a device should have is decided by the row of its profile, at once. Its record follows: ``stepMax`` devices in the transaction
/// that changes the profile, as many in each one after it. A row of `mass_assignment` says how far that is, so it goes on after a
/// restart. A device that reports or is served before its turn gets its record then; see ``follow(_:_:at:_:_:)``. As each device has
/// the package that its record follows (`followed_firmware`, `followed_software`), another change of the profile simply begins again
/// with the first device, and those that the former did not reach go from what they had to what they should have.
final class MassAssignments: Sendable {
    /// The most devices in one transaction.
    static let stepMax = 1000

    /// Whether there may be devices whose records do not follow their packages yet; each report looks at it.
    private let isUnderWay = Atomic(false)
    /// Raised when one has begun.
    let begun = Signal()
    private let times: ServerTimes
    /// The one that takes several steps and that the log told of.
    private let logged = Mutex<Int64?>(nil)

    init(times: ServerTimes) { self.times = times }

    /// Whether there may be devices to do.
    var areUnderWay: Bool { self.isUnderWay.load(ordering: .relaxed) }

    /// Called in the transaction that begins one, so that writes behind it know of it before its commit.
    func begin() { self.isUnderWay.store(true, ordering: .relaxed) }

    /// Looks at what is committed; called by the writer's thread, or before there is a writer.
    func look(_ db: Database) {
        // What cannot be read is looked at again.
        let areThere = (try? db.exists("SELECT 1 FROM mass_assignment LIMIT 1")) ?? true
        self.isUnderWay.store(areThere, ordering: .relaxed)
        if areThere { self.begun.raise() }
    }

    /// Begins the update of one device to its effective package, unless that has been done.
    ///
    /// Called in the transaction of whatever the device does or is done to its update, before that. Costs nothing while no assignment
    /// is under way.
    func follow(
        _ device: DeviceId,
        _ type: OtaPackageType,
        at now: Timestamp,
        _ db: Database,
        _ effects: inout Effects
    ) throws {
        guard self.areUnderWay else { return }
        let found = try db.row(
            """
            SELECT d.no, \(type.effective) AS package_id, m.timestamp, m.priority
            FROM device d JOIN device_profile p ON p.id = d.device_profile_id
                JOIN mass_assignment m ON m.device_profile_id = p.id AND m.type = ?
            WHERE d.id = ? AND d.\(type.followedColumn) IS NOT \(type.effective)
            """,
            [type.rawValue, device.uuid]
        )
        guard let found else { return }
        try db.assign(
            found.idIfPresent("package_id"),
            type: type,
            to: [found["no"]],
            priority: found["priority"],
            since: found.time("timestamp"),
            at: now,
            pointsAt: self.times.take(1, for: device, at: now)
        )
        effects.assignments = true
    }

    /// Whether the log is to tell that an assignment takes several steps.
    fileprivate func isNew(_ id: Int64) -> Bool {
        self.logged.withLock { logged in
            defer { logged = id }
            return logged != id
        }
    }

    /// Whether the log is to tell that an assignment is over.
    fileprivate func ended(_ id: Int64) -> Bool {
        self.logged.withLock { logged in
            guard logged == id else { return false }
            logged = nil
            return true
        }
    }
}

/// A row of `mass_assignment`.
private struct MassAssignment: Sendable {
    var id: Int64
    var profile: DeviceProfileId
    var type: OtaPackageType
    /// The package of the profile.
    var package: OtaPackageId?
    /// When the package of the profile changed.
    var time: Timestamp
    /// The last device that it went by.
    var last: Int64
    /// How urgent it is.
    var priority: Int

    /// Devices whose records do not follow the profile's package yet; the arguments are ``arguments``.
    var condition: String {
        "device_profile_id = ? AND \(self.type.ownColumn) IS NULL AND \(self.type.followedColumn) IS NOT ? AND no > ?"
    }

    var arguments: Arguments { [self.profile.uuid, self.package?.uuid, self.last] }
}

extension SQLiteStore {
    /// Carries out mass assignments until the task is cancelled.
    func runMassAssignments() async {
        while !Task.isCancelled {
            let count = self.massAssignments.begun.count
            let isDone: Void? = await self.housework.attempt(.assignments) { try await self.finishMassAssignments() }
            if isDone != nil {
                await self.massAssignments.begun.wait(since: count)
            } else {
                try? await self.clock.sleep(for: Self.progressInterval)
            }
        }
    }

    /// Carries out mass assignments until there is none, or the task is cancelled.
    func finishMassAssignments() async throws {
        while self.massAssignments.areUnderWay, try await self.carryOutMassAssignment() {
            try await self.clock.sleep(for: Self.stepPause)
        }
    }

    /// Carries out one step.
    ///
    /// - Returns: Whether there may be more.
    func carryOutMassAssignment() async throws -> Bool {
        // Found beside the writer, which looks at few rows again.
        let found = try await self.read { db in
            try db.massAssignment().map { work in (work, try db.followers(of: work)) }
        }
        guard let (work, devices) = found else {
            try await self.remove { _, effects in effects.massAssignments = true }
            return false
        }
        if self.massAssignments.isNew(work.id) { try await self.logBegin(of: work) }
        let (now, pointTime) = (self.now(), self.serverTime())
        let step: @Sendable (Database, inout Effects) throws -> Void = { db, effects in
            // Another change of the profile began it anew.
            guard let work = try db.massAssignment(work.id) else { return }
            try db.carryOut(work, on: devices, at: now, pointsAt: pointTime, &effects)
        }
        // To take a package away must succeed on a full disk, too.
        if work.package == nil { try await self.remove(step) } else { try await self.write(repeatable: true, step) }
        if devices.count < MassAssignments.stepMax, self.massAssignments.ended(work.id) {
            self.logger.info("the package of a profile is assigned to all of its devices", metadata: work.metadata)
        }
        return true
    }

    private func logBegin(of work: MassAssignment) async throws {
        let count = try await self.read { db in try db.countFollowers(of: work) }
        var metadata = work.metadata
        metadata["devices.count"] = "\(count)"
        self.logger.info("the package of a profile is being assigned to its devices", metadata: metadata)
    }
}

extension MassAssignment {
    fileprivate var metadata: Logger.Metadata {
        [
            "profile.id": "\(self.profile)", "package.type": "\(self.type.rawValue)",
            "package.id": "\(self.package?.description ?? "none")",
        ]
    }

    fileprivate init(row: Row) throws {
        self.init(
            id: row["id"],
            profile: row.id("device_profile_id"),
            type: try row.choice("type"),
            package: row.idIfPresent("package_id"),
            time: row.time("timestamp"),
            last: row["last_device"],
            priority: row["priority"]
        )
    }
}

extension Database {
    /// Begins to have the records of a profile's devices follow its package, and does the first of them.
    func beginMassAssignment(
        of type: OtaPackageType,
        in profile: DeviceProfileId,
        priority: Int,
        at now: Timestamp,
        pointsAt pointTime: Timestamp,
        _ effects: inout Effects
    ) throws {
        effects.massAssignments = true
        try self.run(
            "INSERT OR REPLACE INTO mass_assignment (device_profile_id, type, timestamp, priority) VALUES (?, ?, ?, ?)",
            [profile.uuid, type.rawValue, now.rawValue, priority]
        )
        guard let work = try self.massAssignment(self.lastInsertedRowID) else { return }
        try self.carryOut(work, on: self.followers(of: work), at: now, pointsAt: pointTime, &effects)
    }

    /// The oldest mass assignment, or that with an identifier.
    fileprivate func massAssignment(_ id: Int64? = nil) throws -> MassAssignment? {
        try self.row(
            """
            SELECT m.*, CASE m.type WHEN 'FIRMWARE' THEN p.firmware_id ELSE p.software_id END AS package_id
            FROM mass_assignment m JOIN device_profile p ON p.id = m.device_profile_id
            WHERE m.id = coalesce(?, m.id) ORDER BY m.id LIMIT 1
            """,
            [id]
        ).map(MassAssignment.init(row:))
    }

    /// The devices whose turn is next, in order.
    fileprivate func followers(of work: MassAssignment) throws -> [Int64] {
        try self.rows(
            "SELECT no FROM device WHERE \(work.condition) ORDER BY no LIMIT ?",
            work.arguments + [MassAssignments.stepMax]
        ).map { $0["no"] }
    }

    fileprivate func countFollowers(of work: MassAssignment) throws -> Int64 {
        try self.integer("SELECT count(*) FROM device WHERE \(work.condition)", work.arguments) ?? 0
    }

    /// Begins the updates of those among some devices that do not follow the package yet; these are all that are left if they are
    /// fewer than a step may be.
    fileprivate func carryOut(
        _ work: MassAssignment,
        on devices: [Int64],
        at now: Timestamp,
        pointsAt pointTime: Timestamp,
        _ effects: inout Effects
    ) throws {
        let left = try self.rows(
            "SELECT no FROM device WHERE \(work.condition) AND no IN (SELECT value FROM json_each(?)) ORDER BY no",
            work.arguments + [JSON.array(devices.map(JSON.integer)).description]
        ).map { $0["no"] as Int64 }
        if !left.isEmpty {
            try self.assign(
                work.package,
                type: work.type,
                to: left,
                priority: work.priority,
                since: work.time,
                at: now,
                pointsAt: pointTime
            )
            effects.assignments = true
        }
        if devices.count < MassAssignments.stepMax {
            effects.massAssignments = true
            try self.run("DELETE FROM mass_assignment WHERE id = ?", [work.id])
        } else {
            try self.run(
                "UPDATE mass_assignment SET last_device = ? WHERE id = ?",
                [max(work.last, devices.last ?? work.last), work.id]
            )
        }
    }

    /// How many devices mass assignments have not reached.
    func countMassAssigned() throws -> Int64 {
        try self.rows(
            """
            SELECT m.*, CASE m.type WHEN 'FIRMWARE' THEN p.firmware_id ELSE p.software_id END AS package_id
            FROM mass_assignment m JOIN device_profile p ON p.id = m.device_profile_id
            """
        ).reduce(0) { count, row in try count + self.countFollowers(of: MassAssignment(row: row)) }
    }
}

extension OtaPackageType {
    /// The column of a device with the package that its update record follows.
    var followedColumn: String { self == .firmware ? "followed_firmware" : "followed_software" }
}
