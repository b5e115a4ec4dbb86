import NodeKit
import OTA
import Synchronization
import Testing

@testable import Store

/// A time of day that changes only when a test sets it.
private final class SetTime: Sendable {
    private let time = Mutex(Timestamp(milliseconds: 1_700_000_000_000))
    var now: Timestamp { self.time.withLock { $0 } }
    func move(_ duration: Duration) { self.time.withLock { $0 = $0.adding(duration) } }
}

private let year = Duration.seconds(365 * 86_400)

/// A store whose clock a test sets, with a device.
private final class Clocked {
    let time: SetTime
    private let folder: String
    private let options: SQLiteStore.Options
    private(set) var store: SQLiteStore
    private(set) var device: Device

    private init(_ folder: String, _ options: SQLiteStore.Options, _ time: SetTime) async throws {
        self.folder = folder
        self.options = options
        self.time = time
        self.store = try await Self.open(folder, options, time)
        let profile = try await self.store.saveDeviceProfile(DeviceProfile(name: "profile"))
        self.device = try await self.store.saveDevice(Device(name: "d", deviceProfileId: profile.id), accessToken: nil)
    }

    private static func open(
        _ folder: String,
        _ options: SQLiteStore.Options,
        _ time: SetTime
    ) async throws -> SQLiteStore {
        try await SQLiteStore.open(
            directory: folder,
            sessions: DeviceSessions(),
            options: options,
            now: { time.now }
        )
    }

    static func with(
        _ options: SQLiteStore.Options = SQLiteStore.Options(),
        _ body: (Clocked) async throws -> Void
    ) async throws {
        try await StoreFixture.withFolder { folder in
            let clocked = try await Clocked("\(folder)/data", options, SetTime())
            do {
                try await body(clocked)
                #expect(try await clocked.store.check() == [])
            } catch {
                await clocked.store.close()
                throw error
            }
            await clocked.store.close()
        }
    }

    func restart() async throws {
        await self.store.close()
        self.store = try await Self.open(self.folder, self.options, self.time)
    }

    /// Assigns a package of this version.
    @discardableResult
    func assign(_ version: String) async throws -> OtaPackage {
        let package = try await self.store.saveOtaPackage(
            OtaPackage(
                deviceProfileId: self.device.deviceProfileId,
                type: .firmware,
                title: "fw",
                version: version,
                url: "http://x"
            )
        )
        self.device.firmwareId = package.id
        self.device = try await self.store.saveDevice(self.device, accessToken: nil)
        return package
    }

    /// Stores what the device reports now without a time.
    func report(_ values: [JSON.Object]) async throws {
        let points = values.map { TelemetryPoint(timestamp: nil, values: $0) }
        try await self.store.saveTimeseries(of: self.device.id, points, at: self.time.now)
    }

    func entries(_ key: String) async throws -> [TimeseriesEntry] {
        try await self.store.timeseries(
            of: self.device.id,
            key: key,
            from: Timestamp(milliseconds: .min),
            to: Timestamp(milliseconds: .max),
            limit: 10_000,
            ascending: true
        )
    }

    func latest(_ key: String) async throws -> JSON? {
        try await self.store.latestTimeseries(of: self.device.id, keys: [key]).first?.value
    }

    /// The newest value as a query over devices answers it.
    func queried(_ key: String) async throws -> JSON? {
        let key = EntityKey(.timeSeries, key)
        var query = EntityQuery(filter: .all)
        query.answered = [key]
        return try await self.store.findEntities(query).data.first?.values[key]?.value
    }
}

@Suite struct ServerTimeTests {
    @Test("reports of one moment without a time are all kept", .bug(id: "D1.4"), arguments: [false, true])
    func moment(isSideBySide: Bool) async throws {
        try await Clocked.with { clocked in
            let (store, device, now) = (clocked.store, clocked.device.id, clocked.time.now)
            try await withThrowingDiscardingTaskGroup { group in
                for number in 0..<300 {
                    let point = TelemetryPoint(timestamp: nil, values: ["n": .integer(Int64(number)), "m": 1])
                    if isSideBySide {
                        group.addTask { try await store.saveTimeseries(of: device, [point], at: now) }
                    } else {
                        try await store.saveTimeseries(of: device, [point], at: now)
                    }
                }
            }
            let entries = try await clocked.entries("n")
            #expect(Set(entries.map(\.value)) == Set((0..<300).map { .integer($0) }))
            #expect(entries.first?.timestamp == now)
            // One time for all keys of a report.
            #expect(try await clocked.entries("m").map(\.timestamp) == entries.map(\.timestamp))
        }
    }

    @Test("each element of an array without a time is a report of its own, in order", .bug(id: "D1.4"))
    func array() async throws {
        try await Clocked.with { clocked in
            for _ in 0..<2 { try await clocked.report([["n": 1], ["n": 2, "m": 2], ["n": 3]]) }
            #expect(try await clocked.entries("n").map(\.value) == [1, 2, 3, 1, 2, 3])
            #expect(try await clocked.entries("m").count == 2)
            #expect(try await clocked.latest("n") == 3)
        }
    }

    @Test("what the host notes about an update never takes the place of a report", .bug(id: "D1.4"))
    func updates() async throws {
        try await Clocked.with { clocked in
            try await clocked.report([["fw_state": "IDLE"]])
            let package = try await clocked.assign("1")
            try await clocked.report([["fw_state": "IDLE"]])
            _ = try await clocked.store.initiate(
                package.id,
                of: clocked.device.id,
                type: .firmware,
                attributes: package.sharedAttributes,
                obsolete: [],
                generation: nil,
                at: clocked.time.now
            )
            try await clocked.report([["fw_state": "DOWNLOADING"]])
            for command in [UpdateCommand.cancel, .retry, .resend(includesUpdated: false)] {
                _ = try await clocked.store.carryOut(command, on: UpdateFilter(), by: "me")
                try await clocked.report([["fw_state": "IDLE"]])
            }
            let states = try await clocked.entries("fw_state").map(\.value.text)
            #expect(
                states == [
                    "IDLE", "QUEUED", "IDLE", "INITIATED", "DOWNLOADING", "FAILED", "IDLE", "QUEUED", "IDLE", "IDLE",
                ]
            )
        }
    }

    @Test("times go on after a restart", .bug(id: "D1.4"))
    func restart() async throws {
        try await Clocked.with { clocked in
            for number in 0..<3 {
                try await clocked.report([["n": .integer(Int64(number))], ["n": 7]])
                try await clocked.restart()
            }
            #expect(try await clocked.entries("n").map(\.value) == [0, 7, 1, 7, 2, 7])
        }
    }

    private let start = Timestamp(milliseconds: 1_000_000_000)
    private let device = DeviceId.random()

    @Test("devices have times apart from each other, and one for all is later than theirs", .bug(id: "D1.4"))
    func apart() {
        let times = ServerTimes(after: nil)
        #expect(times.take(5, for: self.device, at: self.start) == self.start)
        #expect(times.take(1, for: .random(), at: self.start) == self.start)
        #expect(times.take(1, for: self.device, at: self.start) == self.start.adding(.milliseconds(5)))
        #expect(times.takeForAll(at: self.start) == self.start.adding(.milliseconds(6)))
        #expect(times.take(1, for: .random(), at: self.start) == self.start.adding(.milliseconds(7)))
        let later = self.start.adding(.seconds(1))
        #expect(times.take(1, for: self.device, at: later) == later)
        // A clock that was read before the others were asked.
        #expect(times.take(1, for: self.device, at: self.start) == later.adding(.milliseconds(1)))
    }

    @Test("a clock that is set back a little keeps the order, one set back far starts over", .bug(id: "D1.4"))
    func setBack() {
        let times = ServerTimes(after: nil)
        let limit = ServerTimes.aheadMax
        _ = times.take(1, for: self.device, at: self.start)
        let little = self.start.adding(.milliseconds(-limit))
        #expect(times.take(1, for: self.device, at: little) == self.start.adding(.milliseconds(1)))
        let far = little.adding(.seconds(-1))
        #expect(times.take(1, for: self.device, at: far) == far)
        #expect(times.take(1, for: self.device, at: far) == far.adding(.milliseconds(1)))
        #expect(times.takeForAll(at: far) == far.adding(.milliseconds(2)))
        #expect(times.take(1, for: self.device, at: far) == far.adding(.milliseconds(3)))
    }

    @Test("times that run ahead are stored with the points, and those that do not cost no statement", .bug(id: "D1.4"))
    func storedAhead() async throws {
        try await Clocked.with { clocked in
            func latestGiven() async throws -> Int64? {
                try await clocked.store.read { db in try db.integer("SELECT latest_given FROM time_of_day") }
            }
            try await clocked.report([["n": 1]])
            #expect(try await latestGiven() == nil)
            clocked.time.move(.seconds(1))
            try await clocked.report(Array(repeating: ["n": 1], count: 8000))
            let noted = clocked.time.now.rawValue + 7999 + ServerTimes.noteAhead
            #expect(try await latestGiven() == noted)
            // Beyond what was noted it is noted again, and not before.
            try await clocked.report(Array(repeating: ["n": 1], count: Int(ServerTimes.noteAhead)))
            #expect(try await latestGiven() == noted)
            try await clocked.report([["n": 1]])
            #expect(try await latestGiven() == noted + 1 + ServerTimes.noteAhead)
            // All that is known of the clock is stored now and then, and says no less than what was given.
            try await clocked.store.storeTimeOfDay()
            #expect(try await latestGiven() == noted + 1)
            try await clocked.report([["n": 1]])
            #expect(try await latestGiven() == noted + 2 + ServerTimes.noteAhead)
        }
    }

    @Test(
        "what an undone transaction said of the times is said by the next, and so after the clock was set back far",
        .bug(id: "D1.4")
    )
    func notedAgain() {
        let times = ServerTimes(after: nil)
        #expect(times.note(ahead: self.start) == nil)
        _ = times.take(10, for: self.device, at: self.start)
        let noted = self.start.adding(.milliseconds(9 + ServerTimes.noteAhead))
        #expect(times.note(ahead: self.start) == noted)
        #expect(times.note(ahead: self.start) == nil)
        times.undone()
        #expect(times.note(ahead: self.start) == noted)
        let far = self.start.adding(.milliseconds(-2 * ServerTimes.aheadMax))
        _ = times.take(10, for: self.device, at: far)
        #expect(times.note(ahead: far) == far.adding(.milliseconds(9 + ServerTimes.noteAhead)))
    }

    @Test("points whose times would be too far ahead are refused, and no other takes their place", .bug(id: "D1.4"))
    func tooMany() async throws {
        try await Clocked.with { clocked in
            let (store, device, now) = (clocked.store, clocked.device.id, clocked.time.now)
            let limit = Int(ServerTimes.reportAheadMax)
            #expect(store.times.takeForReport(limit + 2, of: device, at: now) == nil)
            #expect(store.times.takeForReport(limit, of: device, at: now) == now)
            var points = (1...2).map { TelemetryPoint(timestamp: nil, values: ["n": .integer($0)]) }
            #expect(store.times.takeForReport(2, of: device, at: now) == nil)
            #expect(store.settleTimes(of: &points, reportedBy: device, at: now) == now)
            let error = #expect(throws: NodeError.self) {
                try store.beginSavingTimeseries(of: device, points, at: now)
            }
            #expect(error?.code == .tooManyRequests)
            #expect(error?.message.contains("3540 s ahead of the clock") == true)
            #expect(
                ValueRules.tooManyPoints(limit + 1, aheadMax: ServerTimes.reportAheadMax).code == .tooLarge
            )
            // One by one there is room for a while, and others do not notice.
            try await clocked.report([["n": 3]])
            #expect(try await clocked.entries("n").map(\.timestamp) == [now.adding(.milliseconds(limit))])
            #expect(store.times.takeForReport(2, of: .random(), at: now) == now)
        }
    }

    @Test(
        "the times of an update are those of the clock, however far ahead the points of a device are",
        .bug(id: "D1.4")
    )
    func records() async throws {
        try await Clocked.with { clocked in
            try await clocked.assign("1")
            let other = try await clocked.store.saveDevice(
                Device(name: "other", deviceProfileId: clocked.device.deviceProfileId),
                accessToken: nil
            )
            let flood = Array(repeating: TelemetryPoint(timestamp: nil, values: ["n": 1]), count: 5000)
            try await clocked.store.saveTimeseries(of: other.id, flood, at: clocked.time.now)
            let device = clocked.device.id
            for command in [UpdateCommand.cancel, .retry] {
                _ = try await clocked.store.carryOut(command, on: UpdateFilter(), by: "me")
                let record = try #require(try await clocked.store.updateRecord(of: device, type: .firmware))
                #expect(record.activeTime == clocked.time.now)
                #expect(record.entered[command == .cancel ? .failed : .queued] == clocked.time.now)
            }
            #expect(try await clocked.entries("fw_state").map(\.value) == ["QUEUED", "FAILED", "QUEUED"])
            _ = try await clocked.store.fail(
                device,
                .firmware,
                ifUnmovedSince: nil,
                cause: .timedOut,
                reason: "x",
                retryAt: clocked.time.now
            )
            #expect(try await clocked.store.updateRecord(of: device, type: .firmware)?.activeTime == clocked.time.now)
            #expect(try await clocked.store.releaseRetries(until: clocked.time.now, limit: 9).count == 1)
            #expect(try await clocked.store.updateRecord(of: device, type: .firmware)?.activeTime == clocked.time.now)
            #expect(try await clocked.latest("fw_state") == "QUEUED")
        }
    }

    @Test("more devices than are kept apart get times that are later than all", .bug(id: "D1.4"))
    func full() {
        let times = ServerTimes(after: nil)
        _ = times.take(3, for: self.device, at: self.start)
        for _ in 0..<ServerTimes.devicesMax { _ = times.take(1, for: .random(), at: self.start) }
        #expect(times.take(1, for: self.device, at: self.start) == self.start.adding(.milliseconds(3)))
    }
}

@Suite struct ClockTests {
    @Test("newest values recover when the clock was a year ahead", .bug(id: "D2.5"), arguments: [false, true])
    func newest(hasRestart: Bool) async throws {
        try await Clocked.with { clocked in
            try await clocked.report([["t": 1, "fw_state": "A"]])
            clocked.time.move(year)
            try await clocked.report([["t": 2, "fw_state": "B", "only": true]])
            #expect(try await clocked.latest("t") == 2)
            clocked.time.move(.seconds(3600) - year)
            if hasRestart { try await clocked.restart() }
            for number in 3...4 {
                try await clocked.report([["t": .integer(Int64(number)), "fw_state": .string("\(number)")]])
                #expect(try await clocked.latest("t") == .integer(Int64(number)))
                #expect(try await clocked.queried("t") == .integer(Int64(number)))
                #expect(try await clocked.latest("fw_state") == .string("\(number)"))
                #expect(try await clocked.queried("fw_state") == .string("\(number)"))
            }
            // Nothing is lost, and what has no other value still shows.
            #expect(try await clocked.entries("t").count == 4)
            #expect(try await clocked.latest("only") == true)
            try await clocked.assign("1")
            #expect(try await clocked.queried("fw_state") == "QUEUED")
        }
    }

    @Test("time-outs and retries recover when the clock was a year ahead", .bug(id: "D2.5"), arguments: [false, true])
    func timeOuts(hasRestart: Bool) async throws {
        try await Clocked.with { clocked in
            clocked.time.move(year)
            try await clocked.assign("1")
            let device = clocked.device.id
            _ = try await clocked.store.record(
                StateReport(type: .firmware, state: "DOWNLOADING", timestamp: clocked.time.now),
                of: device
            )
            clocked.time.move(.zero - year)
            if hasRestart { try await clocked.restart() }
            func stalled() async throws -> Int {
                let since = clocked.time.now.adding(.seconds(-100))
                return try await clocked.store.stalledUpdates(in: .downloading, since: since, limit: 9).count
            }
            #expect(try await stalled() == 0)
            clocked.time.move(.seconds(100))
            #expect(try await stalled() == 1)

            clocked.time.move(year)
            let retry = clocked.time.now.adding(.seconds(60))
            #expect(
                try await clocked.store.fail(
                    device,
                    .firmware,
                    ifUnmovedSince: nil,
                    cause: .timedOut,
                    reason: "x",
                    retryAt: retry
                )
            )
            clocked.time.move(.zero - year)
            if hasRestart { try await clocked.restart() }
            #expect(try await clocked.store.releaseRetries(until: clocked.time.now, limit: 9).count == 0)
            clocked.time.move(.seconds(61))
            #expect(try await clocked.store.releaseRetries(until: clocked.time.now, limit: 9).count == 1)
        }
    }

    @Test("calls that were made when the clock was a year ahead expire in their time", .bug(id: "D2.5"))
    func calls() async throws {
        try await Clocked.with { clocked in
            let device = clocked.device
            clocked.time.move(year)
            let call = PersistentCall(
                device: Originator(id: device.id.uuid, name: device.name, type: "profile"),
                createdTime: clocked.time.now,
                expirationTime: clocked.time.now.adding(.seconds(30)),
                method: "m",
                params: nil,
                isOneWay: true,
                timeout: .seconds(10),
                retriesLeft: 0
            )
            try await clocked.store.addCall(call)
            try await clocked.store.expireCalls(at: clocked.time.now)
            clocked.time.move(.zero - year)
            try await clocked.store.expireCalls(at: clocked.time.now)
            #expect(try await clocked.store.call(call.id)?.status == .queued)
            clocked.time.move(.seconds(31))
            try await clocked.store.expireCalls(at: clocked.time.now)
            #expect(try await clocked.store.call(call.id)?.status == .expired)
        }
    }

    @Test("nothing times out while the clock is a year ahead, and what begins then does in its time", .bug(id: "D2.5"))
    func leapt() async throws {
        try await Clocked.with { clocked in
            try await clocked.assign("1")
            let (store, device) = (clocked.store, clocked.device)
            func report(_ state: String) async throws {
                let report = StateReport(type: .firmware, state: state, timestamp: clocked.time.now)
                _ = try await store.record(report, of: device.id)
            }
            func stalled(in state: OtaUpdateState) async throws -> Int {
                let since = clocked.time.now.adding(.seconds(-100))
                return try await store.stalledUpdates(in: state, since: since, limit: 9).count
            }
            func call() async throws -> PersistentCallId {
                let call = PersistentCall(
                    device: Originator(id: device.id.uuid, name: device.name, type: "profile"),
                    createdTime: clocked.time.now,
                    expirationTime: clocked.time.now.adding(.seconds(30)),
                    method: "m",
                    params: nil,
                    isOneWay: true,
                    timeout: .seconds(10),
                    retriesLeft: 0
                )
                try await store.addCall(call)
                return call.id
            }
            try await report("DOWNLOADING")
            let before = try await call()
            #expect(try await stalled(in: .downloading) == 0)
            clocked.time.move(year)
            #expect(try await stalled(in: .downloading) == 0)
            try await store.expireCalls(at: clocked.time.now)
            #expect(try await store.call(before)?.status == .queued)
            // What there was grows old by the time that passes.
            clocked.time.move(.seconds(101))
            #expect(try await stalled(in: .downloading) == 1)
            try await store.expireCalls(at: clocked.time.now)
            #expect(try await store.call(before)?.status == .expired)

            try await report("DOWNLOADED")
            let after = try await call()
            clocked.time.move(.seconds(99))
            #expect(try await stalled(in: .downloaded) == 0)
            try await store.expireCalls(at: clocked.time.now)
            #expect(try await store.call(after)?.status == .expired)
            clocked.time.move(.seconds(2))
            #expect(try await stalled(in: .downloaded) == 1)

            let retry = clocked.time.now.adding(.seconds(60))
            _ = try await store.fail(
                device.id,
                .firmware,
                ifUnmovedSince: nil,
                cause: .timedOut,
                reason: "x",
                retryAt: retry
            )
            clocked.time.move(year)
            #expect(try await store.releaseRetries(until: clocked.time.now, limit: 9).count == 0)
            clocked.time.move(.seconds(61))
            #expect(try await store.releaseRetries(until: clocked.time.now, limit: 9).count == 1)
        }
    }

    @Test("that the clock was set back is remembered until stored times are brought back", .bug(id: "D2.5"))
    func remembered() async throws {
        try await Clocked.with { clocked in
            let store = clocked.store
            clocked.time.move(year)
            try await clocked.assign("1")
            clocked.time.move(.zero - year)
            // Others look at the clock first, and the first attempt fails.
            _ = store.believedTime()
            try await store.storeTimeOfDay()
            try await store.write { db, _ in
                try db.run(
                    "CREATE TRIGGER refused BEFORE UPDATE ON update_record BEGIN SELECT RAISE(ABORT, 'no room'); END"
                )
            }
            await #expect(throws: NodeError.self) { try await store.followClock() }
            try await store.write { db, _ in try db.run("DROP TRIGGER refused") }
            try await store.followClock()
            let record = try await store.updateRecord(of: clocked.device.id, type: .firmware)
            #expect(record?.activeTime == clocked.time.now)
            #expect(record?.entered[.queued] == clocked.time.now)
        }
    }

    @Test("an update that was queued ahead counts as queued now, although it moved since", .bug(id: "D2.5"))
    func queuedAhead() async throws {
        try await Clocked.with { clocked in
            clocked.time.move(year)
            try await clocked.assign("1")
            clocked.time.move(.zero - year)
            let now = clocked.time.now
            try await clocked.store.write { db, _ in
                try db.run("UPDATE update_record SET active_time = ?1 - 5, retry_time = ?1 + 7", [now.rawValue])
            }
            try await clocked.store.followClock()
            let record = try await clocked.store.updateRecord(of: clocked.device.id, type: .firmware)
            #expect(record?.entered[.queued] == now)
            #expect(record?.activeTime == now.adding(.milliseconds(-5)))
            #expect(record?.retryTime == now.adding(.milliseconds(7)))
        }
    }

    @Test("an ended login is loaded however far ahead the clock is", .bug(id: "D2.5"))
    func endedLogins() async throws {
        try await Clocked.with { clocked in
            try await clocked.store.endLogin("one", until: clocked.time.now.adding(.seconds(604_800)))
            clocked.time.move(year)
            try await clocked.restart()
            #expect(Set(try await clocked.store.endedLogins().keys) == ["one"])
        }
    }

    @Test("nothing is removed for its age when the clock is a year ahead for an hour", .bug(id: "D2.5"))
    func retention() async throws {
        var options = SQLiteStore.Options()
        options.retention = Retention(timeseriesAge: .seconds(86_400), historyAge: .seconds(86_400))
        try await Clocked.with(options) { clocked in
            for number in 0..<3 { try await clocked.report([["n": .integer(Int64(number))]]) }
            try await clocked.store.endLogin("one", until: clocked.time.now.adding(.seconds(604_800)))
            clocked.time.move(year)
            try await clocked.report([["n": 3]])
            #expect(try await clocked.store.removeOld() == 0)
            try await clocked.store.endLogin("two", until: clocked.time.now.adding(.seconds(604_800)))
            try await clocked.restart()
            #expect(try await clocked.store.removeOld() == 0)
            clocked.time.move(.zero - year)
            #expect(Set(try await clocked.store.endedLogins().keys) == ["one", "two"])
            #expect(try await clocked.store.removeOld() == 0)
            #expect(try await clocked.entries("n").count == 4)
        }
    }

    @Test("a leap of the clock is believed when it has lasted for a day, also over restarts", .bug(id: "D2.5"))
    func leap() {
        let start = Timestamp(milliseconds: 1_700_000_000_000)
        let day = Duration.milliseconds(TimeOfDay.leapMax)
        var time = TimeOfDay(start, uptime: .zero)
        #expect(time.look(start.adding(day), uptime: .zero) == nil)
        #expect(time.believed == start.adding(day))
        let leapt = start.adding(day + year)
        #expect(time.look(leapt, uptime: .zero) == year)
        #expect(time.look(leapt.adding(.seconds(5)), uptime: .seconds(5)) == nil)
        #expect(time.believed == start.adding(day + .seconds(5)))
        var again = TimeOfDay(leapt, uptime: .zero, believed: time.believed, doubted: time.doubted)
        #expect(again.look(leapt.adding(day - .seconds(6)), uptime: day - .seconds(6)) == nil)
        #expect(again.believed < leapt)
        #expect(again.look(leapt.adding(day), uptime: day) == nil)
        #expect(again.believed == leapt.adding(day))
        #expect(again.look(start, uptime: day) == nil)
        #expect(again.believed == start)
    }

    @Test(
        "a point of a device that lies further ahead than allowed is stored as now and counted",
        .bug(id: "D2.5"),
        arguments: [
            (86_400_000, false), (86_400_001, true), (Int64.max - 1_700_000_000_000, true), (0, false),
            (-1_700_000_000_000, false), (-1_700_000_000_001, false),
        ] as [(Int64, Bool)]
    )
    func ahead(offset: Int64, isClamped: Bool) async throws {
        try await Clocked.with { clocked in
            let now = clocked.time.now
            let time = Timestamp(milliseconds: now.rawValue + offset)
            var points = [
                TelemetryPoint(timestamp: nil, values: ["n": 1]), TelemetryPoint(timestamp: time, values: ["n": 2]),
            ]
            let first = clocked.store.settleTimes(of: &points, reportedBy: clocked.device.id, at: now)
            #expect(first == now)
            #expect(points.map(\.timestamp) == [now, isClamped ? now.adding(.milliseconds(1)) : time])
            #expect(clocked.store.pointsAhead.count == (isClamped ? 1 : 0))
            let metric = try await clocked.store.metrics().first { $0.name == "windlass_store_points_ahead_total" }
            #expect(metric?.samples.map(\.value) == [isClamped ? 1 : 0])
        }
    }

    @Test("any time of a device is taken if the limit is off, and an administrator's always", .bug(id: "D2.5"))
    func off() async throws {
        var options = SQLiteStore.Options()
        options.timestampAheadMax = nil
        try await Clocked.with(options) { clocked in
            let time = clocked.time.now.adding(year)
            var points = [TelemetryPoint(timestamp: time, values: ["n": 2])]
            _ = clocked.store.settleTimes(of: &points, reportedBy: clocked.device.id, at: clocked.time.now)
            #expect(points[0].timestamp == time)
        }
        try await Clocked.with { clocked in
            let time = clocked.time.now.adding(year)
            let forecast = [TelemetryPoint(timestamp: time, values: ["n": 2])]
            try await clocked.store.saveTimeseries(of: clocked.device.id, forecast, at: clocked.time.now)
            #expect(try await clocked.entries("n").map(\.timestamp) == [time])
        }
    }

    @Test("a state with a time far ahead counts as reported now", .bug(id: "D2.5"))
    func stateAhead() async throws {
        try await Clocked.with { clocked in
            try await clocked.assign("1")
            let report = StateReport(type: .firmware, state: "DOWNLOADING", timestamp: clocked.time.now.adding(year))
            _ = try await clocked.store.record(report, of: clocked.device.id)
            let record = try await clocked.store.updateRecord(of: clocked.device.id, type: .firmware)
            #expect(record?.entered[.downloading] == clocked.time.now)
        }
    }

    @Test(
        "what waits is due at once when the clock was set back, at a start and while the host runs",
        .bug(id: "Q1"),
        arguments: [false, true]
    )
    func waiting(restarts: Bool) async throws {
        try await Clocked.with { clocked in
            try await clocked.assign("1")
            clocked.time.move(year)
            var queue = clocked.store.queue(named: "c/n")
            let device = Originator(id: clocked.device.id.uuid, name: "d", type: "profile")
            for key in ["k", nil, nil] {
                var message = Message(originator: device, type: "T", timestamp: clocked.time.now)
                message.precedence = key.map { Precedence(key: $0, generation: 1) }
                try await queue.append(message, countMax: 9)
            }
            var assignments = clocked.store.waitingAssignments
            let reason = HoldReason(code: "closed", text: "it is closed")
            for waiting in [queue, assignments] as [any WaitingMessages] {
                let messages = try await waiting.due(at: clocked.time.now, limit: 9, without: []).messages
                let tomorrow = clocked.time.now.adding(.seconds(86_400))
                try await waiting.postpone(messages.map { PostponedMessage($0, due: tomorrow, reason: reason) })
                #expect(try await waiting.due(at: clocked.time.now, limit: 9, without: []).messages.isEmpty)
            }
            let marks = (await queue.arrivals(since: nil), await assignments.arrivals(since: nil))
            clocked.time.move(.zero - year)
            if restarts {
                try await clocked.restart()
                queue = clocked.store.queue(named: "c/n")
                assignments = clocked.store.waitingAssignments
            } else {
                try await clocked.store.followClock()
                // Who waits for the time is woken.
                #expect(await queue.arrivals(since: nil) > marks.0)
                #expect(await assignments.arrivals(since: nil) > marks.1)
            }
            let now = clocked.time.now
            #expect(try await assignments.due(at: now, limit: 9, without: []).messages.count == 1)
            let due = try await queue.due(at: now, limit: 9, without: []).messages
            #expect(due.count == 2)
            #expect(due.allSatisfy { $0.due <= now && $0.since <= now })
            // The next of the device, too.
            try await queue.settle(due.map { SettledMessage($0) })
            #expect(try await queue.due(at: now, limit: 9, without: []).messages.count == 1)
        }
    }
}
