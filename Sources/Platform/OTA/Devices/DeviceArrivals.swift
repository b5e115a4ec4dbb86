public import FoundationEssentials
public import NodeKit
import Synchronization
import Waiting

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
    ///
    /// Replies alone take up half of these places, so that they never keep a listener from being noticed.
    static let waitingMax = 100_000
    /// The most offers that are remembered as settled; when there are more, all are forgotten.
    static let settledMax = 200_000

    private struct OfferKey: Hashable {
        var device: UUID
        var type: OtaPackageType
    }

    private struct State {
        var waiting: [UUID: DeviceNews] = [:]
        /// The hashes of the last offers with which nothing was left to do.
        var settled: [OfferKey: Int] = [:]
    }

    let interests: DeviceInterests
    private let state = Mutex(State())
    /// Raised when there is something new where there was nothing.
    private let added = Signal()

    /// Makes one that only its owner fills.
    package init(interests: DeviceInterests) { self.interests = interests }

    /// Something about a device is new; by default that a listener came.
    package func add(_ device: UUID, _ news: DeviceNews = DeviceNews(hasArrived: true)) {
        let hashes = news.hasArrived ? [:] : news.offers.mapValues(Self.hash)
        let isFirst = self.state.withLock { state in
            if state.waiting[device] == nil {
                let isSettled =
                    !news.hasArrived && hashes.allSatisfy { state.settled[OfferKey(device: device, type: $0)] == $1 }
                let limit = news.hasArrived ? Self.waitingMax : Self.waitingMax / 2
                guard !isSettled, state.waiting.count < limit else { return false }
            }
            state.waiting[device, default: DeviceNews()].add(news)
            return state.waiting.count == 1
        }
        if isFirst { self.added.raise() }
    }

    /// Remembers that replies with these offers need no action, and passes over them from now on.
    ///
    /// Another offer, or any offer after a push to the device, is news. Call it before reading what there is to do, and ``unsettle(_:)`` if
    /// there is something: a push meanwhile is then not overlooked.
    public func settle(_ device: UUID, _ offers: [OtaPackageType: JSON.Object]) {
        let hashes = offers.mapValues(Self.hash)
        self.state.withLock { state in
            if state.settled.count >= Self.settledMax { state.settled = [:] }
            for (type, hash) in hashes { state.settled[OfferKey(device: device, type: type)] = hash }
        }
    }

    /// A hash of names and values; that of an object is one of its names only.
    private static func hash(of offer: JSON.Object) -> Int {
        var hasher = Hasher()
        for member in offer.members {
            hasher.combine(member.name.exact)
            hasher.combine(member.value)
        }
        return hasher.finalize()
    }

    /// Lets the next reply to a device be news, whatever it offers.
    public func unsettle(_ device: UUID) {
        self.state.withLock { state in
            guard !state.settled.isEmpty else { return }
            for type in OtaPackageType.allCases { state.settled[OfferKey(device: device, type: type)] = nil }
        }
    }

    /// The devices that came since the last time, as soon as there are any; empty only if the task is cancelled.
    public func next() async -> Set<UUID> { Set(await self.nextNews().keys) }

    /// What is new about devices since the last time, as soon as there is anything; empty only if the task is cancelled.
    public func nextNews() async -> [UUID: DeviceNews] {
        while !Task.isCancelled {
            let seen = self.added.count
            let news = self.state.withLock { state in
                defer { state.waiting = [:] }
                return state.waiting
            }
            if !news.isEmpty { return news }
            await self.added.wait(since: seen)
        }
        return [:]
    }
}
