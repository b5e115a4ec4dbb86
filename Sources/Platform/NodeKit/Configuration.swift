/// A condition of a chain file, compiled and ready to be asked.
public protocol Condition: Sendable {
    /// Whether the condition holds for a message. A variable that the message does not have counts as an empty text.
    ///
    /// - Throws: ``NodeError`` if the condition cannot be evaluated.
    func holds(for message: Message) throws -> Bool
}

/// An attribute's value, checked against its descriptor.
public enum ConfigurationValue: Sendable {
    /// A text.
    case string(String)
    /// A whole number in the declared range.
    case integer(Int64)
    /// A truth value.
    case boolean(Bool)
    /// A duration in the declared range.
    case duration(Duration)
    /// A compiled condition.
    case condition(any Condition)
}

/// What an operator wrote for one node, parsed, checked and completed with defaults.
///
/// Asking for an attribute that the descriptor does not declare, or declares with another type, is a mistake in the node
/// and stops the process.
public struct Configuration: Sendable {
    private let values: [String: ConfigurationValue]

    /// Makes a configuration of checked values, as the chain checker does.
    public init(_ values: [String: ConfigurationValue]) { self.values = values }

    /// The text of an attribute that is required or has a default.
    public func string(_ name: String) -> String {
        guard let value = self.stringIfPresent(name) else { Self.misuse(name, "a text") }
        return value
    }

    /// The text of an optional attribute.
    public func stringIfPresent(_ name: String) -> String? {
        guard let value = self.values[name] else { return nil }
        guard case .string(let value) = value else { Self.misuse(name, "a text") }
        return value
    }

    /// The number of an attribute that is required or has a default.
    public func integer(_ name: String) -> Int64 {
        guard let value = self.integerIfPresent(name) else { Self.misuse(name, "an integer") }
        return value
    }

    /// The number of an optional attribute.
    public func integerIfPresent(_ name: String) -> Int64? {
        guard let value = self.values[name] else { return nil }
        guard case .integer(let value) = value else { Self.misuse(name, "an integer") }
        return value
    }

    /// The truth value of an attribute.
    public func boolean(_ name: String) -> Bool {
        guard case .boolean(let value) = self.values[name] else { Self.misuse(name, "a truth value") }
        return value
    }

    /// The duration of an attribute that is required or has a default.
    public func duration(_ name: String) -> Duration {
        guard let value = self.durationIfPresent(name) else { Self.misuse(name, "a duration") }
        return value
    }

    /// The duration of an optional attribute.
    public func durationIfPresent(_ name: String) -> Duration? {
        guard let value = self.values[name] else { return nil }
        guard case .duration(let value) = value else { Self.misuse(name, "a duration") }
        return value
    }

    /// The condition of a required attribute.
    public func condition(_ name: String) -> any Condition {
        guard case .condition(let value) = self.values[name] else { Self.misuse(name, "a condition") }
        return value
    }

    private static func misuse(_ name: String, _ kind: String) -> Never {
        preconditionFailure("the descriptor does not promise \(kind) named '\(name)'")
    }
}

extension AttributeDescriptor {
    /// Parses the text of an attribute.
    ///
    /// Conditions are the chain checker's business and are not parsed here.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` or `out-of-range` and a sentence that says what is allowed.
    public func parse(_ text: String) throws(NodeError) -> ConfigurationValue {
        switch self.kind {
        case .string(let values):
            if let values, !values.contains(text) {
                throw NodeError("bad-value", "'\(text)' is none of \(values.joined(separator: ", "))")
            }
            return .string(text)
        case .integer(let range):
            return .integer(try self.integer(text, in: range))
        case .boolean:
            guard let value = Bool(text) else { throw NodeError("bad-value", "'\(text)' is neither true nor false") }
            return .boolean(value)
        case .duration(let unit, let range):
            let value = try self.integer(text, in: range)
            return .duration(unit == .seconds ? .seconds(value) : .milliseconds(value))
        case .condition:
            return .string(text)
        }
    }

    private func integer(_ text: String, in range: ClosedRange<Int64>) throws(NodeError) -> Int64 {
        let unit = self.unit.map { " \($0)" } ?? ""
        guard let value = Int64(text) else { throw NodeError("bad-value", "'\(text)' is not a whole number") }
        guard range.contains(value) else {
            throw NodeError("out-of-range", "\(value)\(unit) is outside \(range.lowerBound)…\(range.upperBound)\(unit)")
        }
        return value
    }
}
