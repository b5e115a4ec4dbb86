/// All that is declared about a node type.
public struct NodeDescriptor: Sendable {
    /// The element's name in a chain file, within its plugin's namespace, such as `package-lookup`.
    public var type: String
    /// One sentence: what it does.
    public var summary: String
    /// The relations that messages leave by.
    public var relations: [RelationDescriptor]
    /// Whether a chain file may link relations of its own making.
    ///
    /// A message whose relation has no link then leaves by `Other`.
    public var hasOpenRelations: Bool
    /// The attributes that configure it.
    public var attributes: [AttributeDescriptor]
    /// The variables that it adds to a message, for conditions of the nodes after it.
    public var variables: [VariableDescriptor]
    /// Whether a message may come to it before all is stored that nodes before it began to store.
    ///
    /// Fine for a node that neither reads what is stored nor tells the outside of the message: what it writes itself comes after
    /// what was begun before. All others get a message once it is safe.
    public var overtakesWrites: Bool
    /// What the chain checker must know to tell whether messages come to where they are meant for.
    public var traits: Traits

    /// Declares a node type.
    public init(
        type: String,
        summary: String,
        relations: [RelationDescriptor],
        hasOpenRelations: Bool = false,
        attributes: [AttributeDescriptor] = [],
        variables: [VariableDescriptor] = [],
        overtakesWrites: Bool = false,
        traits: Traits = []
    ) {
        self.type = type
        self.summary = summary
        self.relations = relations
        self.hasOpenRelations = hasOpenRelations
        self.attributes = attributes
        self.variables = variables
        self.overtakesWrites = overtakesWrites
        self.traits = traits
    }

    /// The part of a node type in how messages wait and come to where they are meant for.
    public struct Traits: OptionSet, Sendable, Hashable {
        /// The bits.
        public let rawValue: UInt8
        /// Makes a set of bits.
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Messages wait here, stored, and start again from here when their time has come.
        ///
        /// A node behind it may say *later*, as
        /// this one knows when to try again.
        public static let isQueue = Self(rawValue: 1 << 0)
        /// The node may say *later* of a message.
        ///
        /// On every way to it there must be a queue, and no message may be copied after
        /// the last of them.
        public static let saysLater = Self(rawValue: 1 << 1)
        /// What starts here is meant for a device, which waits in vain if it ends before a node that delivers.
        public static let startsDelivery = Self(rawValue: 1 << 2)
        /// The node delivers what is meant for a device; messages may end here.
        public static let delivers = Self(rawValue: 1 << 3)
        /// The node has devices told again by way of one that starts what is meant for them, and so needs no link of its own.
        public static let resends = Self(rawValue: 1 << 4)
    }
}

/// A relation that messages leave a node by.
public struct RelationDescriptor: Sendable, Hashable {
    /// The label.
    public var relation: Relation
    /// When a message leaves by it.
    public var summary: String

    /// Declares a relation.
    public init(_ relation: Relation, _ summary: String) {
        self.relation = relation
        self.summary = summary
    }
}

/// A variable that conditions can use.
public struct VariableDescriptor: Sendable, Hashable {
    /// The name, without the dollar sign.
    public var name: String
    /// What it holds.
    public var summary: String

    /// Declares a variable.
    public init(_ name: String, _ summary: String) {
        self.name = name
        self.summary = summary
    }
}

/// An attribute that configures a node: its type, unit, range and default, each written once.
public struct AttributeDescriptor: Sendable {
    /// What an attribute's text means.
    public enum Kind: Sendable, Hashable {
        /// Any text, or one of a list.
        case string(oneOf: [String]?)
        /// A whole number in a range.
        case integer(ClosedRange<Int64>)
        /// `true` or `false`.
        case boolean
        /// A whole number of the unit in the attribute's name, in a range.
        case duration(unit: DurationUnit, ClosedRange<Int64>)
        /// An XPath 1.0 expression whose truth decides, with the message's values as variables.
        case condition
    }

    /// The units of durations.
    ///
    /// The attribute's name ends in the unit.
    public enum DurationUnit: String, Sendable {
        /// Thousandths of a second.
        case milliseconds
        /// Seconds.
        case seconds
    }

    /// The attribute's name in a chain file.
    public var name: String
    /// What its text means.
    public var kind: Kind
    /// The text that counts if the attribute is absent; `nil` if it must be there, unless ``isOptional``.
    public var defaultText: String?
    /// Whether it may be absent without a default.
    ///
    /// An empty text then counts as absent.
    public var isOptional: Bool
    /// The unit of a number, such as `bytes`, if it has one.
    public var unit: String?
    /// One sentence: what it decides.
    public var summary: String

    /// Declares a text.
    public static func string(
        _ name: String,
        default defaultText: String? = nil,
        optional: Bool = false,
        oneOf values: [String]? = nil,
        summary: String
    ) -> Self {
        Self(
            name: name,
            kind: .string(oneOf: values),
            defaultText: defaultText,
            isOptional: optional,
            unit: nil,
            summary: summary
        )
    }

    /// Declares a whole number.
    public static func integer(
        _ name: String,
        default defaultValue: Int64? = nil,
        in range: ClosedRange<Int64>,
        unit: String? = nil,
        optional: Bool = false,
        summary: String
    ) -> Self {
        Self(
            name: name,
            kind: .integer(range),
            defaultText: defaultValue.map { String($0) },
            isOptional: optional,
            unit: unit,
            summary: summary
        )
    }

    /// Declares a truth value.
    public static func boolean(_ name: String, default defaultValue: Bool? = nil, summary: String) -> Self {
        Self(
            name: name,
            kind: .boolean,
            defaultText: defaultValue.map { String($0) },
            isOptional: false,
            unit: nil,
            summary: summary
        )
    }

    /// Declares a duration, in the unit that its name ends in.
    public static func duration(
        _ name: String,
        _ unit: DurationUnit,
        default defaultValue: Int64? = nil,
        in range: ClosedRange<Int64>,
        optional: Bool = false,
        summary: String
    ) -> Self {
        precondition(name.hasSuffix(unit.rawValue), "the name of a duration ends in its unit")
        return Self(
            name: name,
            kind: .duration(unit: unit, range),
            defaultText: defaultValue.map { String($0) },
            isOptional: optional,
            unit: unit.rawValue,
            summary: summary
        )
    }

    /// Declares a condition.
    public static func condition(_ name: String, optional: Bool = false, summary: String) -> Self {
        Self(name: name, kind: .condition, defaultText: nil, isOptional: optional, unit: nil, summary: summary)
    }
}
