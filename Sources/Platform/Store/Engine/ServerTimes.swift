import NodeKit
import OTA
import Synchronization

/// The times that the host gives to points of time series: those of one device each later than the one before, so that none takes the
/// place of another.
///
/// Only devices with a time that is not past yet are in memory, which are few: as soon as the clock has passed all times that were
/// given, one number stands for all devices.
final class ServerTimes: Sendable {
    /// How many devices are kept apart.
    ///
    /// Beyond that the next times of all devices are later than those that were given.
    static let devicesMax = 100_000
    /// How far the times of a device may run ahead of the clock, in milliseconds.
    ///
    /// A time further ahead was given when the clock was wrong and does not count.
    static let aheadMax = Timestamp.aheadMax.milliseconds
    /// How far ahead the points of one report may be, in milliseconds.
    ///
    /// A device may report so many more points than milliseconds pass; arrays that go beyond it are refused. A minute less than
    /// ``aheadMax`` is left for reports of one point and for what the host notes.
    static let reportAheadMax = aheadMax - 60_000
    /// How far beyond the times that were given the database says that they were, in milliseconds.
    ///
    /// A device that reports faster than a millisecond apart so costs a statement once a second of its times and not with each report;
    /// a host that starts anew after a crash gives times that are later by up to as much.
    static let noteAhead: Int64 = 1000

    private struct State {
        /// The last time of each device whose last time is later than `floor`.
        var last: [DeviceId: Int64] = [:]
        /// All other devices have times up to this one.
        var floor = Int64.min
        /// The latest time that was given.
        var latest = Int64.min
        /// Up to which time the database says that times were given.
        var noted = Int64.min
    }

    private let state: Mutex<State>

    /// Goes on after times that were given before the host started.
    init(after latest: Timestamp?) {
        let latest = latest?.rawValue ?? .min
        self.state = Mutex(State(floor: latest, latest: latest))
    }

    /// What a transaction is to say of the times that were given, so that a host that starts at `now` knows of those that are not past
    /// yet; `nil` if the database says it already.
    func note(ahead now: Timestamp) -> Timestamp? {
        self.state.withLock { state in
            guard state.latest > now.rawValue, state.latest > state.noted else { return nil }
            let latest = Timestamp(milliseconds: state.latest)
            guard latest.believed(at: now) == latest else { return nil }
            state.noted = state.latest &+ Self.noteAhead
            return Timestamp(milliseconds: state.noted)
        }
    }

    /// What a transaction is to say that stores all that is known of the clock: the latest time that was given to any device; `nil` if
    /// there is none.
    func noteLatest() -> Timestamp? {
        self.state.withLock { state in
            state.noted = state.latest
            return state.latest == .min ? nil : Timestamp(milliseconds: state.latest)
        }
    }

    /// A transaction was undone, and what it said with it.
    func undone() { self.state.withLock { $0.noted = .min } }

    /// Gives times to what the host itself notes about a device.
    func take(_ count: Int, for device: DeviceId, at now: Timestamp) -> Timestamp {
        self.take(count, for: device, at: now, aheadMax: nil) ?? now
    }

    /// Gives times to points that a device reported; `nil` if they are too many, see ``ValueRules/tooManyPoints(_:aheadMax:)``.
    func takeForReport(_ count: Int, of device: DeviceId, at now: Timestamp) -> Timestamp? {
        self.take(count, for: device, at: now, aheadMax: Self.reportAheadMax)
    }

    /// Gives times to points of a device, a millisecond apart.
    ///
    /// - Parameters:
    ///   - count: How many points, at least 1.
    ///   - device: The device.
    ///   - now: When the points came.
    ///   - aheadMax: How far ahead the last of several points may be; `nil` for any.
    /// - Returns: The first time: `now`, or the one after the last that the device got; `nil` if the last point would be too far
    ///   ahead, and then no time is given.
    private func take(_ count: Int, for device: DeviceId, at now: Timestamp, aheadMax: Int64?) -> Timestamp? {
        let now = now.rawValue
        return self.state.withLock { state in
            Self.forgetFuture(&state, now)
            if now > state.latest {
                // All that was given is past.
                if !state.last.isEmpty { state.last.removeAll(keepingCapacity: state.last.count < 1024) }
                state.floor = state.latest
            }
            let first = Self.time(after: [state.last[device], state.floor], at: now)
            let last = first &+ Int64(max(1, count) - 1)
            if count > 1, let aheadMax, last - now > aheadMax { return nil }
            if state.last.count >= Self.devicesMax, state.last[device] == nil {
                state.floor = state.last.values.max() ?? state.floor
                state.last = [:]
            }
            state.last[device] = last
            state.latest = max(state.latest, last)
            return Timestamp(milliseconds: first)
        }
    }

    /// Gives one time to a point of each of many devices: later than any that was given.
    func takeForAll(at now: Timestamp) -> Timestamp {
        let now = now.rawValue
        return self.state.withLock { state in
            Self.forgetFuture(&state, now)
            let time = Self.time(after: [state.latest, state.floor, state.last.values.max()], at: now)
            state = State(floor: time, latest: time, noted: state.noted)
            return Timestamp(milliseconds: time)
        }
    }

    /// Forgets times further ahead than is given: the clock was wrong when they were, and begins anew.
    private static func forgetFuture(_ state: inout State, _ now: Int64) {
        let (limit, overflow) = now.addingReportingOverflow(Self.aheadMax)
        guard !overflow, state.latest > limit else { return }
        state.last = state.last.filter { $0.value <= limit }
        if state.floor > limit { state.floor = .min }
        state.latest = max(state.floor, state.last.values.max() ?? .min)
        state.noted = .min
    }

    /// The first time that is after these, and not before now.
    private static func time(after times: [Int64?], at now: Int64) -> Int64 {
        var time = now
        for case let last? in times where last >= time { time = last &+ 1 }
        return time
    }
}

extension Duration {
    /// The whole milliseconds.
    var milliseconds: Int64 { Int64(self / .milliseconds(1)) }
}
