import GRDB
import NodeKit
import OTA

/// A kind of rows that the store removes by itself.
struct Removal: Sendable {
    /// What it is called.
    let work: Housework.Work
    /// How often it is looked for.
    let interval: Duration
    /// Removes what there is, step by step, and returns how many rows that were.
    let carryOut: @Sendable (SQLiteStore) async throws -> Int

    /// All that is removed, and how often it is looked for; ``Retention`` says how long it is kept.
    static let all = [
        Removal(work: .released, interval: SQLiteStore.progressInterval) { try await $0.removeReleased() },
        Removal(work: .timeseries, interval: SQLiteStore.retentionInterval) { try await $0.removeOldSeries() },
        Removal(work: .history, interval: SQLiteStore.retentionInterval) { try await $0.removeOldHistory() },
        Removal(work: .audit, interval: SQLiteStore.retentionInterval) { try await $0.removeOldAuditEntries() },
    ]
}

extension SQLiteStore {
    /// How often old rows are looked for.
    static let retentionInterval = Duration.seconds(600)
    /// The most series or lines of history that one read looks at.
    static let lookedAtPerRead = 500
    /// The most rows that one write removes; writers of devices come in between.
    static let removedPerWrite = 500
    /// The rest after each write of many rows, so that they never take most of the writer's time.
    static let stepPause = Duration.milliseconds(20)

    /// Removes all that is older, or more, than it may be.
    ///
    /// - Returns: How many rows were removed.
    @discardableResult
    func removeOld() async throws -> Int {
        var removed = 0
        for removal in Removal.all { removed += try await removal.carryOut(self) }
        return removed
    }

    /// Removes rows step by step, with a rest after each.
    ///
    /// - Parameters:
    ///   - start: Where to begin.
    ///   - step: Removes a bounded number of rows from a place on; returns how many, and where to go on, if there may be more.
    /// - Returns: How many rows were removed.
    /// - Throws: What `step` throws, and `CancellationError`.
    func removeInSteps<Place>(
        from start: Place,
        _ step: (Place) async throws -> (removed: Int, next: Place?)
    ) async throws -> Int {
        var (removed, place) = (0, Optional(start))
        while let current = place {
            let (count, next) = try await step(current)
            removed += count
            place = next
            if count > 0 { try await self.clock.sleep(for: Self.stepPause) }
        }
        return removed
    }

    fileprivate func removeReleased() async throws -> Int {
        try await self.removeInSteps(from: ()) { _ in
            try await self.blobs.removeReleased()
                ? (removed: PackageBlobs.rowsPerStep, next: ()) : (removed: 0, next: nil)
        }
    }

    private func time(before age: Duration) -> Int64 {
        let (time, overflow) = self.believedTime().rawValue.subtractingReportingOverflow(age.components.seconds * 1000)
        return overflow ? .min : time
    }

    fileprivate func removeOldSeries() async throws -> Int {
        let retention = self.options.retention
        guard retention.timeseriesAge != nil || retention.timeseriesCount != nil else { return 0 }
        let before = retention.timeseriesAge.map(self.time(before:)) ?? .min
        return try await self.removeInSteps(from: SeriesKey(device: .min, key: "")) { last in
            let (found, next) = try await self.read { db in
                try db.oldEntries(
                    after: last,
                    before: before,
                    countMax: retention.timeseriesCount,
                    limit: Self.lookedAtPerRead
                )
            }
            guard !found.isEmpty else { return (0, next) }
            let step = try await self.remove { db, _ in try db.remove(found[...], limit: Self.removedPerWrite) }
            if step.finished == found.count { return (step.removed, next) }
            // The series that is not finished is looked at again.
            return (step.removed, step.finished > 0 ? found[step.finished - 1].series : last)
        }
    }

    fileprivate func removeOldHistory() async throws -> Int {
        guard let age = self.options.retention.historyAge else { return 0 }
        let before = self.time(before: age)
        return try await self.removeInSteps(from: Int64(0)) { last in
            let lines = try await self.read { db in
                try db.history(after: last, before: before, limit: Self.lookedAtPerRead)
            }
            let old = lines.filter(\.isRemovable).map(\.id)
            if !old.isEmpty {
                let ids = JSON.array(old.map(JSON.integer)).description
                try await self.remove { db, _ in
                    try db.run("DELETE FROM update_history WHERE id IN (SELECT value FROM json_each(?))", [ids])
                }
            }
            // Lines are appended as time goes by, so behind a whole stretch of young ones there are no old ones.
            let mayBeMore = lines.count == Self.lookedAtPerRead && lines.contains(where: \.isOld)
            return (old.count, mayBeMore ? lines.last?.id : nil)
        }
    }

    fileprivate func removeOldAuditEntries() async throws -> Int {
        try await self.removeInSteps(from: ()) { _ in
            let count = try await self.removeAuditEntries(
                beyond: self.options.retention,
                countMax: Self.removedPerWrite
            )
            return (count, count > 0 ? () : nil)
        }
    }
}

/// What names a time series.
private struct SeriesKey: Sendable, Hashable {
    var device: Int64
    var key: String
}

/// Entries of a series that are to go: those before a time.
private struct OldEntries: Sendable {
    var series: SeriesKey
    var before: Int64
}

extension Database {
    /// Looks at some series, each found by a search beyond the one before.
    ///
    /// - Returns: Those with entries to remove, and the last that was looked at; `nil` if there are no more.
    fileprivate func oldEntries(
        after last: SeriesKey,
        before time: Int64,
        countMax: Int?,
        limit: Int
    ) throws -> (found: [OldEntries], next: SeriesKey?) {
        var found: [OldEntries] = []
        var last = last
        for _ in 0..<limit {
            guard
                let row = try self.row(
                    "SELECT device, key FROM ts WHERE (device, key) > (?, ?) ORDER BY device, key LIMIT 1",
                    [last.device, last.key]
                )
            else { return (found, nil) }
            last = SeriesKey(device: row["device"], key: row["key"])
            let arguments: Arguments = [last.device, last.key]
            // Points further ahead are left from when the clock was wrong, or are forecasts: they neither count nor go.
            guard
                let newest = try self.integer("SELECT \(LatestState.newestTime(of: "?1", "?2"))", arguments),
                let oldest = try self.integer("SELECT min(ts) FROM ts WHERE device = ? AND key = ?", arguments)
            else { continue }
            var before = time
            if let countMax,
                let first = try self.integer(
                    """
                    SELECT ts FROM ts WHERE device = ? AND key = ? AND ts <= latest_time_max() ORDER BY ts DESC LIMIT 1 OFFSET ?
                    """,
                    arguments + [max(1, countMax) - 1]
                )
            {
                before = max(before, first)
            }
            before = min(before, newest)
            if oldest < before { found.append(OldEntries(series: last, before: before)) }
        }
        return (found, last)
    }

    /// Removes entries, at most so many.
    ///
    /// - Returns: How many series have none left to remove, and how many entries were removed.
    fileprivate func remove(
        _ entries: ArraySlice<OldEntries>,
        limit: Int
    ) throws -> (finished: Int, removed: Int) {
        var finished = 0
        var removed = 0
        for old in entries {
            try self.run(
                """
                DELETE FROM ts WHERE device = ?1 AND key = ?2 AND ts IN
                    (SELECT ts FROM ts WHERE device = ?1 AND key = ?2 AND ts < ?3 ORDER BY ts LIMIT ?4)
                """,
                [old.series.device, old.series.key, old.before, limit - removed]
            )
            removed += self.changesCount
            if removed >= limit { break }
            finished += 1
        }
        return (finished, removed)
    }

    /// Lines of update histories in the order in which they were appended.
    fileprivate func history(
        after last: Int64,
        before time: Int64,
        limit: Int
    ) throws -> [(id: Int64, isOld: Bool, isRemovable: Bool)] {
        try self.rows(
            """
            SELECT h.id, h.timestamp < ?2 AS is_old, h.timestamp < ?2 AND NOT (h.accepted = 1 AND EXISTS (
                SELECT 1 FROM update_record r WHERE r.device = h.device AND r.type = h.type AND r.title = h.title
                    AND r.version = h.version)) AS is_removable
            FROM update_history h WHERE h.id > ?1 ORDER BY h.id LIMIT ?3
            """,
            [last, time, limit]
        ).map { row in (row["id"], row["is_old"], row["is_removable"]) }
    }
}
