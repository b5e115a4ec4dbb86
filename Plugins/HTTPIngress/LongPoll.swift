import FoundationEssentials
import OTA
import Synchronization

/// A request that waits for something to tell its device.
final class LongPoll: Sendable {
    /// How the wait ended.
    enum Result: Hashable, Sendable {
        /// There is something to tell.
        case notified(DeviceNotification)
        /// The time ran out.
        case timedOut
        /// The host stops.
        case stopping
        /// The client left.
        case gone
    }

    private enum State {
        case pending
        case waiting(CheckedContinuation<Result, Never>)
        case finished(Result)
    }

    private let state = Mutex(State.pending)

    /// Ends the wait.
    ///
    /// May be called from any thread.
    ///
    /// - Returns: Whether this was the first call; others do not count.
    @discardableResult
    func finish(_ result: Result) -> Bool {
        let (isFirst, waiter) = self.state.withLock { state -> (Bool, CheckedContinuation<Result, Never>?) in
            switch state {
            case .pending:
                state = .finished(result)
                return (true, nil)
            case .waiting(let continuation):
                state = .finished(result)
                return (true, continuation)
            case .finished:
                return (false, nil)
            }
        }
        waiter?.resume(returning: result)
        return isFirst
    }

    /// Waits for the end; call it once.
    func result() async -> Result {
        await withCheckedContinuation { continuation in
            let result = self.state.withLock { state -> Result? in
                if case .finished(let result) = state { return result }
                state = .waiting(continuation)
                return nil
            }
            if let result { continuation.resume(returning: result) }
        }
    }
}

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
