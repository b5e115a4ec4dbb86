public import NIOCore
public import NodeKit
public import Synchronization

/// Lets each of many keys, such as devices or addresses, do something so many times in a second.
///
/// A key that was idle may do a second's worth at once. Keeps one number for each key that was active within the last
/// second (the generic cell rate algorithm, ITU-T I.371 Annex A).
public final class RateLimiter<Key: Hashable & Sendable>: Sendable {
    /// Until when each key has used up its share, in nanoseconds of the clock; one in the past is as good as none.
    @usableFromInline typealias Times = [Key: Int64]

    @usableFromInline static var second: Int64 { 1_000_000_000 }

    @usableFromInline let nanosecondsEach: Int64
    @usableFromInline let keysMax: Int
    @usableFromInline let times = Mutex<Times>([:])

    /// Makes a limiter.
    ///
    /// - Parameters:
    ///   - perSecond: How many times a second each key may; 0 for no limit, which costs nothing.
    ///   - keysMax: How many keys are kept apart. When more than these are active within one second, the others are let
    ///     through: whatever there are so many of is bounded elsewhere.
    public init(perSecond: Int, keysMax: Int = 100_000) {
        precondition(perSecond >= 0 && keysMax > 0)
        self.nanosecondsEach = perSecond == 0 ? 0 : max(1, Self.second / Int64(perSecond))
        self.keysMax = keysMax
    }

    /// Whether a key may once more, which is then counted.
    ///
    /// - Parameters:
    ///   - key: Who asks.
    ///   - now: The time, by a clock that does not go back.
    /// - Returns: `false` if the key has used up its share.
    @inlinable
    public func admit(_ key: Key, at now: NIODeadline) -> Bool {
        guard self.nanosecondsEach > 0 else { return true }
        let now = Int64(clamping: now.uptimeNanoseconds)
        return self.times.withLock { times in
            // In place if it is there: the common case is one look-up.
            if let index = times.index(forKey: key) {
                let usedUntil = max(times.values[index], now)
                guard usedUntil - now <= Self.second - self.nanosecondsEach else { return false }
                times.values[index] = usedUntil + self.nanosecondsEach
                return true
            }
            if times.count >= self.keysMax {
                times = times.filter { $0.value > now }
                guard times.count < self.keysMax else { return true }
            }
            times[key] = now + self.nanosecondsEach
            return true
        }
    }

    /// How many keys are kept at the moment.
    var keyCount: Int { self.times.withLock { $0.count } }
}

/// How often devices and addresses may come, as an operator sets it; the same attributes for all ingress nodes.
public struct RateLimits: Sendable, Hashable {
    /// Requests of one device in a second; 0 for no limit.
    public var deviceRequestsPerSecondMax: Int
    /// Connections from one address in a second, or for CoAP requests with a token that is nobody's; 0 for no limit.
    public var addressConnectionsPerSecondMax: Int

    /// The attribute for requests of one device.
    public static let deviceRequests = AttributeDescriptor.integer(
        "device-requests-per-second-max",
        default: 100_000,
        in: 0...1_000_000_000,
        summary: "How many requests one device may make in a second, over all of its connections; 0 for no limit."
    )

    /// The attribute for connections from one address.
    public static let addressConnections = AttributeDescriptor.integer(
        "address-connections-per-second-max",
        default: 20_000,
        in: 0...1_000_000_000,
        summary:
            "How many connections one address may begin in a second (CoAP: requests with an unknown token); 0 for no limit."
    )

    /// The attributes of an ingress node that configure the limits.
    public static let attributes = [Self.deviceRequests, Self.addressConnections]

    /// Takes the limits from the configuration of a node that declares ``attributes``.
    public init(_ configuration: Configuration) {
        self.deviceRequestsPerSecondMax = Int(configuration.integer("device-requests-per-second-max"))
        self.addressConnectionsPerSecondMax = Int(configuration.integer("address-connections-per-second-max"))
    }
}
