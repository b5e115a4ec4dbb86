import GRDB
public import NodeKit
public import OTA

extension SQLiteStore: TimeseriesService {
    /// Writes points; those without a time get `at`.
    public func saveTimeseries(of device: DeviceId, _ points: [TelemetryPoint], at time: Timestamp) async throws {
        try await self.beginSavingTimeseries(of: device, points, at: time).stored()
    }

    /// Gives points their times: those of the device's own, unless they lie too far ahead, else times of the host.
    public func settleTimes(
        of points: inout [TelemetryPoint],
        reportedBy device: DeviceId,
        at arrival: Timestamp
    ) -> Timestamp {
        var ahead: (count: Int, most: Timestamp) = (0, arrival)
        for index in points.indices {
            guard let time = points[index].timestamp, self.isTooFarAhead(time, of: arrival) else { continue }
            ahead = (ahead.count + 1, max(ahead.most, time))
            points[index].timestamp = nil
        }
        if ahead.count > 0 {
            let (distance, overflow) = ahead.most.rawValue.subtractingReportingOverflow(arrival.rawValue)
            self.pointsAhead.add(
                ahead.count,
                of: device,
                ahead: .milliseconds(overflow ? .max : distance),
                uptime: self.uptime(),
                self.logger
            )
        }
        // Points that are too many keep none, and are refused when they are to be saved.
        return (try? self.giveTimes(to: &points, of: device, at: arrival)) ?? arrival
    }

    /// Gives times of the host to points without one.
    ///
    /// - Returns: The first of these times; `now` if all points have one.
    /// - Throws: ``NodeError`` if they are too many.
    @discardableResult
    private func giveTimes(
        to points: inout [TelemetryPoint],
        of device: DeviceId,
        at now: Timestamp
    ) throws -> Timestamp {
        let count = points.count { $0.timestamp == nil }
        guard count > 0 else { return now }
        guard let first = self.times.takeForReport(count, of: device, at: now) else {
            throw ValueRules.tooManyPoints(count, aheadMax: ServerTimes.reportAheadMax)
        }
        var next = first
        for index in points.indices where points[index].timestamp == nil {
            points[index].timestamp = next
            next.rawValue &+= 1
        }
        return first
    }

    /// Begins to write points; those without a time get times of the host from `at` on.
    public func beginSavingTimeseries(
        of device: DeviceId,
        _ points: [TelemetryPoint],
        at time: Timestamp
    ) throws -> PendingWrite {
        for point in points { try ValueRules.checkKeys(point.values) }
        guard points.contains(where: { !$0.values.withoutNulls.isEmpty }) else { return .nothing }
        var points = points
        try self.giveTimes(to: &points, of: device, at: time)
        return self.writer.begin { [points, numbers, statements] db, _ in
            let number = try numbers.number(of: device, db)
            for point in points {
                for (key, value) in point.values.members {
                    try statements.insertPoint(number, key, point.timestamp ?? time, value, db)
                }
            }
        }
    }

    /// The newest entry of each series, those named or all, sorted by key.
    public func latestTimeseries(of device: DeviceId, keys: [String]?) async throws -> [TimeseriesEntry] {
        try await self.read { db in
            guard let number = try db.integer("SELECT no FROM device WHERE id = ?", [device.uuid]) else { return [] }
            // Each name is found by a search beyond the one before, so the cost is that of the names and not of the points.
            let names = try keys.map { Set($0.map(\.exact)).map(\.wrappedValue).sorted() } ?? Self.names(of: number, db)
            return try names.compactMap { key in
                try db.row(
                    """
                    SELECT key, ts, kind, value FROM ts WHERE device = ?1 AND key = ?2 AND ts = \(LatestState.newestTime(of: "?1", "?2"))
                    """,
                    [number, key]
                ).map(TimeseriesEntry.init(row:))
            }
        }
    }

    /// Entries of one series within a span of time, at most `limit`.
    public func timeseries(
        of device: DeviceId,
        key: String,
        from start: Timestamp,
        to end: Timestamp,
        limit: Int,
        ascending: Bool
    ) async throws -> [TimeseriesEntry] {
        try await self.read { db in
            try db.rows(
                """
                SELECT key, ts, kind, value FROM ts
                WHERE device = (SELECT no FROM device WHERE id = ?) AND key = ? AND ts BETWEEN ? AND ?
                ORDER BY ts \(ascending ? "ASC" : "DESC") LIMIT ?
                """,
                [device.uuid, key, start.rawValue, end.rawValue, max(0, limit)]
            ).map(TimeseriesEntry.init(row:))
        }
    }

    /// Removes entries of the named series, those within a range of time or all; the newest that remains becomes the latest.
    public func deleteTimeseries(of device: DeviceId, keys: [String], in range: ClosedRange<Timestamp>?) async throws {
        guard !keys.isEmpty else { return }
        let start = range?.lowerBound.rawValue ?? .min
        let end = range?.upperBound.rawValue ?? .max
        // In one transaction, unless there are very many: then the oldest of the first series go first.
        let delete: @Sendable (Database, inout Effects) throws -> Bool = { db, _ in
            let number = try db.number(of: device)
            var left = Self.deletedValuesMax
            for key in keys where left > 0 {
                try db.run(
                    """
                    DELETE FROM ts WHERE device = ?1 AND key = ?2 AND ts IN (SELECT ts FROM ts
                        WHERE device = ?1 AND key = ?2 AND ts BETWEEN ?3 AND ?4 ORDER BY ts LIMIT ?5)
                    """,
                    [number, key, start, end, left]
                )
                left -= db.changesCount
            }
            return left > 0
        }
        while try await !self.remove(delete) {}
    }

    private static func names(of number: Int64, _ db: Database) throws -> [String] {
        var names: [String] = []
        while let row = try db.row(
            "SELECT key FROM ts WHERE device = ? AND key > ? ORDER BY key LIMIT 1",
            [number, names.last ?? ""]
        ) {
            names.append(row["key"])
        }
        return names
    }
}

extension TimeseriesEntry {
    fileprivate init(row: Row) throws {
        self.init(key: row["key"], timestamp: row.time("ts"), value: try JSON(columnsOf: row))
    }
}

extension DeviceStatements {
    /// Adds or replaces one value of a time series; `null` is left out.
    func insertPoint(_ device: Int64, _ key: String, _ time: Timestamp, _ value: JSON, _ db: Database) throws {
        guard value.kind != nil else { return }
        try self.point.run(db) { arguments in
            try arguments.add(device)
            try arguments.add(key)
            try arguments.add(time.rawValue)
            try arguments.add(kindAndValueOf: value)
        }
        guard LatestState.keys.contains(key) else { return }
        try self.latestState.run(db) { arguments in
            try arguments.add(key)
            try arguments.add(device)
            try arguments.add(time.rawValue)
            try arguments.add(kindAndValueOf: value)
        }
    }
}
