import IngressKit
import NIOCore

/// Values by key, the least recently used of which are forgotten rather than let it grow.
///
/// There are a recent and an older half; when the recent one is full, the older one is dropped. So nothing is linked or
/// counted, and no call takes long but one in many.
struct RecentValues<Key: Hashable, Value> {
    private let halfMax: Int
    private var recent: [Key: Value] = [:]
    private var older: [Key: Value] = [:]

    /// Makes room.
    ///
    /// - Parameter halfMax: How many values are remembered at least; at most twice as many are.
    init(halfMax: Int) { self.halfMax = halfMax }

    /// How many values are remembered.
    var count: Int { self.recent.count + self.older.count }
    /// Whether there is nothing to look for.
    var isEmpty: Bool { self.recent.isEmpty && self.older.isEmpty }

    /// The value, which does not count as used by this.
    func peek(_ key: Key) -> Value? { self.recent[key] ?? self.older[key] }

    /// Sets a value, which counts as used.
    mutating func set(_ value: Value, for key: Key) {
        // In place if it is there: the common case is one look-up.
        if let index = self.recent.index(forKey: key) {
            self.recent.values[index] = value
            return
        }
        if self.recent.count >= self.halfMax {
            self.older = self.recent
            self.recent = [:]
        }
        self.older[key] = nil
        self.recent[key] = value
    }
}

/// What is known of the endpoints that requests come from, bounded whatever comes from however many ports.
///
/// Only who has shown the access token of a device gets in among the known ones, so a flood without one cannot push them
/// out; they have a share of the exchanges to themselves, and are heard also while their address is not.
struct Endpoints {
    /// How many endpoints are known at least.
    static let knownMax = 16384
    /// How many addresses may be refused at the same time, at least.
    static let refusedMax = 4096
    /// How long an address is refused once too many of its requests had a token that is nobody's.
    static let refusal = TimeAmount.seconds(1)

    private var known = RecentValues<Endpoint, Void>(halfMax: Self.knownMax)
    private var refused = RecentValues<AddressKey, NIODeadline>(halfMax: Self.refusedMax)
    private let failures: RateLimiter<AddressKey>

    /// Prepares for endpoints.
    ///
    /// - Parameter failuresPerSecondMax: How many requests with a token that is nobody's one address may make in a second; 0 for
    ///   no limit.
    init(failuresPerSecondMax: Int) { self.failures = RateLimiter(perSecond: failuresPerSecondMax) }

    /// How many endpoints are known.
    var knownCount: Int { self.known.count }

    /// A request of an endpoint had the access token of a device.
    mutating func authenticated(_ peer: Endpoint) { self.known.set((), for: peer) }

    /// Whether an endpoint has lately shown the access token of a device.
    func isKnown(_ peer: Endpoint) -> Bool { self.known.peek(peer) != nil }

    /// A request had an access token that is nobody's.
    mutating func failed(_ peer: Endpoint, now: NIODeadline) {
        let address = peer.address
        guard !self.failures.admit(address, at: now) else { return }
        self.refused.set(now + Self.refusal, for: address)
    }

    /// Whether requests of an endpoint are to be refused unread.
    func isRefused(_ peer: Endpoint, now: NIODeadline) -> Bool {
        guard !self.refused.isEmpty, let end = self.refused.peek(peer.address), now < end else { return false }
        return !self.isKnown(peer)
    }
}
