/// What was asked for, if that takes no waiting, or what it takes to go on.
///
/// Most of what devices ask for is in memory. Whoever can answer at once does, in the turn of the event loop in which the bytes
/// came; only the rest is worth a task. Take it apart with `switch`: a combinator would cost an allocation for its closure also
/// where nothing has to be waited for.
@frozen public enum Step<Value, Rest> {
    /// Here it is.
    case now(Value)
    /// Something has to be waited for. What that takes: mostly a ``Suspension``, or what is to be handed to a function that waits.
    case suspended(Rest)
}

extension Step: Sendable where Value: Sendable, Rest: Sendable {}

extension Step where Value: Sendable, Rest == Suspension<Value> {
    /// The value, once nothing has to be waited for any more; ask for it once.
    @inlinable public var value: Value {
        get async {
            switch self {
            case .now(let value): value
            case .suspended(let rest): await rest()
            }
        }
    }
}

/// What is left to do where something has to be waited for; call it once.
///
/// Not the closure by itself: a closure that is the payload of a generic type is wrapped in another one, with an allocation, as
/// often as it is taken out to be passed on.
@frozen public struct Suspension<Value: Sendable>: Sendable {
    @usableFromInline let body: @Sendable () async -> Value

    /// Holds work back until it is called.
    @inlinable public init(_ body: @escaping @Sendable () async -> Value) { self.body = body }

    /// Does it, and returns when it is done.
    @inlinable public func callAsFunction() async -> Value { await self.body() }
}
