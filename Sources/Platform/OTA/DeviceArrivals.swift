public import FoundationEssentials
public import NodeKit
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

/// What a watcher hears of a device.
public struct DeviceNews: Sendable, Hashable {
    /// Whether a listener for the device came.
    public var hasArrived: Bool
    /// The shared attributes with which replies offered a package to the device, of each kind of package the last ones.
    public var offers: [OtaPackageType: JSON.Object]

    /// Joins what is new.
    public init(hasArrived: Bool = false, offers: [OtaPackageType: JSON.Object] = [:]) {
        self.hasArrived = hasArrived
        self.offers = offers
    }

    /// Adds what came later.
    public mutating func add(_ later: DeviceNews) {
        self.hasArrived = self.hasArrived || later.hasArrived
        self.offers.merge(later.offers) { $1 }
    }
}

/// Devices for which a listener came, or which a reply offered a package, until the watcher asks; each once, however often that
/// happened meanwhile.
///
/// Made by ``DeviceSessions/watchArrivals(interestedIn:)``. One task at a time asks.
public final class DeviceArrivals: Sendable {
    /// The most devices that wait to be asked for; others are passed over until they come the next time.
    static let waitingMax = 100_000

    private struct State {
        var waiting: [UUID: DeviceNews] = [:]
        var waiter: CheckedContinuation<Void, Never>?
    }

    let interests: DeviceInterests
    private let state = Mutex(State())

    /// Makes one of which nobody knows but its owner.
    package init(interests: DeviceInterests) { self.interests = interests }

    /// Something about a device is new; a listener came unless told otherwise.
    package func add(_ device: UUID, _ news: DeviceNews = DeviceNews(hasArrived: true)) {
        let waiter = self.state.withLock { state in
            guard state.waiting[device] != nil || state.waiting.count < Self.waitingMax else {
                return nil as CheckedContinuation<Void, Never>?
            }
            state.waiting[device, default: DeviceNews()].add(news)
            return state.waiter.take()
        }
        waiter?.resume()
    }

    /// The devices that came since the last time, as soon as there are any; empty only if the task is cancelled.
    public func next() async -> Set<UUID> { Set(await self.nextNews().keys) }

    /// What is new about devices since the last time, as soon as there is anything; empty only if the task is cancelled.
    public func nextNews() async -> [UUID: DeviceNews] {
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
        guard !Task.isCancelled else { return [:] }
        return self.state.withLock { state in
            defer { state.waiting = [:] }
            return state.waiting
        }
    }
}
