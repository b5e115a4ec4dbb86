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
    /// A device may report so many more points than milliseconds pass. A time further ahead was given when the clock was wrong and
    /// does not count.
    static let aheadMax = Timestamp.aheadMax.milliseconds

    private struct State {
        /// The last time of each device whose last time is later than `floor`.
        var last: [DeviceId: Int64] = [:]
        /// All other devices have times up to this one.
        var floor = Int64.min
        /// The latest time that was given.
        var latest = Int64.min
    }

    private let state: Mutex<State>

    /// Goes on after times that were given before the host started.
    init(after latest: Timestamp?) {
        let latest = latest?.rawValue ?? .min
        self.state = Mutex(State(floor: latest, latest: latest))
    }

    /// The latest time that was given to any device; `nil` if there is none.
    var latest: Timestamp? {
        self.state.withLock { $0.latest == .min ? nil : Timestamp(milliseconds: $0.latest) }
    }

    /// Whether times were given that are not past yet, so that a host that starts now must know of them.
    func areAhead(of now: Timestamp) -> Bool {
        guard let latest = self.latest else { return false }
        return latest > now && latest.believed(at: now) == latest
    }

    /// Gives times to points of a device, a millisecond apart.
    ///
    /// - Parameters:
    ///   - count: How many points, at least 1.
    ///   - device: The device.
    ///   - now: When the points came.
    /// - Returns: The first time: `now`, or the one after the last that the device got.
    func take(_ count: Int, for device: DeviceId, at now: Timestamp) -> Timestamp {
        let now = now.rawValue
        return self.state.withLock { state in
            if now > state.latest {
                // All that was given is past.
                if !state.last.isEmpty { state.last.removeAll(keepingCapacity: state.last.count < 1024) }
                state.floor = state.latest
            }
            let first = Self.time(after: [state.last[device], state.floor], at: now)
            let last = first &+ Int64(max(1, count) - 1)
            if state.last.count >= Self.devicesMax, state.last[device] == nil {
                state.floor = state.last.values.lazy.filter { $0 - now <= Self.aheadMax }.max() ?? state.floor
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
            let time = Self.time(after: [state.latest, state.floor, state.last.values.max()], at: now)
            state = State(floor: time, latest: time)
            return Timestamp(milliseconds: time)
        }
    }

    /// The first time that is after these, unless the clock was wrong when they were given, and not before now.
    private static func time(after times: [Int64?], at now: Int64) -> Int64 {
        var time = now
        for case let last? in times where last >= time && last - now <= Self.aheadMax { time = last &+ 1 }
        return time
    }
}

extension Duration {
    /// The whole milliseconds.
    var milliseconds: Int64 { Int64(self / .milliseconds(1)) }
}
