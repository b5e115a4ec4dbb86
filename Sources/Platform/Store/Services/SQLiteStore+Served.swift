import GRDB
import NodeKit
public import OTA

extension SQLiteStore {
    /// Counts bytes served to a device.
    public func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId) {
        guard self.progress.served(range, of: package, to: device) else { return }
        self.writer.writeLater { [progress, statements, now] db, effects in
            try statements.store(progress, at: now(), db, &effects)
        }
    }

    /// Stores what was counted since the last time.
    func storeProgress() async throws {
        guard self.progress.beginInterval() else { return }
        // Looked at by the writer's thread, so that a count never comes after the report that begins anew.
        try await self.write { [progress, statements, now] db, effects in
            try statements.store(progress, at: now(), db, &effects)
        }
    }

    /// Stores what a process before this one had counted when it ended early.
    func storeRecovered() async throws {
        let (counts, stored) = self.progress.recovered()
        guard !counts.isEmpty else { return self.progress.forget(stored) }
        try await self.write { [statements, now] db, effects in
            try statements.store(counts, at: now(), db, &effects)
            effects.served.add(stored)
        }
    }
}

extension DeviceStatements {
    /// Adds what was served in this attempt to what was served in those before, as another attempt begins.
    func moveServedRanges(_ device: Int64, _ type: OtaPackageType, _ db: Database) throws {
        try db.run(
            "UPDATE update_record SET \(UpdateRecord.attemptEnds) WHERE device = ? AND type = ?",
            [device, type.rawValue]
        )
    }

    func setGiven(_ package: OtaPackageId?, to device: Int64, _ type: OtaPackageType, _ db: Database) throws {
        try self.given.run(db) { arguments in
            try arguments.add(device)
            try arguments.add(type.rawValue)
            try arguments.add(package?.uuid)
        }
    }

    /// Stores what was counted for one device, so that an assignment or a report that follows finds it.
    func store(
        _ progress: ProgressCounter,
        of device: DeviceId,
        _ types: [OtaPackageType] = OtaPackageType.allCases,
        at now: Timestamp,
        _ db: Database,
        _ effects: inout Effects
    ) throws {
        for type in types {
            let counts = progress.counts(of: device, type)
            guard !counts.isEmpty else { continue }
            try self.store(counts, at: now, db, &effects)
            effects.served.add(progress.stored(counts))
        }
    }

    /// Stores all that was counted.
    func store(
        _ progress: ProgressCounter,
        at now: Timestamp,
        _ db: Database,
        _ effects: inout Effects
    ) throws {
        let (counts, half) = progress.all()
        try self.store(counts, at: now, db, &effects)
        effects.served.add(progress.stored(counts, journal: half))
    }

    /// Stores bytes that were counted.
    func store(
        _ counts: [ProgressCounter.Count],
        at now: Timestamp,
        _ db: Database,
        _ effects: inout Effects
    ) throws {
        for count in counts {
            try self.massAssignments.follow(count.device, count.type, at: now, db, &effects)
            try self.store(count, at: now, db)
        }
    }

    private func store(_ count: ProgressCounter.Count, at now: Timestamp, _ db: Database) throws {
        let found = try self.servedFacts.row(db) { arguments in
            try arguments.add(count.device.uuid)
            try arguments.add(count.type.rawValue)
        } read: { columns in
            (
                device: columns.integer(0), package: columns.identifier(1).map(OtaPackageId.init),
                state: columns.text(2).flatMap(OtaUpdateState.init(rawValue:)), progress: columns.integerIfPresent(3),
                servedTime: columns.integerIfPresent(4), earlier: columns.text(5), attempt: columns.text(6),
                given: columns.identifier(7).map(OtaPackageId.init), size: columns.integerIfPresent(8),
                queuedTime: columns.integerIfPresent(9).map(Timestamp.init(milliseconds:))
            )
        }
        guard let found else { return }
        let verdict = UpdateRules.judgeServed(
            count.package,
            at: count.time,
            target: found.package,
            state: found.state,
            queuedTime: found.queuedTime
        )
        guard verdict != .ignore else { return }
        if found.given != count.package { try self.setGiven(count.package, to: found.device, count.type, db) }
        guard verdict == .count, let state = found.state, let size = count.size ?? found.size, size > 0 else { return }
        var attempt = ServedRanges(text: found.attempt)
        attempt.formUnion(count.ranges.clamped(to: size))
        let earlier = ServedRanges(text: found.earlier)
        var all = earlier
        all.formUnion(attempt)
        let progress = UpdateRules.progress(of: state, known: found.progress, served: attempt.bytes, of: size)
        let isServed = found.servedTime != nil || all.cover(size)
        try self.served.run(db) { arguments in
            try arguments.add(progress)
            // Bytes that are fetched again are movement, too.
            try arguments.add(state.isFinal ? nil : now.rawValue)
            try arguments.add(isServed ? found.servedTime ?? now.rawValue : nil)
            try arguments.add(isServed ? nil : earlier.text)
            try arguments.add(attempt.text)
            try arguments.add(found.device)
            try arguments.add(count.type.rawValue)
        }
    }
}
