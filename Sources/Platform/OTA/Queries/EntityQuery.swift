public import NodeKit

/// A question for devices by what they are and by what was last said about them, in the terms of ThingsBoard's entity queries.
public struct EntityQuery: Sendable {
    /// The most keys that a query names in its filters and its order together, and the most that it wants answered.
    ///
    /// Each is a table in a join, of which SQLite allows 64 (sqlite.org/limits.html §4).
    public static let keysMax = 48
    /// The most predicates of all filters together.
    public static let predicatesMax = 256
    /// How deep predicates may be nested.
    public static let depthMax = 8
    /// The most devices that a query names one by one, and the most texts of one list.
    public static let listMax = 1000

    /// Whose devices.
    public var tenantId: TenantId
    /// Which devices come into question.
    public var filter: EntityFilter
    /// What their values must fulfil.
    public var keyFilters: [EntityKeyFilter]
    /// Whether one of the filters is enough, or all must be fulfilled.
    public var isAnyFilterEnough: Bool
    /// Text that one of the answered values must contain, compared without case.
    public var textSearch: String?
    /// What to sort by; `nil` for the order of creation.
    public var sortKey: EntityKey?
    /// Whether to sort upward.
    public var ascending: Bool
    /// The most entries on a page.
    public var pageSize: Int
    /// Zero-based number of the page.
    public var page: Int
    /// The values to answer with each device.
    public var answered: [EntityKey]

    /// Makes a query for the first page.
    public init(
        tenantId: TenantId = .main,
        filter: EntityFilter,
        keyFilters: [EntityKeyFilter] = [],
        isAnyFilterEnough: Bool = false,
        textSearch: String? = nil,
        sortKey: EntityKey? = nil,
        ascending: Bool = true,
        pageSize: Int = 10,
        page: Int = 0,
        answered: [EntityKey] = []
    ) {
        self.tenantId = tenantId
        self.filter = filter
        self.keyFilters = keyFilters
        self.isAnyFilterEnough = isAnyFilterEnough
        self.textSearch = textSearch
        self.sortKey = sortKey
        self.ascending = ascending
        self.pageSize = pageSize
        self.page = page
        self.answered = answered
    }
}

extension EntityQuery {
    /// The values to answer, each once.
    public var answeredOnce: [EntityKey] {
        var keys: [EntityKey] = []
        for key in self.answered where !keys.contains(key) { keys.append(key) }
        return keys
    }

    /// The values that a text is searched in: those that are answered, as in ThingsBoard, or the name if none are.
    public var searched: [EntityKey] {
        let keys = self.answeredOnce
        return keys.isEmpty ? [EntityKey(.entityField, EntityKey.Field.name.rawValue)] : keys
    }

    /// The part of the list that the answer has.
    public var link: PageLink { PageLink(pageSize: self.pageSize, page: self.page) }
}

/// Which devices come into question.
public enum EntityFilter: Sendable, Hashable {
    /// None: the question is for entities that Windlass does not have.
    case none
    /// All of the tenant.
    case all
    /// Those with these identifiers.
    case devices([DeviceId])
    /// Those whose name is like this.
    case named(NamePattern)
    /// Those whose profile has one of these names, and whose name is like this if it matters.
    case types([String], NamePattern?)
}

/// What the beginning of a name must be, compared without case; a `%` at its start or end stands for any text.
public struct NamePattern: Sendable, Hashable {
    /// The text with its `%`.
    public var text: String

    /// Makes a pattern.
    public init(_ text: String) { self.text = text }

    /// The text to look for without the `%` at its ends, and at which ends other text may be.
    ///
    /// A text without any `%` is a beginning, one with it says itself where it is open.
    public var parts: (startsOpen: Bool, text: String, endsOpen: Bool) {
        // By code points, as databases compare: with a mark that combines with it, `%` is another character.
        var inner = self.text.unicodeScalars[...]
        let startsOpen = inner.first == "%"
        let endsOpen = inner.last == "%" || !startsOpen
        if startsOpen { inner.removeFirst() }
        if inner.last == "%" { inner.removeLast() }
        return (startsOpen, String(inner), endsOpen)
    }
}

/// Names one value of a device.
public struct EntityKey: Sendable, Hashable {
    /// Where the value is kept, named as in ThingsBoard.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// An attribute of whichever scope was written last.
        case attribute = "ATTRIBUTE"
        /// An attribute that the device reported.
        case clientAttribute = "CLIENT_ATTRIBUTE"
        /// An attribute that the device sees.
        case sharedAttribute = "SHARED_ATTRIBUTE"
        /// An attribute that the device does not see.
        case serverAttribute = "SERVER_ATTRIBUTE"
        /// The newest value of a time series.
        case timeSeries = "TIME_SERIES"
        /// A member of the device itself.
        case entityField = "ENTITY_FIELD"
    }

    /// A member of a device that can be asked for; its raw value is the key's name.
    public enum Field: String, Sendable, Hashable, CaseIterable {
        /// The identifier as text.
        case id
        /// When it was created, in milliseconds.
        case createdTime
        /// Always `DEVICE`.
        case entityType
        /// Its name.
        case name
        /// The name of its profile.
        case type
        /// Its label; empty if it has none.
        case label
        /// What an administrator keeps with it, as JSON text; empty if there is nothing.
        case additionalInfo
    }

    /// Where the value is kept.
    public var kind: Kind
    /// The name of the value.
    @ExactText public var name: String

    /// Names a value.
    public init(_ kind: Kind, _ name: String) {
        self.kind = kind
        self.name = name
    }

    /// The member of the device, if this is a known one.
    public var field: Field? {
        guard self.kind == .entityField else { return nil }
        // ThingsBoard takes a device's name for its title too.
        return Field(rawValue: self.name == "title" ? "name" : self.name)
    }
}

/// What one value must fulfil.
public struct EntityKeyFilter: Sendable, Hashable {
    /// Which value.
    public var key: EntityKey
    /// What it must fulfil.
    public var predicate: EntityPredicate

    /// Makes a filter.
    public init(_ key: EntityKey, _ predicate: EntityPredicate) {
        self.key = key
        self.predicate = predicate
    }
}

/// A condition on one value; a value of another type than the condition's does not fulfil it.
///
/// A value that is not there fulfils a condition on texts as an empty text would if the text to compare with is empty, and no
/// other condition.
public indirect enum EntityPredicate: Sendable, Hashable {
    /// How texts are compared, named as in ThingsBoard.
    public enum TextOperation: String, Sendable, Hashable, CaseIterable {
        /// Is this text.
        case equal = "EQUAL"
        /// Is another text.
        case notEqual = "NOT_EQUAL"
        /// Begins with it.
        case startsWith = "STARTS_WITH"
        /// Ends with it.
        case endsWith = "ENDS_WITH"
        /// Has it somewhere.
        case contains = "CONTAINS"
        /// Has it nowhere.
        case notContains = "NOT_CONTAINS"
        /// Is one of several.
        case isIn = "IN"
        /// Is none of several.
        case notIn = "NOT_IN"
    }

    /// How numbers are compared, named as in ThingsBoard.
    public enum NumberOperation: String, Sendable, Hashable, CaseIterable {
        /// The same.
        case equal = "EQUAL"
        /// Not the same.
        case notEqual = "NOT_EQUAL"
        /// Greater.
        case greater = "GREATER"
        /// Less.
        case less = "LESS"
        /// Not less.
        case greaterOrEqual = "GREATER_OR_EQUAL"
        /// Not greater.
        case lessOrEqual = "LESS_OR_EQUAL"
    }

    /// A string compared with a text; ``TextOperation/isIn`` and ``TextOperation/notIn`` compare with several, all others with
    /// the first.
    case text(TextOperation, [String], ignoresCase: Bool)
    /// A number compared with a number, which is an integer or a decimal.
    case number(NumberOperation, JSON)
    /// A truth value that is this one, or is not.
    case truth(isEqual: Bool, Bool)
    /// All of them, and at least one.
    case all([EntityPredicate])
    /// One of them.
    case any([EntityPredicate])
}

/// A device that a query found.
public struct EntityRow: Sendable, Hashable {
    /// One of its values.
    public struct Value: Sendable, Hashable {
        /// When it was written; `nil` for a member of the device itself, which has no such time.
        public var timestamp: Timestamp?
        /// The value.
        public var value: JSON

        /// Makes a value.
        public init(timestamp: Timestamp?, value: JSON) {
            self.timestamp = timestamp
            self.value = value
        }
    }

    /// Which device.
    public var id: DeviceId
    /// The values that were asked for and are there.
    public var values: [EntityKey: Value]

    /// Makes a row.
    public init(id: DeviceId, values: [EntityKey: Value]) {
        self.id = id
        self.values = values
    }
}
