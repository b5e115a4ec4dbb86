import Dispatch
import GRDB
public import NodeKit
import OTA
import Synchronization

/// What the writer counts about itself.
final class CommitCounters: Sendable {
    private let commits = Atomic<Int64>(0)
    private let writes = Atomic<Int64>(0)
    private let failures = Atomic<Int64>(0)
    private let nanoseconds = Atomic<Int64>(0)

    /// A transaction with some writes has ended.
    func ended(since start: DispatchTime, writes: Int, isCommitted: Bool) {
        self.commits.wrappingAdd(1, ordering: .relaxed)
        self.writes.wrappingAdd(Int64(writes), ordering: .relaxed)
        if !isCommitted { self.failures.wrappingAdd(1, ordering: .relaxed) }
        let duration = DispatchTime.now().uptimeNanoseconds &- start.uptimeNanoseconds
        self.nanoseconds.wrappingAdd(Int64(clamping: duration), ordering: .relaxed)
    }

    fileprivate func families(waiting: Int) -> [MetricFamily] {
        func value(_ number: borrowing Atomic<Int64>) -> Double { Double(number.load(ordering: .relaxed)) }
        return [
            MetricFamily(
                "windlass_store_waiting_writes",
                .gauge,
                "Writes that wait for the disk.",
                [MetricSample(value: Double(waiting))]
            ),
            MetricFamily(
                "windlass_store_writes_total",
                .counter,
                "Writes that the store was given.",
                [MetricSample(value: value(self.writes))]
            ),
            MetricFamily(
                "windlass_store_commit_seconds",
                .summary,
                "Time of transactions, each with all writes that waited.",
                [
                    MetricSample(suffix: "_sum", value: value(self.nanoseconds) / 1e9),
                    MetricSample(suffix: "_count", value: value(self.commits)),
                ]
            ),
            MetricFamily(
                "windlass_store_failed_commits_total",
                .counter,
                "Transactions that were undone because the disk or the database failed.",
                [MetricSample(value: value(self.failures))]
            ),
        ]
    }
}

/// What was counted in the tables a moment ago: counting a large fleet for each of several watchers would be waste.
final class TableCounts: Sendable {
    /// How old counts may be.
    static let ageMax = Duration.seconds(5)

    private let known = Mutex<(time: Duration, families: [MetricFamily])?>(nil)

    /// What was counted, by a clock that says `now`.
    fileprivate func families(
        at now: Duration,
        _ count: () async throws -> [MetricFamily]
    ) async rethrows -> [MetricFamily] {
        if let known = self.known.withLock({ $0 }), now - known.time < Self.ageMax { return known.families }
        let families = try await count()
        self.known.withLock { $0 = (now, families) }
        return families
    }
}

extension SQLiteStore {
    /// The store's numbers: its writer, its tables, and the updates by state.
    public func metrics() async throws -> [MetricFamily] {
        let counted = try await self.tableCounts.families(at: self.uptime()) {
            let now = self.now()
            return try await self.read { db in try Self.count(db, at: now) }
        }
        let ahead = MetricFamily(
            "windlass_store_points_ahead_total",
            .counter,
            "Points of time series whose ts lay too far ahead and that were stored as now.",
            [MetricSample(value: Double(self.pointsAhead.count))]
        )
        return self.writer.counters.families(waiting: self.writer.waitingCount) + [ahead] + counted
    }

    /// Whether so much of the disk is free as uploads must leave; what is not known is taken to be.
    public var hasRoom: Bool { self.room?.has(0) ?? true }

    /// Whether the store answers.
    public func isReady() async -> Bool {
        (try? await self.read { db in try db.integer("SELECT 1") }) != nil && !self.writer.isClosed
    }

    private static func count(_ db: Database, at now: Timestamp) throws -> [MetricFamily] {
        func table(_ name: String, _ summary: String, _ table: String) throws -> MetricFamily {
            let count = try db.integer("SELECT count(*) FROM \(table)") ?? 0
            return MetricFamily(name, .gauge, summary, [MetricSample(value: Double(count))])
        }
        var updates: [String: [String: Int64]] = [:]
        for row in try db.rows("SELECT type, state, count(*) AS count FROM update_record GROUP BY type, state") {
            updates[row["type"], default: [:]][row["state"]] = row["count"]
        }
        // States that no device is in are shown as well, so that a graph has no gaps.
        let samples = OtaPackageType.allCases.flatMap { type in
            let known = OtaUpdateState.allCases.map(\.rawValue)
            let others = (updates[type.rawValue] ?? [:]).keys.filter { !known.contains($0) }.sorted()
            return (known + others).map { state in
                MetricSample(
                    labels: [MetricSample.Label("type", type.rawValue), MetricSample.Label("state", state)],
                    value: Double(updates[type.rawValue]?[state] ?? 0)
                )
            }
        }
        let massAssigned = try db.countMassAssigned()
        let queued = try db.integer(
            "SELECT count(*) FROM message_queue WHERE key IS NOT NULL AND key IN ('FIRMWARE', 'SOFTWARE')"
        )
        let stored = try db.integer("SELECT count(*) FROM assignment")
        let held = try db.rows(
            """
            SELECT type, hold_code, count(*) AS count FROM update_record
            WHERE hold_code IS NOT NULL AND state = 'QUEUED' GROUP BY type, hold_code ORDER BY type, hold_code
            """
        ).map { row in
            MetricSample(
                labels: [MetricSample.Label("type", row["type"]), MetricSample.Label("code", row["hold_code"])],
                value: Double(row["count"] as Int64)
            )
        }
        return [
            try table("windlass_devices", "Devices there are.", "device"),
            try table("windlass_packages", "Packages there are.", "ota_package"),
            MetricFamily(
                "windlass_assigning_devices",
                .gauge,
                "Devices that an assignment to their whole profile has not reached yet.",
                [MetricSample(value: Double(massAssigned))]
            ),
            MetricFamily(
                "windlass_waiting_assignments",
                .gauge,
                "Assignments of which devices were not notified yet, in queues and before them.",
                [MetricSample(value: Double(massAssigned + (queued ?? 0) + (stored ?? 0)))]
            ),
            MetricFamily("windlass_updates", .gauge, "Update records by package type and state.", samples),
            MetricFamily(
                "windlass_held_updates",
                .gauge,
                "QUEUED updates whose devices were not notified, by package type and the code of the reason.",
                held
            ),
        ] + QueueMetrics.families(of: try db.waitingQueues(), at: now)
    }
}
