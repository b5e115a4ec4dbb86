import GRDB
import Logging
import NodeKit
import OTA
import Synchronization

extension SQLiteStore {
    /// The time of day, later than any time that a point of this device has by the host's clock; of any device if none is named.
    ///
    /// For the points that the host itself adds to the series of devices: what they report never takes their place.
    func serverTime(for device: DeviceId? = nil) -> Timestamp {
        guard let device else { return self.times.takeForAll(at: self.now()) }
        return self.times.take(1, for: device, at: self.now())
    }

    /// A time that a device reported, or now if it lies further ahead than devices may be.
    func plausible(_ time: Timestamp, at now: Timestamp) -> Timestamp {
        self.isTooFarAhead(time, of: now) ? now : time
    }

    func isTooFarAhead(_ time: Timestamp, of now: Timestamp) -> Bool {
        ValueRules.isTooFarAhead(time, of: now, max: self.options.timestampAheadMax)
    }

    /// The time of day where something is removed for good; see ``TimeOfDay``.
    func believedTime() -> Timestamp {
        self.lookAtClock()
        return self.timeOfDay.withLock(\.believed)
    }

    /// Notices when the clock was set, and says so in the log.
    private func lookAtClock() {
        let now = self.now()
        if let leap = self.timeOfDay.withLock({ $0.look(now, uptime: self.uptime()) }) {
            self.logger.warning(
                "the clock leapt ahead; nothing is removed for its age before that has lasted for a day",
                metadata: ["clock.seconds": "\(leap.components.seconds)"]
            )
        }
        self.clockLeap.withLock { $0.look(now, uptime: self.uptime()) }
        guard let step = self.latestSeen.step(backTo: now) else { return }
        self.logger.warning("the clock was set back", metadata: ["clock.seconds": "\(step.components.seconds)"])
    }

    /// Looks whether the clock was set back, and if so brings times that are stored back to where it is now.
    func followClock() async throws {
        self.lookAtClock()
        guard let step = self.latestSeen.lastStep else { return }
        let now = self.now()
        let count = try await self.write { db, effects in
            effects.assignments = true
            return try db.bringBackTimes(to: now)
        }
        self.queues.signalAll()
        self.latestSeen.followed(step)
        self.noteBroughtBack(count)
    }

    /// The arguments of ``ClockLeap/isDue(_:)`` for a time that is given by the clock.
    func due(_ time: Timestamp) -> Arguments { Arguments(self.clockLeap.withLock { $0.arguments(time) }) }

    func noteBroughtBack(_ count: Int) {
        guard count > 0 else { return }
        self.logger.warning(
            "stored times lay in the future, as the clock had been ahead, and count as now",
            metadata: ["rows.count": "\(count)"]
        )
    }

    /// Stores what must be known of the clock when the host starts again.
    func storeTimeOfDay() async throws {
        self.lookAtClock()
        let time = self.timeOfDay.withLock { $0 }
        try await self.write { [times] db, _ in try db.store(time, latestGiven: times.noteLatest()) }
    }

    /// The time that passes by a clock from now on.
    static func uptime<C: Clock<Duration>>(by clock: C) -> @Sendable () -> Duration {
        let start = clock.now
        return { start.duration(to: clock.now) }
    }

    /// The SQL function that says up to which time a point may be the newest of its series.
    ///
    /// Points further ahead are left from when the clock was wrong, or were written as forecasts.
    static func latestTimeMax(_ now: @escaping @Sendable () -> Timestamp, ahead: Duration?) -> DatabaseFunction {
        // Pure within a statement, which is all that SQLite asks for (sqlite.org/deterministic.html).
        DatabaseFunction("latest_time_max", argumentCount: 0, pure: true) { _ in
            ahead.map { now().adding($0).rawValue } ?? Int64.max
        }
    }
}

extension Database {
    /// What was known of the clock when the host ran last.
    func timeOfDay() throws -> (believed: Timestamp, doubted: Int64, latestGiven: Timestamp?)? {
        try self.row("SELECT believed, doubted, latest_given FROM time_of_day").map { row in
            (
                row.time("believed"), row["doubted"],
                (row["latest_given"] as Int64?).map(Timestamp.init(milliseconds:))
            )
        }
    }

    fileprivate func store(_ time: TimeOfDay, latestGiven: Timestamp?) throws {
        try self.run(
            "INSERT OR REPLACE INTO time_of_day (id, believed, doubted, latest_given) VALUES (1, ?, ?, ?)",
            [time.believed.rawValue, time.doubted, latestGiven?.rawValue]
        )
    }

    /// Stores the latest time that was given to a point, with the points.
    func store(latestGiven: Timestamp, at now: Timestamp) throws {
        try self.run(
            """
            INSERT INTO time_of_day (id, believed, doubted, latest_given) VALUES (1, ?, 0, ?)
            ON CONFLICT (id) DO UPDATE SET latest_given = excluded.latest_given
            """,
            [now.rawValue, latestGiven.rawValue]
        )
    }

    /// Brings times of the host's own that lie in the future back to now.
    ///
    /// They were stored when the clock was ahead, and time-outs, retries and calls would wait until it gets there. What is to happen
    /// later keeps its distance.
    ///
    /// - Returns: How many rows were changed.
    func bringBackTimes(to now: Timestamp) throws -> Int {
        let limit = now.adding(Timestamp.aheadMax).rawValue
        var count = 0
        let times = OtaUpdateState.allCases.map { "\($0.rawValue.lowercased())_time" }
        try self.run(
            """
            UPDATE update_record SET active_time = min(active_time, ?1),
                retry_time = min(active_time, ?1) + max(0, retry_time - active_time),
                \(times.map { "\($0) = min(\($0), ?1)" }.joined(separator: ", "))
            WHERE active_time > ?2 OR queued_time > ?2
            """,
            [now.rawValue, limit]
        )
        count += self.changesCount
        try self.run(
            """
            UPDATE rpc SET expiration_time = ?1 + max(0, expiration_time - created_time), created_time = ?1
            WHERE is_over = 0 AND created_time > ?2
            """,
            [now.rawValue, limit]
        )
        count += self.changesCount
        // What waits is tried once more, and may be told later again; whether its time was meant so cannot be seen.
        for (table, since) in [("message_queue", "since"), ("assignment", "timestamp")] {
            try self.run("UPDATE \(table) SET \(since) = ?1 WHERE \(since) > ?1", [now.rawValue])
            count += self.changesCount
            try self.run("UPDATE \(table) SET due = ?1 WHERE due > ?1", [now.rawValue])
        }
        return count
    }
}

/// Counts points whose `ts` lay too far ahead, and says so in the log now and then.
final class PointsAhead: Sendable {
    /// The least time between two lines in the log.
    static let logInterval = Duration.seconds(60)

    private struct State {
        var count: UInt64 = 0
        var logged: (time: Duration, count: UInt64)?
    }

    private let state = Mutex(State())

    /// How many there were.
    var count: UInt64 { self.state.withLock(\.count) }

    /// A device reported some.
    func add(_ count: Int, of device: DeviceId, ahead: Duration, uptime: Duration, _ logger: Logger) {
        let newCount: UInt64? = self.state.withLock { state in
            state.count += UInt64(count)
            if let logged = state.logged, uptime - logged.time < Self.logInterval { return nil }
            defer { state.logged = (uptime, state.count) }
            return state.count - (state.logged?.count ?? 0)
        }
        guard let newCount else { return }
        logger.warning(
            "a device reports times too far ahead, which are stored as now; set the device's clock, or raise 'timeseries.ahead.seconds'",
            metadata: [
                "device.id": "\(device)", "device.ahead.seconds": "\(ahead.components.seconds)",
                "points.count": "\(newCount)",
            ]
        )
    }
}
