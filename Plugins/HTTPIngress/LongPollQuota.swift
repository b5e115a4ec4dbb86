import FoundationEssentials
import Synchronization

/// Counts the requests that wait, so that neither one device nor all together take up the host.
final class LongPollQuota: Sendable {
    private struct State {
        var total = 0
        var perDevice: [UUID: Int] = [:]
    }

    private let state = Mutex(State())
    private let totalMax: Int
    private let perDeviceMax: Int

    /// Allows so many in all and for each device.
    init(total: Int, perDevice: Int) {
        self.totalMax = total
        self.perDeviceMax = perDevice
    }

    /// Counts one in; `false` if it is one too many.
    func enter(_ device: UUID) -> Bool {
        self.state.withLock { state in
            let count = state.perDevice[device] ?? 0
            guard state.total < self.totalMax, count < self.perDeviceMax else { return false }
            state.total += 1
            state.perDevice[device] = count + 1
            return true
        }
    }

    /// Counts one out that was counted in.
    func leave(_ device: UUID) {
        self.state.withLock { state in
            state.total -= 1
            let count = (state.perDevice[device] ?? 1) - 1
            state.perDevice[device] = count > 0 ? count : nil
        }
    }

    /// How many wait now.
    var count: Int { self.state.withLock { $0.total } }
}
