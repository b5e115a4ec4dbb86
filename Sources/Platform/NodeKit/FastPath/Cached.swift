/// What a cache says, without waiting.
@frozen public enum Cached<Value> {
    /// Here it is.
    case hit(Value)
    /// There is none, and that is known.
    case absent
    /// Not known here: ask the function that waits.
    case unknown

    /// A value that was found in memory, or `unknown`.
    @inlinable public init(_ found: Value?) { self = found.map(Self.hit) ?? .unknown }
}

extension Cached: Sendable where Value: Sendable {}

extension Cached: Equatable where Value: Equatable {}
