import GRDB
import NodeKit
import OTA

/// How long a store keeps what grows by itself; `nil` means for ever.
public struct Retention: Sendable, Hashable {
    /// How old an entry of a time series may get.
    ///
    /// The newest of each series is kept however old it is: it is the device's present value.
    public var timeseriesAge: Duration?
    /// How many entries a series of a device may have, at least 1.
    public var timeseriesCount: Int?
    /// How old a line of an update history may get.
    ///
    /// How a device came to its present state is kept however old it is.
    public var historyAge: Duration?

    /// Keeps everything for ever unless told otherwise.
    public init(timeseriesAge: Duration? = nil, timeseriesCount: Int? = nil, historyAge: Duration? = nil) {
        self.timeseriesAge = timeseriesAge
        self.timeseriesCount = timeseriesCount
        self.historyAge = historyAge
    }
}

extension SQLiteStore {
    /// How often old rows are looked for.
    static let retentionInterval = Duration.seconds(600)
    /// The most series or lines of history that one read looks at.
    static let lookedAtPerRead = 500
    /// The most rows that one write removes; writers of devices come in between.
    static let removedPerWrite = 500
    /// The rest after each write, so that removing old rows never takes most of the writer's time.
    static let removalPause = Duration.milliseconds(20)

    /// Removes what is older than it may be, step by step.
    ///
    /// - Returns: How many rows were removed.
    @discardableResult
    func removeOld() async throws -> Int {
        let retention = self.options.retention
        var removed = 0
        if retention.timeseriesAge != nil || retention.timeseriesCount != nil {
            let before = retention.timeseriesAge.map(self.time(before:)) ?? .min
            removed += try await self.removeOldSeries(before: before, countMax: retention.timeseriesCount)
        }
        if let age = retention.historyAge { removed += try await self.removeOldHistory(before: self.time(before: age)) }
        return removed
    }

    private func time(before age: Duration) -> Int64 {
        let (time, overflow) = self.believedTime().rawValue.subtractingReportingOverflow(age.components.seconds * 1000)
        return overflow ? .min : time
    }

    private func removeOldSeries(before time: Int64, countMax: Int?) async throws -> Int {
        var last = SeriesKey(device: .min, key: "")
        var removed = 0
        while true {
            let (found, next) = try await self.read { [last] db in
                try db.oldEntries(after: last, before: time, countMax: countMax, limit: Self.lookedAtPerRead)
            }
            var rest = found[...]
            while !rest.isEmpty {
                let step = try await self.remove { [rest] db, _ in try db.remove(rest, limit: Self.removedPerWrite) }
                rest = rest.dropFirst(step.finished)
                removed += step.removed
                try await self.clock.sleep(for: Self.removalPause)
            }
            guard let next else { return removed }
            last = next
        }
    }

    private func removeOldHistory(before time: Int64) async throws -> Int {
        var last: Int64 = 0
        var removed = 0
        while true {
            let lines = try await self.read { [last] db in
                try db.history(after: last, before: time, limit: Self.lookedAtPerRead)
            }
            let old = lines.filter(\.isRemovable).map(\.id)
            if !old.isEmpty {
                let ids = JSON.array(old.map(JSON.integer)).description
                try await self.remove { db, _ in
                    try db.run("DELETE FROM update_history WHERE id IN (SELECT value FROM json_each(?))", [ids])
                }
                removed += old.count
                try await self.clock.sleep(for: Self.removalPause)
            }
            // Lines are appended as time goes by, so behind a whole stretch of young ones there are no old ones.
            guard lines.count == Self.lookedAtPerRead, lines.contains(where: \.isOld), let end = lines.last else {
                return removed
            }
            last = end.id
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
