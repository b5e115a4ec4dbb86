/// A JSON value (RFC 8259) that keeps what device data needs kept: whether a number was an integer or a decimal, and the
/// order of members.
///
/// An integer that does not fit 64 bits becomes a string, as ThingsBoard stores it.
///
/// Names and strings are compared by their bytes; see ``ExactText``.
public enum JSON: Sendable, Hashable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number without fraction and exponent that fits 64 bits.
    case integer(Int64)
    /// A number with a fraction or an exponent; always finite.
    case double(Double)
    /// A string.
    case string(String)
    /// An array.
    case array([JSON])
    /// An object.
    case object(Object)

    /// The members of an object, in the order they were written.
    ///
    /// A repeated name keeps its place and takes the last value.
    public struct Object: Sendable {
        /// Name and value of each member; names are unique.
        public private(set) var members: [(name: String, value: JSON)] = []
        /// Where each member is; `nil` below ``indexedFrom``.
        ///
        /// Without it an object of n members would take n² comparisons to read, and a peer chooses n.
        private var places: [ExactText: Int]?
        private static let indexedFrom = 16
        /// The characters of decimals that are written otherwise than ``JSON/text`` has them; `nil` if there are none.
        private var spellings: [ExactText: String]?

        /// Makes an object without members.
        public init() {}

        /// Makes an object of the given members; of a repeated name the last value counts.
        public init(_ members: some Sequence<(String, JSON)>) {
            self.members.reserveCapacity(members.underestimatedCount)
            for (name, value) in members { self[name] = value }
        }

        /// Makes an object of the given members; of a repeated name the last value counts.
        ///
        /// Takes the array as it is if it has few members, each with a name of its own.
        public init(_ members: [(name: String, value: JSON)]) {
            let isUsable =
                members.count < Self.indexedFrom
                && members.indices.allSatisfy { index in
                    !members[..<index].contains { $0.name.exact == members[index].name.exact }
                }
            if isUsable {
                self.members = members
            } else {
                for (name, value) in members { self[name] = value }
            }
        }

        /// Makes an object of few members, whose names the caller knows to differ.
        package init(distinct members: [(name: String, value: JSON)]) {
            assert(members.count < Self.indexedFrom && Set(members.map(\.name.exact)).count == members.count)
            self.members = members
        }

        /// The value of the member with this name; setting `nil` removes it.
        public subscript(name: String) -> JSON? {
            get { self.place(of: name).map { self.members[$0].value } }
            set {
                if self.spellings != nil { self.spellings?[name.exact] = nil }
                switch (self.place(of: name), newValue) {
                case (let index?, let value?): self.members[index].value = value
                case (let index?, nil):
                    self.members.remove(at: index)
                    self.indexAll()
                case (nil, let value?):
                    let index = self.count
                    self.members.append((name, value))
                    if self.count > Self.indexedFrom {
                        self.places?[name.exact] = index
                    } else if self.count == Self.indexedFrom {
                        self.indexAll()
                    }
                case (nil, nil): break
                }
            }
        }

        /// The value of the member with this name as a text without quotes, with a number as its sender wrote it: `1.10` stays
        /// `1.10`, where ``JSON/text`` says `1.1`.
        ///
        /// For values that are names written without quotes, such as versions.
        public func text(of name: String) -> String? {
            guard let value = self[name] else { return nil }
            guard case .double = value, let spelling = self.spellings?[name.exact] else { return value.text }
            return spelling
        }

        /// Sets a member to a decimal that is written like this.
        mutating func set(_ name: String, to value: JSON, spelled text: String) {
            self[name] = value
            // Changed in place: a peer chooses how many there are.
            if self.spellings == nil { self.spellings = [:] }
            self.spellings?[name.exact] = text
        }

        /// The object without some members.
        func filtered(_ isIncluded: ((name: String, value: JSON)) -> Bool) -> Object {
            var object = Object(self.members.filter(isIncluded))
            object.spellings = self.spellings
            return object
        }

        private func place(of name: String) -> Int? {
            if let places { return places[name.exact] }
            // A closure would be given a copy of each member.
            for index in self.members.indices where self.members[index].name.exact == name.exact { return index }
            return nil
        }

        private mutating func indexAll() {
            guard self.count >= Self.indexedFrom else { return self.places = nil }
            self.places = Dictionary(uniqueKeysWithValues: self.members.enumerated().map { ($1.name.exact, $0) })
        }

        /// How many members there are.
        public var count: Int { self.members.count }
        /// Whether there is no member.
        public var isEmpty: Bool { self.members.isEmpty }
        /// The names of the members, in order.
        public var names: [String] { self.members.map(\.name) }
    }

    /// The member with this name, if this is an object that has it.
    public subscript(name: String) -> JSON? {
        guard case .object(let object) = self else { return nil }
        return object[name]
    }

    /// The text, if this is a string.
    public var string: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }

    /// The number, if this is an integer.
    public var integer: Int64? {
        guard case .integer(let value) = self else { return nil }
        return value
    }

    /// The number, if this is an integer or a decimal.
    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// The truth value, if this is one.
    public var bool: Bool? {
        guard case .bool(let value) = self else { return nil }
        return value
    }

    /// The elements, if this is an array.
    public var array: [JSON]? {
        guard case .array(let value) = self else { return nil }
        return value
    }

    /// The members, if this is an object.
    public var object: Object? {
        guard case .object(let value) = self else { return nil }
        return value
    }

    /// Whether this is `null`.
    public var isNull: Bool {
        guard case .null = self else { return false }
        return true
    }

    /// The value as a text without quotes.
    ///
    /// A string as it is, anything else as JSON. This is how a condition and ThingsBoard's REST API see it.
    public var text: String {
        switch self {
        case .string(let value): value
        default: self.description
        }
    }
}

extension JSON {
    /// Values are equal if they are of the same kind and equal in it; an integer never equals a decimal.
    public static func == (a: Self, b: Self) -> Bool {
        switch (a, b) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.integer(let a), .integer(let b)): a == b
        case (.double(let a), .double(let b)): a == b
        case (.string(let a), .string(let b)): a.exact == b.exact
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)): a == b
        default: false
        }
    }

    /// Hashes the kind and the value.
    public func hash(into hasher: inout Hasher) {
        switch self {
        case .null: hasher.combine(0)
        case .bool(let value): hasher.combine(value)
        case .integer(let value): hasher.combine(value)
        case .double(let value): hasher.combine(value)
        case .string(let value): hasher.combine(value.exact)
        case .array(let value): hasher.combine(value)
        case .object(let value): hasher.combine(value)
        }
    }
}

extension JSON.Object: Hashable {
    /// Objects are equal if they have the same members in any order.
    public static func == (a: Self, b: Self) -> Bool {
        a.count == b.count && a.members.allSatisfy { b[$0.name] == $0.value }
    }

    /// Hashes what does not depend on the order of members.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(self.members.reduce(0) { $0 ^ $1.name.exact.hashValue })
    }
}

extension JSON.Object: ExpressibleByDictionaryLiteral {
    /// Makes an object from a literal.
    public init(dictionaryLiteral elements: (String, JSON)...) { self.init(elements) }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral,
    ExpressibleByNilLiteral
{
    /// Makes a string.
    public init(stringLiteral value: String) { self = .string(value) }
    /// Makes an integer.
    public init(integerLiteral value: Int64) { self = .integer(value) }
    /// Makes a decimal.
    public init(floatLiteral value: Double) { self = .double(value) }
    /// Makes a truth value.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// Makes an array.
    public init(arrayLiteral elements: JSON...) { self = .array(elements) }
    /// Makes an object.
    public init(dictionaryLiteral elements: (String, JSON)...) { self = .object(Object(elements)) }
    /// Makes `null`.
    public init(nilLiteral: ()) { self = .null }
}

extension JSON: CustomStringConvertible {
    /// The value as JSON text without white space.
    public var description: String {
        var bytes: [UInt8] = []
        self.write(into: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}
