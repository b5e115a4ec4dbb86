/// What a cache says of something, without waiting.
@frozen public enum Cached<Value> {
    /// Here it is.
    case hit(Value)
    /// There is none, and that is known.
    case absent
    /// Not known here: ask the function that waits.
    case unknown

    /// What a cache that remembers no absence says.
    @inlinable public init(_ found: Value?) {
        if let found { self = .hit(found) } else { self = .unknown }
    }

    /// The value, if it is here.
    @inlinable public var found: Value? {
        if case .hit(let value) = self { value } else { nil }
    }
}

extension Cached: Sendable where Value: Sendable {}

extension Cached: Equatable where Value: Equatable {}
