public import FoundationEssentials
import Synchronization

/// What a listener on behalf of a device wants to hear.
public struct DeviceInterests: OptionSet, Sendable, Hashable {
    /// The bits.
    public let rawValue: Int
    /// Makes interests of bits.
    public init(rawValue: Int) { self.rawValue = rawValue }

    /// Shared attributes that change.
    public static let attributes = DeviceInterests(rawValue: 1)
    /// Calls of methods.
    public static let calls = DeviceInterests(rawValue: 2)
}

/// Devices for which a listener came, until somebody asks; each once, however often it came meanwhile.
///
/// Made by ``DeviceSessions/watchArrivals(interestedIn:)``. One task at a time asks.
public final class DeviceArrivals: Sendable {
    /// The most devices that wait to be asked for; others are passed over until they come the next time.
    static let waitingMax = 100_000

    private struct State {
        var waiting: Set<UUID> = []
        var waiter: CheckedContinuation<Void, Never>?
    }

    let interests: DeviceInterests
    private let state = Mutex(State())

    /// Makes one of which nobody knows but its owner.
    package init(interests: DeviceInterests) { self.interests = interests }

    /// A listener for a device came.
    package func add(_ device: UUID) {
        let waiter = self.state.withLock { state in
            guard state.waiting.count < Self.waitingMax else { return nil as CheckedContinuation<Void, Never>? }
            state.waiting.insert(device)
            return state.waiter.take()
        }
        waiter?.resume()
    }

    /// The devices that came since the last time, as soon as there are any; empty only if the task is cancelled.
    public func next() async -> Set<UUID> {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Cancellation may have come before the continuation was stored; then nobody would resume it later.
                let goesOn = self.state.withLock { state in
                    guard state.waiting.isEmpty, !Task.isCancelled else { return true }
                    state.waiter = continuation
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            self.state.withLock { $0.waiter.take() }?.resume()
        }
        guard !Task.isCancelled else { return [] }
        return self.state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
    }
}
