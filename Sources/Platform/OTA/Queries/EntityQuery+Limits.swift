public import NodeKit

extension EntityQuery {
    /// Checks that the query passes no limit and that devices have the fields it looks at.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` and which limit it passes.
    public func check() throws(NodeError) {
        var keys = Set(self.keyFilters.map(\.key))
        if let sortKey = self.sortKey { keys.insert(sortKey) }
        for key in keys where key.kind == .entityField && key.field == nil {
            let known = EntityKey.Field.allCases.map(\.rawValue).joined(separator: ", ")
            throw NodeError(.badRequest, "devices have no field '\(key.name)'; they have \(known)")
        }
        try Self.check(keys.count, max: Self.keysMax, "keys in filters and order")
        try Self.check(Set(self.answered).count, max: Self.keysMax, "values to answer")
        var predicates = 0
        for filter in self.keyFilters {
            guard filter.predicate.depth <= Self.depthMax else {
                throw NodeError(.badRequest, "predicates may be nested \(Self.depthMax) deep and no deeper")
            }
            predicates += filter.predicate.count
            try Self.check(filter.predicate.textsMax, max: Self.listMax, "texts in a list")
        }
        try Self.check(predicates, max: Self.predicatesMax, "predicates")
        switch self.filter {
        case .devices(let ids): try Self.check(ids.count, max: Self.listMax, "devices")
        case .types(let names, _): try Self.check(names.count, max: Self.listMax, "device types")
        case .none, .all, .named: break
        }
    }

    private static func check(_ count: Int, max: Int, _ what: String) throws(NodeError) {
        guard count <= max else { throw NodeError(.badRequest, "the query has \(count) \(what); \(max) are allowed") }
    }
}

extension EntityPredicate {
    /// How many conditions it is made of, itself among them.
    var count: Int { self.parts.reduce(1) { $0 + $1.count } }

    /// How deep it is nested; 1 if not at all.
    var depth: Int { 1 + (self.parts.map(\.depth).max() ?? 0) }

    /// The length of the longest list of texts in it.
    var textsMax: Int {
        if case .text(_, let texts, _) = self { return texts.count }
        return self.parts.map(\.textsMax).max() ?? 0
    }

    private var parts: [EntityPredicate] {
        switch self {
        case .all(let parts), .any(let parts): parts
        case .text, .number, .truth: []
        }
    }

    /// Whether a value that is not there never fulfils it.
    public var needsValue: Bool {
        switch self {
        case .text(let operation, let texts, _):
            guard texts.first?.isEmpty ?? true else { return true }
            return [.notEqual, .notContains, .isIn, .notIn].contains(operation)
        case .number, .truth: return true
        case .all(let parts): return parts.contains(where: \.needsValue)
        case .any(let parts): return parts.allSatisfy(\.needsValue)
        }
    }
}
